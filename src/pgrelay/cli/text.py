"""How values read on a terminal: times relative to now, durations, counts, widths; and nothing that could drive it.

Pure. Durations are seconds. What receivers sent (bodies, header values, error texts) may hold escape sequences, so
everything shown passes `printable`.
"""

import unicodedata
from collections.abc import Iterable
from datetime import datetime

#: What stands for white space on one line.
_INSTEAD = {"\n": "⏎", "\t": " ", "\r": ""}
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


def count(number: int, one: str, many: str = "") -> str:
    """`1 delivery`, `1,204 deliveries`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def bytes_of(number: int) -> str:
    """`532 bytes`, `1.2 kB`, `48 MB`."""
    size, unit = float(number), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return count(number, "byte") if unit == "bytes" else f"{size:.3g} {unit}"


def listed(words: Iterable[str], most: int = 10, last: str = "and") -> str:
    """`a, b and c`; beyond `most`, how many more there are."""
    found = list(words)
    if len(found) > most:
        return f"{', '.join(found[:most])} and {len(found) - most} more"
    return f" {last} ".join(filter(None, [", ".join(found[:-1]), found[-1]])) if found else ""


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with control characters written out; line breaks and tabs stay if `lines`."""
    kept = "\n\t" if lines else ""
    if text.isprintable():
        return text
    return "".join(
        character if character in kept or character.isprintable() else _written(character)
        for character in text
    )


def _written(character: str) -> str:
    return _INSTEAD.get(character, repr(character)[1:-1])


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def indented(text: str, by: str = "  ") -> str:
    """Every line of `text` moved to the right."""
    return "\n".join(by + line if line else line for line in text.splitlines())
