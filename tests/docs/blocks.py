"""The examples of the documentation: every fenced block, and where it stands.

Languages say what is done with a block. `sql` is run, and each of its queries must find something; `sh` of the README
is run, and `console` of docs/receivers.md; `yaml` is a whole configuration. In `sh` and `console` blocks every pgrelay
command is one that exists. Those of docs/verify are taken from files there, which are run. `text`, `json`, `ini` and
`mermaid` are only shown.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

#: Of the receivers in docs/verify.
VERIFYING = {"python", "javascript", "php", "ruby", "go", "java", "csharp", "bash"}
LANGUAGES = {"sql", "sh", "console", "yaml", "text", "json", "ini", "mermaid"} | VERIFYING

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)$")


class Block(NamedTuple):
    """One fenced block, without its fences and its indentation."""

    path: Path
    #: Of the opening fence, from 1.
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """All fenced blocks of a document, in order."""
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened, lines = (number, fence["language"], fence["indent"]), []
        elif opened is not None and fence:
            yield Block(path, opened[0], opened[1], "\n".join(lines) + "\n")
            opened = None
        elif opened is not None:
            lines.append(line.removeprefix(opened[2]))
    assert opened is None, f"{path}: the block of line {opened and opened[0]} has no end"


def blocks_of(*languages: str) -> list[Block]:
    """All blocks of all documents in these languages."""
    return [block for path in DOCUMENTS for block in blocks(path) if block.language in languages]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of blocks, with their numbers."""
    inside = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line
