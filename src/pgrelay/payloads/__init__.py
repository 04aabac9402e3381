"""What is sent of an event to a webhook whose payload_format is not `standard`.

Pure. A payload is a function of the event and of the webhook's format and template alone: no clock, no random, so that
every attempt of a delivery, by whatever daemon, has the same bytes. What cannot be rendered is `Unrenderable`, whose
message is recorded; nothing of it is sent.

`standard` has no payload here: the event's body goes out as the bytes it is, never parsed.
"""

from collections.abc import Callable
from typing import NamedTuple

from pgrelay.delivery import Claim
from pgrelay.payloads.event import About, Unrenderable

__all__ = ["CONTENT_TYPE", "FORMATS", "About", "Payload", "Unrenderable", "payload", "problem"]

STANDARD = "standard"
#: All that a webhook may ask for.
FORMATS = (STANDARD, "cloudevents", "slack", "template")
CONTENT_TYPE = "application/json"


class Payload(NamedTuple):
    """How one webhook's bodies are made. `render` raises Unrenderable."""

    content_type: str
    render: Callable[[Claim], bytes]


def payload(about: About, payload_format: str, payload_template: str | None) -> Payload | None:
    """The payload of this format; None for `standard`. One that cannot work says so when it renders."""
    if payload_format == STANDARD:
        return None
    try:
        return _made(about, payload_format, payload_template)
    except Unrenderable as error:
        return Payload(CONTENT_TYPE, _refusing(error.message))


def problem(payload_format: str, payload_template: str | None) -> str | None:
    """What is wrong with a template, to be said when it is saved; None if nothing is, or it is not used."""
    if payload_template is None:
        return "it is needed where payload_format is template" if payload_format == "template" else None
    try:
        _made(About(0, "", ""), "template", payload_template)
    except Unrenderable as error:
        return error.message
    return None


def _made(about: About, payload_format: str, payload_template: str | None) -> Payload:
    # each is imported when a webhook asks for it: the template's parser costs memory
    match payload_format:
        case "cloudevents":
            from pgrelay.payloads import cloudevents

            return Payload(cloudevents.CONTENT_TYPE, cloudevents.render)
        case "slack":
            from pgrelay.payloads import slack

            return Payload(CONTENT_TYPE, lambda claim: slack.render(claim, about))
        case "template":
            from pgrelay.payloads.template import Template

            return Payload(CONTENT_TYPE, Template(payload_template or "", about).render)
    raise Unrenderable(f"this version of pgrelay knows no payload format {payload_format!r}")


def _refusing(message: str) -> Callable[[Claim], bytes]:
    def render(_: Claim) -> bytes:
        raise Unrenderable(message)

    return render
