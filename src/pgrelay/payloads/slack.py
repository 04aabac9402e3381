"""A message for Slack's incoming webhooks: what happened, and up to ten values of the event.

Data cannot ping anybody, and cannot make a link: the three characters that Slack reads as markup are escaped, text in
blocks is `verbatim` (nothing in it is turned into a link or a mention), and names of groups after an @ are broken by a
character without width, for other chats that take the same form. Sizes stay within Slack's limits: a header of 150
characters, fields of 2000, ten fields. `text` says it all once more, for notifications and for those other chats.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from pgrelay.delivery import Claim
from pgrelay.payloads.event import About, Exact, parsed, readable

_LONGEST_HEADER = 150
_LONGEST_NAME = 60
_LONGEST_VALUE = 300
_MOST_FIELDS = 10
_ELLIPSIS = "…"
_GROUPS = re.compile(r"@(?=channel|here|everyone|all\b)", re.IGNORECASE)
#: Control characters but line breaks, and those that change the direction of what follows.
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]|[\ud800-\udfff]")


def render(claim: Claim, about: About) -> bytes:
    """The message. Raises Unrenderable."""
    body = parsed(claim)
    body = body if isinstance(body, dict) else {}
    title, fields = _title(claim, body), list(_fields(body))[:_MOST_FIELDS]
    lines = [title, *(f"{name}: {value}" for name, value in fields)]
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _fit(title, _LONGEST_HEADER), "emoji": False},
        }
    ]
    if fields:
        blocks.append(
            {
                "type": "section",
                "fields": [_text(f"*{_escaped(name)}*\n{_escaped(value)}") for name, value in fields],
            }
        )
    blocks.append({"type": "context", "elements": [_text(_escaped(_foot(claim, about, body)))]})
    message = {
        "text": _escaped("\n".join(lines)),
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }
    return json.dumps(message, separators=(",", ":")).encode()


def _text(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _title(claim: Claim, body: dict[str, Any]) -> str:
    """callback.created → Callback created: 123"""
    if isinstance(body.get("message"), str) and body.get("test") is True:
        return _cut(body["message"], _LONGEST_HEADER)
    words = claim.event_type.replace(".", " ").replace("_", " ").strip().capitalize() or "Event"
    resource = readable(claim.resource_id)
    return _cut(f"{words}: {resource}" if resource else words, _LONGEST_HEADER)


def _fields(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Values of the event, those of its data itself before those of the objects within."""
    data = body.get("data")
    if not isinstance(data, dict):
        data = {"webhook": body["webhook_name"]} if body.get("webhook_name") else {}
    within = [value for value in data.values() if isinstance(value, dict)]
    for values in (data, *within):
        for name, value in values.items():
            said = _said(value)
            if said:
                yield _cut(_heading(name), _LONGEST_NAME), said


def _heading(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:] or "-"


def _said(value: Any) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Exact):
        return _cut(value.text, _LONGEST_VALUE)
    if isinstance(value, str | int):
        return _cut(str(value), _LONGEST_VALUE)
    return None  # null, and what is not a single value


def _foot(claim: Claim, about: About, body: dict[str, Any]) -> str:
    moment = body.get("timestamp")
    said = (
        moment[:19].replace("T", " ") + " UTC"
        if isinstance(moment, str) and moment.endswith("+00:00")
        else ""
    )
    return _cut(
        " · ".join(filter(None, (said, claim.event_type, claim.idempotency_key, about.webhook_name))), 900
    )


def _cut(text: str, longest: int) -> str:
    text = _UNSEEN.sub(" ", text[: longest * 2]) if text else text
    return text if len(text) <= longest else text[: longest - 1] + _ELLIPSIS


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _GROUPS.sub("@\u200b", text)


def _fit(text: str, longest: int) -> str:
    """Escaped, and still not longer: an escape is not cut in two."""
    escaped = _escaped(text)
    while len(escaped) > longest:
        text = text[: -max(2, (len(escaped) - longest) // 5)].rstrip(_ELLIPSIS) + _ELLIPSIS
        escaped = _escaped(text)
    return escaped
