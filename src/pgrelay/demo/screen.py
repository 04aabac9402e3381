"""How the demonstration looks: scenes, lines with a coloured word in front, small tables.

Colours are for terminals only; NO_COLOR and TERM=dumb are respected. On a terminal the lines that come by live
are cut to its width, because they are read as columns; what is meant to be copied never is. Every line is
flushed, so that it is seen when it happens, also through a pipe.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Self, TextIO

_STYLES = {
    "bold": "1",
    "dim": "2",
    "app": "36",
    "event": "35",
    "recv": "32",
    "retry": "33",
    "dead": "1;31",
    "kill": "1;31",
    "wrong": "1;31",
    "ok": "32",
    "shell": "1",
    "sql": "1",
    "daemon": "34",
    "server": "34",
}
_INDENT = "   "
_TAG_WIDTH = 7
_WIDEST = 100


class Screen:
    """Standard output, a line at a time."""

    def __init__(self, out: TextIO, *, color: bool = False, columns: int | None = None) -> None:
        self._out = out
        self._color = color
        #: None: not a terminal, lines may be as long as they are.
        self._columns = columns
        self._scenes = 0

    @classmethod
    def of_terminal(cls, *, color: bool | None = None) -> Self:
        """For the standard output of this process; whether there are colours is found out unless it is said."""
        terminal = sys.stdout.isatty()
        if color is None:
            color = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        columns = shutil.get_terminal_size().columns if terminal else None
        return cls(sys.stdout, color=color, columns=columns)

    def print(self, text: str = "", style: str = "") -> None:
        """One line as it is."""
        line = self._styled(text, style) if style else text
        encoding = self._out.encoding or "utf-8"
        self._out.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        self._out.flush()

    def scene(self, title: str, about: str) -> None:
        """The heading of the next scene, and why it matters."""
        self._scenes += 1
        self.print()
        self.print(f"{self._scenes:>2} {title}", "bold")
        width = min(self._columns or _WIDEST, _WIDEST) - len(_INDENT)
        for line in textwrap.wrap(" ".join(about.split()), width, break_on_hyphens=False):
            self.print(_INDENT + line, "dim")
        self.print()

    def line(self, tag: str, text: str, style: str = "") -> None:
        """Something that happened; the tag says who did it, and is coloured by its own style or another."""
        self.print(f"{_INDENT}{self._styled(tag.ljust(_TAG_WIDTH), style or tag)}{text}".rstrip())

    def column_line(self, tag: str, *cells: tuple[str, int], style: str = "") -> None:
        """The same, with cells of a given width (0: the rest) that line up from one such line to the next."""
        text = "".join(f"{cell:<{width}}" for cell, width in cells)
        room = None if self._columns is None else max(20, self._columns - len(_INDENT) - _TAG_WIDTH)
        if room is not None and len(text.rstrip()) > room:
            text = text[: room - 1] + "…"
        self.line(tag, text, style)

    def sql(self, *lines: str) -> None:
        """SQL that is run, or that can be."""
        first, *others = lines
        self.line("sql", first)
        for line in others:
            self.print(f"{_INDENT}{'':<{_TAG_WIDTH}}{line}")

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of a query under their columns' names; numbers to the right."""
        if not rows:
            return
        names = list(rows[0])
        cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
        widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
        left = [any(isinstance(row[name], str) for row in rows) for name in names]
        for number, line in enumerate([names, *cells]):
            padded = [
                cell.ljust(width) if is_left else cell.rjust(width)
                for cell, width, is_left in zip(line, widths, left, strict=True)
            ]
            self.print(_INDENT + " " * _TAG_WIDTH + "  ".join(padded).rstrip(), "" if number else "dim")

    def _styled(self, text: str, style: str) -> str:
        code = _STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._color and code else text
