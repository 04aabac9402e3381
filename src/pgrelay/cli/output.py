"""Where a command's words go: data to standard output, talk to standard error, and as JSON where that was asked for.

A list is one JSON array, an object a line, so that both `jq` and `grep` can read it; moments are ISO 8601 with
their offset. Colours and fitting to the width are for terminals only; NO_COLOR and TERM=dumb are respected.
"""

import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TextIO

from pgrelay.cli.text import cut, printable, width
from pgrelay.errors import Refused

Row = Mapping[str, Any]

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
#: Columns of a table that are made narrower on a small terminal keep this many characters.
_NARROWEST = 8
_GAP = "  "
#: For terminals that cannot show them, where ✓ and ✗ must not both become a question mark.
_PLAIN = str.maketrans({"✓": "+", "✗": "x", "→": ">", "←": "<", "…": "..."})


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: the row's key, and how its value is shown if not as it is."""

    key: str
    title: str = ""
    show: Callable[[Row], object] | None = None
    #: Style of the cell, by the row.
    style: Callable[[Row], str] | None = None
    right: bool = False

    def cell(self, row: Row) -> str:
        value = self.show(row) if self.show else row[self.key]
        return "" if value is None else printable(str(value))


class Output:
    """Standard output and error of one command."""

    def __init__(
        self,
        *,
        json: bool = False,
        color: bool = False,
        columns: int | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.json = json
        self.color = color
        #: None: not a terminal, as wide as it likes.
        self.columns = columns
        self.out = out or sys.stdout
        self.err = err or sys.stderr

    @classmethod
    def of_terminal(cls, environ: Mapping[str, str], *, json: bool, no_color: bool) -> "Output":
        """For the streams of this process."""
        terminal = sys.stdout.isatty()
        plain = no_color or bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        columns = shutil.get_terminal_size().columns if terminal else None
        return cls(json=json, color=terminal and not plain, columns=columns)

    def print(self, text: str = "") -> None:
        """A line of data, for people: silent when JSON was asked for."""
        if not self.json:
            self._write(self.out, text)

    def say(self, text: str = "") -> None:
        """A line of talk."""
        self.out.flush()
        self._write(self.err, text)

    def value(self, value: object) -> None:
        """A value as JSON, if that was asked for; lists an item a line."""
        if not self.json:
            return
        if isinstance(value, list | tuple):
            items = ",\n".join(as_json(item) for item in value)
            self._write(self.out, f"[\n{items}\n]" if items else "[]")
        else:
            self._write(self.out, as_json(value))

    def line(self, value: object) -> None:
        """One object of a stream, as JSON on a line of its own."""
        self._write(self.out, as_json(value))

    def flush(self) -> None:
        """Show what was printed so far, to a pipe too."""
        self.out.flush()

    def style(self, text: str, style: str) -> str:
        """`text` in a colour, where there are colours. `style` may be empty, or several words."""
        codes = ";".join(_STYLES[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m" if self.color and codes else text

    def table(self, rows: Sequence[Row], columns: Sequence[Column], *, empty: str = "") -> None:
        """The rows, as JSON with all their keys or as a table of these columns; `empty` is said for none."""
        if self.json:
            return self.value(list(rows))
        if not rows:
            return self.say(empty) if empty else None
        titles = [column.title or column.key for column in columns]
        cells = [[column.cell(row) for column in columns] for row in rows]
        widths = [max(map(width, texts)) for texts in zip(titles, *cells, strict=True)]
        self._narrow(widths, columns)
        self._write(self.out, self.style(_line(titles, widths, columns), "bold"))
        for row, texts in zip(rows, cells, strict=True):
            styles = [column.style(row) if column.style else "" for column in columns]
            self._write(self.out, _line(texts, widths, columns, [self._styler(style) for style in styles]))

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only if a person says so; Refused otherwise, and where nobody can be asked."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise Refused(
                f"{question} This needs a yes, and nobody is here to ask.", "Add --yes to go ahead."
            )
        self.err.write(f"{question} [y/N] ")
        self.err.flush()
        # asyncio's handler would note Ctrl-C, and wait with us for the answer
        noting = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            answer = sys.stdin.readline()
        finally:
            signal.signal(signal.SIGINT, noting)
        if answer.strip().lower() not in {"y", "yes"}:
            raise Refused("nothing was changed", "")

    def _narrow(self, widths: list[int], columns: Sequence[Column]) -> None:
        if self.columns is None:
            return
        flexible = [place for place, column in enumerate(columns) if not column.right]
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - self.columns
        while excess > 0 and flexible:
            widest = max(flexible, key=lambda place: widths[place])
            if widths[widest] <= _NARROWEST:
                return
            widths[widest] -= 1
            excess -= 1

    def _styler(self, style: str) -> Callable[[str], str]:
        return lambda text: self.style(text, style)

    def _write(self, stream: TextIO, text: str) -> None:
        encoding = stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
        stream.write(text + "\n")


def _line(
    texts: Sequence[str],
    widths: Sequence[int],
    columns: Sequence[Column],
    stylers: Sequence[Callable[[str], str]] | None = None,
) -> str:
    cells = []
    for place, (text, columns_wide) in enumerate(zip(texts, widths, strict=True)):
        shown = cut(text, columns_wide)
        space = " " * (columns_wide - width(shown))
        styled = stylers[place](shown) if stylers else shown
        cells.append(space + styled if columns[place].right else styled + space)
    return _GAP.join(cells).rstrip()


def as_json(value: object) -> str:
    """`value` on one line."""
    return json.dumps(value, default=_json_default, ensure_ascii=False)


def _json_default(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return float(value) if hasattr(value, "__float__") else str(value)
