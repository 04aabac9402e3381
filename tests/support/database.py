"""One database of a test's own, on the cluster of its session, and the roles that come with it."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from pytest_postgresql.executors import NoopExecutor

import pgrelay
from pgrelay.demo.cluster import Cluster

#: Which server the tests run on: a major version, "system", or unset for the first one found.
VERSION = os.environ.get("PGRELAY_TEST_PG") or None

#: Where files need no disk (Linux), and how many free bytes there are plenty: a server of the tests fills up to 300 MB.
MEMORY = Path("/dev/shm")
PLENTY = 1 << 30

SAMPLE_APPLICATION = Path(pgrelay.__file__).with_name("demo") / "sample.sql"

_role_numbers = itertools.count(1)


class Role(NamedTuple):
    """An ordinary role that may log in to one database and has no privileges but PUBLIC's."""

    name: str
    dsn: str

    def connect(self, **settings: Any) -> psycopg.Connection:
        """A new connection as this role, autocommit unless told otherwise; the test closes it."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **settings})


class Database(NamedTuple):
    """A database that exists for one test."""

    name: str
    cluster: Cluster

    @property
    def dsn(self) -> str:
        """As superuser, by the socket."""
        return self.cluster.dsn(self.name)

    @property
    def tcp_dsn(self) -> str:
        """As superuser, by TCP: what a proxy can come between."""
        return self.cluster.dsn(self.name, tcp=True)

    def connect(self, **settings: Any) -> psycopg.Connection:
        """A new connection, autocommit unless told otherwise; the test closes it."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **settings})

    async def aconnect(self, **settings: Any) -> psycopg.AsyncConnection:
        """The same for asyncio."""
        return await psycopg.AsyncConnection.connect(self.dsn, **{"autocommit": True, **settings})


class Executor(NoopExecutor):
    """What pytest-postgresql needs to know of a cluster of ours, to copy databases on it."""

    #: Nothing but the server's own template stands behind the first template that is made.
    template_dbname = "template1"

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(host=cluster.host, port=cluster.port, user="postgres", options="", dbname="postgres")


def start_cluster(**settings: str) -> Cluster:
    """A throw-away cluster for one session; each pytest-xdist worker has its own."""
    return Cluster.start(
        in_memory(),
        tuned="throwaway",
        tcp=True,
        version=VERSION,
        settings={"max_connections": "200", "max_wal_size": "128MB", "timezone": "UTC", **settings},
    )


def in_memory() -> Path | None:
    """Where to put a server's files so that copying a database costs little; None for the usual place.

    A copy is 300 files, and making and removing those on ext4 takes more processor time than most tests do. Not
    where programs may not run: the server's own may have to be copied beside its files.
    """
    if not MEMORY.is_dir():
        return None
    room = os.statvfs(MEMORY)
    return MEMORY if room.f_bavail * room.f_frsize >= PLENTY and not room.f_flag & os.ST_NOEXEC else None


def install_pgrelay(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    """Load the schema into a template, the way `pgrelay migrate` does."""
    from pgrelay.db.migrations import migrate

    async def install() -> None:
        connection = await psycopg.AsyncConnection.connect(
            host=host, port=port, user=user, dbname=dbname, autocommit=True
        )
        async with connection:
            await migrate(connection)

    asyncio.run(install())


def install_application(cluster: Cluster) -> Database:
    """A new database with the sample application's tables beside the schema, for tests with a server of their own."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create database crm")
    install_pgrelay(host=cluster.host, port=cluster.port, user="postgres", dbname="crm")
    database = Database("crm", cluster)
    with database.connect() as connection:
        connection.execute(SAMPLE_APPLICATION.read_bytes())
    return database


@contextmanager
def connections_refused(database: Database) -> Iterator[None]:
    """Nobody may connect while the block lasts, and who was connected is not any more."""
    name = sql.Identifier(database.name)
    with psycopg.connect(database.cluster.dsn("postgres"), autocommit=True) as server:
        server.execute(sql.SQL("alter database {} allow_connections false").format(name))
        server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database.name]
        )
        try:
            yield
        finally:
            server.execute(sql.SQL("alter database {} allow_connections true").format(name))


@contextmanager
def new_role(database: Database, name: str, options: str) -> Iterator[Role]:
    """Make a role, numbered because roles belong to the whole cluster, and drop it with all it owns."""
    unique = f"{name}_{next(_role_numbers)}"
    identifier = sql.Identifier(unique)
    with database.connect() as superuser:
        superuser.execute(sql.SQL("create role {} login " + options).format(identifier))
    try:
        yield Role(unique, database.cluster.dsn(database.name, user=unique))
    finally:
        with database.connect() as superuser:
            superuser.execute(sql.SQL("drop owned by {} cascade").format(identifier))
            superuser.execute(sql.SQL("drop role {}").format(identifier))
