"""KEY=VALUE of `pgrelay webhooks set`: which column each key is, and how its value is read.

Pure, but for a template, which may be in a file.
"""

from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from pgrelay.cli.parser import (
    UsageError,
    document,
    ordering,
    payload_format,
    places,
    positive,
    rate,
    seconds,
    wait_list,
)

_HEADER = "header."


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole_seconds(text: str) -> int:
    return round(seconds(text))


def _or_null(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """For what the configuration or nothing at all stands in, where the webhook itself says nothing."""
    return lambda text: None if text in ("", "none", "default") else read(text)


def _text(text: str) -> str:
    return text


def _text_or_null(text: str) -> str | None:
    return text or None


_READERS: dict[str, Callable[[str], Any]] = {
    "name": _text,
    "url": _text,
    "description": _text_or_null,
    "company_id": _text,
    "subscribed_events": _words,
    "timeout_seconds": _whole_seconds,
    "max_retry_attempts": positive,
    "retry_schedule": _or_null(wait_list),
    "max_concurrency": _or_null(places),
    "rate_limit_per_second": _or_null(rate),
    "ordering": ordering,
    "payload_format": payload_format,
    "payload_template": _or_null(document),
    "filter": _or_null(_text),
}
_SHORT = {
    "company": "company_id",
    "event": "subscribed_events",
    "events": "subscribed_events",
    "timeout": "timeout_seconds",
    "max_attempts": "max_retry_attempts",
    "schedule": "retry_schedule",
    "rate_limit": "rate_limit_per_second",
}


def read_options(options: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values by column, and custom headers by name (an empty value removes one). Raises UsageError."""
    values: dict[str, Any] = {}
    headers: dict[str, str] = {}
    for option in options:
        key, separator, text = option.partition("=")
        if not separator:
            raise UsageError(
                f"{option!r} is not KEY=VALUE", "For example timeout=5; see pgrelay webhooks set --help"
            )
        if key.startswith(_HEADER) and len(key) > len(_HEADER):
            headers[key.removeprefix(_HEADER)] = text
            continue
        column = _SHORT.get(key.replace("-", "_"), key)
        if column not in _READERS:
            near = get_close_matches(key, [*_READERS, *_SHORT, "header.NAME"], n=1, cutoff=0.5)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"a webhook has no option {key!r}{meant}", "See pgrelay webhooks set --help")
        try:
            read = _READERS[column](text)
            values[column] = values.get(column, []) + read if column == "subscribed_events" else read
        except ArgumentTypeError as fault:
            raise UsageError(f"{key}: {fault}", "See pgrelay webhooks set --help") from None
    return values, headers
