"""The furnished installation of world.py: made once a session, and as it was made for every example."""

from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from docs.world import furnish
from pgrelay.demo.cluster import Cluster


def furnish_template(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    """Furnish a template, as pytest-postgresql asks for it."""
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, autocommit=True) as connection:
        furnish(connection)


furnished = factories.postgresql_noproc(depends_on="application", dbname="furnished", load=[furnish_template])


@pytest.fixture
def world(furnished: NoopExecutor, cluster: Cluster) -> Iterator[psycopg.Connection]:
    """A connection to it; what it does is rolled back."""
    assert furnished.template_dbname is not None
    with psycopg.connect(cluster.dsn(furnished.template_dbname)) as connection:
        yield connection
        connection.rollback()
