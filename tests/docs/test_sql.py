"""Every SQL example of the documentation does what it says: it runs, and what it looks for is found."""

from collections.abc import Iterator

import psycopg
import pytest

from docs.blocks import Block, blocks_of
from docs.world import furnish

EXAMPLES = blocks_of("sql")


@pytest.fixture(scope="module")
def furnished(application: object, executor: object) -> Iterator[psycopg.Connection]:
    """One database for all examples, each of which is rolled back."""
    from pytest_postgresql.janitor import DatabaseJanitor

    raise NotImplementedError(DatabaseJanitor)
