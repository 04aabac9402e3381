"""The furnished installation of world.py: made once a session, a fresh copy for every example."""

from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql import factories

from docs.world import furnish


def furnish_template(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    """Furnish a template, as pytest-postgresql asks for it."""
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, autocommit=True) as connection:
        furnish(connection)


furnished = factories.postgresql_noproc(depends_on="application", dbname="furnished", load=[furnish_template])
furnished_copy = factories.postgresql("furnished")


@pytest.fixture
def world(furnished_copy: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to a copy; what it does is rolled back, for roles belong to the whole cluster."""
    yield furnished_copy
    furnished_copy.rollback()
