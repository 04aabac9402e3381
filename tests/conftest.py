"""One Postgres a session, a template database installed once, a fresh copy of it for every test that asks.

Nothing here starts before a test asks for it, so tests/unit runs without Postgres. PGRELAY_TEST_PG chooses
the server.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import hypothesis
import psycopg
import pytest
from psycopg import sql
from pytest_postgresql import factories

from pgrelay.demo.cluster import Cluster
from support.database import (
    SAMPLE_APPLICATION,
    Database,
    Executor,
    Role,
    install_pgrelay,
    new_role,
    start_cluster,
)

# Machines that run tests are busy: how long one example takes says nothing.
hypothesis.settings.register_profile("pgrelay", deadline=None)
hypothesis.settings.load_profile("pgrelay")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow comes first: begun last, it would run alone while the other workers have nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in which languages the receivers of docs/verify were run, for nobody reads the reasons of skips."""
    found: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for outcome, languages in found.items():
        for report in terminalreporter.stats.get(outcome, []):
            file, _, test = report.nodeid.partition("::")
            if file.endswith("docs/test_receivers.py"):
                languages.add(test.partition("[")[2].removesuffix("]"))
    run, skipped = found["passed"] | found["failed"], found["skipped"]
    if run or skipped:
        terminalreporter.write_line(
            f"receivers of docs/verify run: {', '.join(sorted(run)) or 'none'}; "
            f"not on this machine: {', '.join(sorted(skipped)) or 'none'}"
        )


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The session's server: by socket without password, by TCP with `cluster.password`."""
    with start_cluster() as started:
        yield started


@pytest.fixture(scope="session")
def cluster_with_prepared() -> Iterator[Cluster]:
    """A second server, one that allows prepared transactions."""
    with start_cluster(max_prepared_transactions="20") as started:
        yield started


@pytest.fixture(scope="session")
def executor(cluster: Cluster) -> Executor:
    return Executor(cluster)


@pytest.fixture(scope="session")
def executor_with_prepared(cluster_with_prepared: Cluster) -> Executor:
    return Executor(cluster_with_prepared)


installed = factories.postgresql_noproc(depends_on="executor", dbname="pgrelay", load=[install_pgrelay])
installed_copy = factories.postgresql("installed")

installed_with_prepared = factories.postgresql_noproc(
    depends_on="executor_with_prepared", dbname="pgrelay", load=[install_pgrelay]
)
installed_with_prepared_copy = factories.postgresql("installed_with_prepared")

application = factories.postgresql_noproc(
    depends_on="installed", dbname="application", load=[SAMPLE_APPLICATION]
)
application_copy = factories.postgresql("application")

empty = factories.postgresql_noproc(depends_on="executor", dbname="empty", load=[])
empty_copy = factories.postgresql("empty")


def _taken_over(copy: psycopg.Connection, cluster: Cluster) -> Database:
    """Our own noun for a database that pytest-postgresql made; its connection is not needed."""
    name = copy.info.dbname
    copy.close()
    return Database(name, cluster)


@pytest.fixture
def database(installed_copy: psycopg.Connection, cluster: Cluster) -> Database:
    """A fresh database with the schema pgrelay."""
    return _taken_over(installed_copy, cluster)


@pytest.fixture
def database_with_prepared(
    installed_with_prepared_copy: psycopg.Connection, cluster_with_prepared: Cluster
) -> Iterator[Database]:
    """The same on the server that allows prepared transactions; none is left to keep the database in use."""
    database = _taken_over(installed_with_prepared_copy, cluster_with_prepared)
    yield database
    with database.connect() as connection:
        left = connection.execute("select gid from pg_prepared_xacts where database = current_database()")
        for (gid,) in left.fetchall():
            connection.execute(sql.SQL("rollback prepared {}").format(gid))


@pytest.fixture
def app(application_copy: psycopg.Connection, cluster: Cluster) -> Database:
    """A fresh database with the schema pgrelay beside the sample application's tables."""
    return _taken_over(application_copy, cluster)


@pytest.fixture
def empty_database(empty_copy: psycopg.Connection, cluster: Cluster) -> Database:
    """A fresh database with nothing in it, for what installs."""
    return _taken_over(empty_copy, cluster)


@pytest.fixture
def db(database: Database) -> Iterator[psycopg.Connection]:
    """An open autocommit connection to `database`."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
async def aconn(database: Database) -> AsyncIterator[psycopg.AsyncConnection]:
    """The same for asyncio."""
    async with await database.aconnect() as connection:
        yield connection


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., Role]]:
    """Makes ordinary roles in `database`: role(), role("clerk"), role("loader", "bypassrls")."""
    with ExitStack() as made:

        def make(name: str = "app", options: str = "") -> Role:
            return made.enter_context(new_role(database, name, options))

        yield make
