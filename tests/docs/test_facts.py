"""What the documentation says of the code without being generated from it: names, codes, links."""

import re
from pathlib import Path

import psycopg
import pytest

from docs.blocks import DOCUMENTS, LANGUAGES, ROOT, blocks_of, prose
from pgrelay.delivery import ErrorKind

SRC = ROOT / "src/pgrelay"
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)]+)\)")
_SQLSTATE = re.compile(r"\bPGR\d\d\b")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next heading of any rank."""
    return re.split(r"^#+ .*$", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]


def anchors(path: Path) -> set[str]:
    """Of the headings of a document, as GitHub makes them."""
    headings = [line.lstrip("# ") for _, line in prose(path) if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_sqlstate_that_the_sql_raises_is_explained_and_no_other():
    raised = {
        state
        for path in (ROOT / "sql").rglob("*.sql")
        for state in _SQLSTATE.findall(path.read_text("utf-8"))
    }
    explained = _SQLSTATE.findall(
        "\n".join(re.findall(r"^\| `(PGR..)`", section(text_of("docs/dba.md"), "Error codes"), re.M))
    )
    assert sorted(raised) == explained


def test_every_kind_of_failure_is_explained_and_no_other():
    explained = re.findall(
        r"^\| `(\w+)` \|", section(text_of("docs/dba.md"), "Kinds of failed attempts"), re.M
    )
    assert explained == [str(kind) for kind in ErrorKind]


def test_every_room_of_the_house_is_described():
    described = set(re.findall(r"^\*\*`(\w+)`\*\*", section(text_of("docs/architecture.md"), "Rooms"), re.M))
    rooms = {
        path.stem if path.is_file() else path.name
        for path in SRC.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert described == rooms - {"__init__", "__main__"}


def test_every_table_is_described(world: psycopg.Connection):
    rows = re.findall(r"^\| (`.*?) \|", section(text_of("docs/architecture.md"), "The data"), re.M)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    there = world.execute(
        "select relname::text from pg_class where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p') and not relispartition"
    )
    assert described == {name for (name,) in there}


def test_every_file_of_the_sources_that_is_named_is_there():
    named = {
        name
        for path in DOCUMENTS
        for _, line in prose(path)
        for name in re.findall(
            r"`((?:src|sql|tests|contrib|config|db|transport|docs)/[\w./-]+\.(?:py|sql|md|service))`", line
        )
    }
    missing = [name for name in named if not any((root / name).exists() for root in (ROOT, SRC))]
    assert sorted(missing) == ["sql/delivery/skip_delivery.sql"], (
        "the example of CONTRIBUTING.md is the only one"
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_are_there(path: Path):
    text = "\n".join(line for _, line in prose(path))
    broken = []
    for target in (found["target"] for found in _LINK.finditer(text)):
        name, _, anchor = target.partition("#")
        there = path.parent / name if name else path
        if not target.startswith("https://") and (
            not there.exists() or (anchor and anchor not in anchors(there))
        ):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_lines_of_prose_are_at_most_120_characters_long(path: Path):
    assert [number for number, line in prose(path) if len(line) > 120 and not line.startswith("|")] == []


def test_every_block_names_a_language_that_says_what_becomes_of_it():
    assert {block.language for block in blocks_of(*LANGUAGES, "")} <= LANGUAGES
    assert [block.place for block in blocks_of("")] == []


def test_shell_blocks_that_are_run_stand_in_the_readme_alone():
    assert {block.path.name for block in blocks_of("sh")} == {"README.md"}
