"""What the documentation takes from the code is what the code says now."""

from pathlib import Path

import psycopg
import pytest

from docs.blocks import DOCUMENTS
from docs.generated import DATABASE, PROGRAM, parts, renewed


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_generated_parts_of_a_document_are_up_to_date(path: Path, world: psycopg.Connection):
    text = path.read_text("utf-8")
    assert renewed(text, world) == text, "run: .venv/bin/python tests/docs/generated.py"


def test_every_generated_part_stands_in_one_document():
    found = [name for path in DOCUMENTS for name in parts(path.read_text("utf-8"))]
    assert sorted(found) == sorted([*PROGRAM, *DATABASE])
