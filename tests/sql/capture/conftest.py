"""One database for all tests of captures, since copying one takes as long as ten of them; each test leaves it empty."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql
from pytest_postgresql.executors import NoopExecutor

from pgrelay.demo.cluster import Cluster
from support.database import Database, Role, new_role
from support.watched import CLEAR, Shop


@pytest.fixture(scope="session")
def captures(cluster: Cluster, application: NoopExecutor) -> Iterator[Database]:
    """A copy of the sample application's database."""
    names = sql.Identifier("captures"), sql.Identifier(application.template_dbname)
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template {}").format(*names))
    database = Database("captures", cluster)
    with database.connect() as connection:
        connection.execute(CLEAR.encode())
    yield database
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(names[0]))


@pytest.fixture
def shop(captures: Database) -> Iterator[Shop]:
    """An empty schema `shop`, nothing watched, nobody subscribed."""
    made = Shop(captures)
    yield made
    made.clear()


@pytest.fixture
def clerk(shop: Shop) -> Iterator[Callable[..., Role]]:
    """Makes ordinary roles in the shop's database: clerk(), clerk("bypassrls")."""
    with ExitStack() as made:
        yield lambda options="": made.enter_context(new_role(shop.database, "clerk", options))
