"""How values read on a terminal: counts, sizes, lists, widths; and nothing that could drive it.

Pure. What receivers sent (bodies, header values, error texts) may hold escape sequences, so
everything shown passes `printable`.
"""

import unicodedata
from collections.abc import Iterable

#: What stands for white space on one line.
_INSTEAD = {"\n": "⏎", "\t": " ", "\r": ""}


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
