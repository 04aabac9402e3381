"""How durations and moments read: 3 min 20 s, in 41 s. Pure; durations are seconds."""

from datetime import datetime

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """The two largest units that matter: 40 ms, 41 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    seconds = abs(seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    left = round(seconds)
    for place, (unit, size) in enumerate(_UNITS[:-1]):
        if left >= size:
            smaller, smaller_size = _UNITS[place + 1]
            rest = left % size // smaller_size
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def relative(moment: datetime | None, now: datetime, never: str = "never") -> str:
    """`41 s ago`, `in 3 min`, `now` for less than a second; `never` for no moment at all."""
    if moment is None:
        return never
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(seconds)} ago"
