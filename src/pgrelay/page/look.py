"""How values look on the page, and the templates, all of whose values are escaped."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pgrelay import __version__
from pgrelay.page import chart

_HERE = Path(__file__).parent
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
#: What each says, and how it is marked; never by colour alone.
_TONES = {
    **dict.fromkeys(("healthy", "succeeded", "done", "ok", "accepted"), "good"),
    **dict.fromkeys(
        ("failing", "held", "paused", "expired", "cancelled", "inactive", "stopped", "warning"), "warn"
    ),
    **dict.fromkeys(("circuit open", "disabled", "failed", "error", "not accepted"), "bad"),
}
STATIC = {
    "page.css": ("text/css", (_HERE / "static/page.css").read_bytes()),
    "page.js": ("text/javascript; charset=utf-8", (_HERE / "static/page.js").read_bytes()),
    "icon.svg": ("image/svg+xml", (_HERE / "static/icon.svg").read_bytes()),
}
_STAMP = hashlib.sha256(b"".join(content for _, content in STATIC.values())).hexdigest()[:12]


def templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "ago": ago,
        "at": at,
        "count": count,
        "pretty": pretty,
        "tone": tone,
        "ms": milliseconds,
    }
    found.filters |= {"stopped": stopped, "why": why}
    found.filters |= {"sentence": sentence, "bytes": bytes_of, "span": span, "clock": clock}
    found.globals |= {"version": __version__, "stamp": _STAMP, "bars": chart.bars, "lines": chart.lines}
    return found


def ago(moment: datetime | None, now: datetime | None = None) -> Markup:
    """A moment from now, in words: 3 minutes ago, in 20 seconds; the moment itself to whoever points at it."""
    if moment is None:
        return Markup("never")
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    name, size = next(((name, size) for name, size in _UNITS if abs(seconds) >= size), ("", 1))
    number = int(abs(seconds) // size)
    words = f"{number} {name}{'' if number == 1 else 's'}"
    text = "now" if not number else f"{words} ago" if seconds > 0 else f"in {words}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.astimezone(UTC).isoformat(), _written(moment), text
    )


def at(moment: datetime | None) -> Markup:
    """The moment itself, in UTC."""
    if moment is None:
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(
        moment.astimezone(UTC).isoformat(), _written(moment)
    )


def clock(moment: datetime) -> str:
    """The time of day in UTC, to the millisecond."""
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}".replace(",", " ")


def milliseconds(number: int | None) -> str:
    if number is None:
        return "–"
    if number < 1:
        return "under 1 ms"
    return f"{number} ms" if number < 10_000 else f"{number / 1000:.1f} s"


def span(seconds: float) -> str:
    """A length of time in words, by its largest unit."""
    name, size = next(((name, size) for name, size in _UNITS if seconds >= size * 2), ("second", 1))
    number = max(1, round(seconds / size))
    return f"{number} {name}{'' if number == 1 else 's'}"


def bytes_of(number: int) -> str:
    size, unit = float(number), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def sentence(text: str) -> str:
    """What the API says, as the start of a sentence."""
    return text[:1].upper() + text[1:]


def stopped(text: str) -> str:
    """With a full stop at its end, whether it had one or not."""
    return text.rstrip(". ") + "."


def why(error: str) -> str:
    """A delivery's last error without its kind, where that says nothing: "status: HTTP 503 …"."""
    return error.removeprefix("status: ")


def pretty(value: Any) -> str:
    """JSON indented; a text that is none as it is."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
        return json.dumps(found, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return str(value)


def tone(state: str) -> str:
    return _TONES.get(state, "plain")


def html(environment: Environment, template: str, values: Mapping[str, Any]) -> str:
    return environment.get_template(template).render(values)
