"""Every SQL example does what it says: it runs, and what it looks for is found. Those of the README: test_tour.py."""

import psycopg
import pytest

from docs.blocks import ROOT, Block, blocks_of

EXAMPLES = [block for block in blocks_of("sql") if block.path != ROOT / "README.md"]
#: What the one value of a query is when it found or did nothing.
NOTHING = [[], [(False,)], [(0,)]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: block.place)
def test_an_sql_example_runs_and_does_or_finds_something(example: Block, world: psycopg.Connection):
    cursor = world.execute(example.text.encode())
    results = [cursor.fetchall() if cursor.description else None]
    while cursor.nextset():
        results.append(cursor.fetchall() if cursor.description else None)
    assert not [result for result in results if result in NOTHING]
