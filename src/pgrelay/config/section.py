"""Reading one mapping of the file: asks for keys by name, and reports whatever is wrong with them.

Every method returns what it found or None, and has reported the reason when it is wrong; the caller goes on,
so that one run tells everything.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias, TypeVar

from pgrelay.config.document import Findings, Node, Place, Scalar, Sequence, Table, cited, is_null
from pgrelay.config.nearest import nearest

#: Says what is wrong with a text, as the end of a sentence that begins with it; None if nothing is.
Check: TypeAlias = Callable[[str], str | None]

_Shape = TypeVar("_Shape", Scalar, Sequence, Table)
_NAMES: dict[type, str] = {Scalar: "a single value", Sequence: "a list", Table: "a mapping"}


def expect(node: Node | None, shape: type[_Shape], key: str, findings: Findings) -> _Shape | None:
    """`node` if it has that shape; None, reported, if it has another; None if there is none."""
    if node is None or isinstance(node, shape):
        return node
    findings.add(node.place, key, f"is {_NAMES[type(node)]}, and should be {_NAMES[shape]}")
    return None


def checked_text(scalar: Scalar, key: str, findings: Findings, check: Check | None) -> str | None:
    """The text without surrounding space, if it is one and `check` finds nothing wrong with it."""
    text = scalar.text.strip()
    problem = "is empty" if not text else check(text) if check else None
    if problem is None:
        return text
    findings.add(scalar.place, key, f"{cited(text)} {problem}" if text else problem)
    return None


class Section:
    """A mapping being read. Unknown keys are reported at once, other findings as values are asked for."""

    def __init__(
        self,
        table: Table,
        path: str,
        known: Collection[str],
        findings: Findings,
        elsewhere: Collection[str] = (),
    ) -> None:
        """`path` is dotted, empty for the file itself; `elsewhere` are dotted names known in other places."""
        self.table = table
        self.path = path
        self.findings = findings
        for name, entry in table.entries.items():
            if name not in known:
                self.findings.add(entry.place, self.key(name), f"unknown key{_hint(name, known, elsewhere)}")

    def __contains__(self, name: str) -> bool:
        return name in self.table.entries

    def key(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def place(self, name: str) -> Place:
        """Where the value stands; the key, if it has no value; the mapping, if there is no such key."""
        entry = self.table.entries.get(name)
        if entry is None:
            return self.table.place
        return entry.place if is_null(entry.value) else entry.value.place

    def wrong(self, name: str, problem: str) -> None:
        self.findings.add(self.place(name), self.key(name), problem)

    def require(self, name: str, problem: str) -> None:
        if name not in self:
            self.findings.add(self.table.place, self.key(name), f"is missing: {problem}")

    def node(self, name: str) -> Node | None:
        """The value, or None where there is none; a key without a value is reported."""
        entry = self.table.entries.get(name)
        if entry is None:
            return None
        if is_null(entry.value):
            self.wrong(name, "has no value; give it one, or remove the line")
            return None
        return entry.value

    def scalar(self, name: str) -> Scalar | None:
        return expect(self.node(name), Scalar, self.key(name), self.findings)

    def table_of(self, name: str) -> Table | None:
        return expect(self.node(name), Table, self.key(name), self.findings)

    def text(self, name: str, check: Check | None = None) -> str | None:
        """The text without surrounding space; None where there is none, or it is wrong."""
        scalar = self.scalar(name)
        return None if scalar is None else checked_text(scalar, self.key(name), self.findings, check)

    def scalars(self, name: str, at_least: int = 0) -> tuple[Scalar, ...] | None:
        """The values of a list; one value without brackets is a list of one."""
        node = self.node(name)
        if isinstance(node, Scalar):
            return (node,)
        sequence = expect(node, Sequence, self.key(name), self.findings)
        if sequence is None:
            return None
        if len(sequence.items) < at_least:
            self.wrong(name, "is an empty list; name something, or remove the line")
        found = []
        for number, item in enumerate(sequence.items):
            key = f"{self.key(name)}[{number}]"
            if is_null(item):
                self.findings.add(item.place, key, "has no value")
                continue
            scalar = expect(item, Scalar, key, self.findings)
            if scalar is not None:
                found.append(scalar)
        return tuple(found)

    def texts(self, name: str, check: Check | None = None) -> tuple[str, ...]:
        """The texts of a list, which may not be empty nor repeat itself."""
        found: list[str] = []
        for scalar in self.scalars(name, at_least=1) or ():
            text = checked_text(scalar, self.key(name), self.findings, check)
            if text in found:
                self.findings.add(scalar.place, self.key(name), f"{cited(text)} stands here twice")
            elif text is not None:
                found.append(text)
        return tuple(found)


def _hint(name: str, known: Collection[str], elsewhere: Collection[str]) -> str:
    if name in elsewhere:
        section, _, field = name.rpartition(".")
        return f"; write it as '{field}' under '{section}'"
    near = nearest(name, known)
    if near is not None:
        return f", did you mean '{near}'?"
    for dotted in elsewhere:
        if dotted.rpartition(".")[2] == name:
            return f", did you mean '{dotted}'?"
    return f"; known here: {', '.join(known)}"
