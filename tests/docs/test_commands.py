"""Every pgrelay command in the documentation is one that exists, with options that exist."""

import re
import shlex
from collections.abc import Iterator

import pytest

from docs.blocks import DOCUMENTS, blocks_of, prose
from pgrelay.cli.arguments import build_parser

_COMMAND = re.compile(r"(?:\S*/)?pgrelay\s+(?P<words>.*)")
_INLINE = re.compile(r"`pgrelay (?P<words>[^`]+)`")


def in_blocks() -> Iterator[tuple[str, str]]:
    """(place, arguments) of each command line of a shell block; prompts, comments and continuations taken care of."""
    for block in blocks_of("sh", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", re.sub(r"^[$#] ", "", line)):
                found = _COMMAND.fullmatch(part.strip())
                if found:
                    yield block.place, found["words"]


def in_prose() -> Iterator[tuple[str, str]]:
    """(place, arguments) of each `pgrelay …` within a sentence."""
    for path in DOCUMENTS:
        text = "\n".join(line for _, line in prose(path))
        for found in _INLINE.finditer(text):
            yield path.name, " ".join(found["words"].split())


def complaint(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the parser says against a command line; nothing if it is fine."""
    try:
        build_parser().parse_args(shlex.split(words, comments=True))
    except SystemExit as ended:
        return "" if ended.code == 0 else capsys.readouterr().err
    return ""


@pytest.mark.parametrize(("place", "words"), sorted({*in_blocks()}))
def test_a_command_line_is_understood(place: str, words: str, capsys: pytest.CaptureFixture[str]):
    assert complaint(words, capsys) == ""


@pytest.mark.parametrize(("place", "words"), sorted({*in_prose()}))
def test_a_command_that_is_spoken_of_exists(place: str, words: str, capsys: pytest.CaptureFixture[str]):
    """Options and all; a sentence may leave out what is required."""
    found = complaint(words, capsys)
    assert found == "" or "required" in found
