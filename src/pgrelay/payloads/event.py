"""An event as the formats read it: the body parsed without loss, and a limit on how much is parsed at all.

Numbers keep the digits that Postgres wrote: 0.10 stays 0.10, and numerics keep more digits than a float holds.
"""

import json
from typing import Any, NamedTuple

from pgrelay.delivery import Claim

#: Bytes of an event's body that are parsed: about 15 ms of the event loop.
MAX_EVENT = 1_048_576
#: Digits up to which an int is one; longer ones are kept as text.
_EXACT_DIGITS = 18


class Unrenderable(Exception):
    """The body to send cannot be made. `message` is for people, and recorded with the attempt."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class About(NamedTuple):
    """What a payload may say of the webhook that it goes to."""

    webhook_id: int
    webhook_name: str
    company_id: str


class Exact(float):
    """A number that is written again as it was read. Compares as a float."""

    text: str

    def __new__(cls, text: str) -> "Exact":
        made = super().__new__(cls, text)
        made.text = text
        return made


def _integer(text: str) -> int | Exact:
    return int(text) if len(text) <= _EXACT_DIGITS else Exact(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


def read_json(text: str | bytes) -> Any:
    """JSON, its numbers as they are written. ValueError, RecursionError."""
    return json.loads(text, parse_float=Exact, parse_int=_integer, parse_constant=_refuse_constant)


def parsed(claim: Claim) -> Any:
    """The event's body. Raises Unrenderable."""
    if len(claim.body) > MAX_EVENT:
        raise Unrenderable(
            f"the event's body has {len(claim.body):,} bytes, and formats other than standard and cloudevents"
            f" take at most {MAX_EVENT:,}"
        )
    try:
        return read_json(claim.body)
    except RecursionError:
        raise Unrenderable("the event's body is nested too deeply") from None
    except ValueError as error:
        raise Unrenderable(f"the event's body is no JSON: {type(error).__name__}") from None


def readable(value: bytes | None) -> str | None:
    """What the database says of an event, as text."""
    return None if value is None else value.decode("utf-8", "replace")
