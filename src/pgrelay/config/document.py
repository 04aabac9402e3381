"""A configuration file as it stands: values with their places, and the findings about them.

Knows nothing of YAML nor of any key. Scalars are the text that was written and whether it stood in quotes,
never an interpretation of it, so `on`, `12:30` and `010` are what they look like.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from pgrelay.errors import ConfigError

_NULLS = {"", "~", "null", "Null", "NULL"}
_CITED_LENGTH = 60


class Place(NamedTuple):
    """Where something stands: a file, line and column, both from 1; or only what it came from (line 0)."""

    origin: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.origin}:{self.line}:{self.column}" if self.line else self.origin


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    text: str
    quoted: bool

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    #: Where the key stands.
    place: Place
    value: "Node"


@dataclass(frozen=True, slots=True)
class Table:
    place: Place
    entries: Mapping[str, Entry]


Node: TypeAlias = Scalar | Sequence | Table


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null


def cited(text: str) -> str:
    """`text` as a message cites it: in quotes, and not all of it when it is long."""
    return f"'{text}'" if len(text) <= _CITED_LENGTH else f"'{text[:_CITED_LENGTH]}...'"


class Findings:
    """Everything wrong, collected, to be told at once."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, str]] = []

    def add(self, place: Place, key: str, problem: str) -> None:
        """`key` is dotted, or empty for the file itself; `problem` reads on from it."""
        line = f"{place}: {key}: {problem}" if key else f"{place}: {problem}"
        # One finding is one line, whatever was written in the file.
        self._found.append((place, " ".join(line.split())))

    def __len__(self) -> int:
        return len(self._found)

    def raise_if_any(self) -> None:
        if self._found:
            # Aliases can make one mistake be met twice.
            lines = dict.fromkeys(line for _, line in sorted(self._found, key=lambda found: found[0]))
            raise ConfigError("\n".join(lines))
