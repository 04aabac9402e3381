"""An operator's connection: rows as dictionaries, one statement a verb, and errors that name the grant.

Keys are the column names of the schema, so that a table's heading, a JSON key and a column are one word. The verbs
stand in the admin_*.py files beside this one. Every statement runs as who connected: whom a verb is granted to is
decided in sql/grants.sql, not here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.rows import dict_row

from pgrelay.db.connect import connect, translate
from pgrelay.errors import NotPermitted, PgrelayError, Refused

Row = dict[str, Any]
T = TypeVar("T")

#: Each lock is waited for this long, ten times with a pause between: three seconds in all. Shorter than Postgres's
#: deadlock_timeout (1 s), so that it is we who give way and not the application's transaction.
LOCK_TIMEOUT = "200ms"
LOCK_TRIES = 10
LOCK_PAUSE = 0.1

#: What stands before names, see Admin.
EVERYTHING = "pgrelay."
ONLY_THE_TENANTS = "pgrelay.tenant_"


async def open_admin(
    dsn: str, *, application_name: str, connect_timeout: float, statement_timeout: float
) -> "Admin":
    """Raises DatabaseUnavailable or NotPermitted. Durations are seconds."""
    return Admin(
        await connect(
            dsn,
            application_name=application_name,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
        )
    )


class Admin:
    """One connection in autocommit mode.

    `schema` stands before the names of what is read and called: where it acts for a tenant (db/sessions.py), these are
    the views and verbs that keep to what is the tenant's, named as the others are with tenant_ before.
    """

    def __init__(self, connection: AsyncConnection, schema: str = EVERYTHING) -> None:
        self.connection = connection
        self.schema = schema

    @property
    def role(self) -> str:
        """Who connected."""
        return self.connection.info.user

    @property
    def database(self) -> str:
        return self.connection.info.dbname

    async def close(self) -> None:
        await self.connection.close()

    async def rows(self, query: str, *parameters: Any, **named: Any) -> list[Row]:
        """All rows of a query; parameters in order (%s) or by name (%(name)s)."""
        with self.translated():
            async with self.connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(query.encode(), named or parameters or None)
                return await cursor.fetchall() if cursor.description else []

    async def one(self, query: str, *parameters: Any, **named: Any) -> Row | None:
        """The first row of a query, None if there is none."""
        found = await self.rows(query, *parameters, **named)
        return found[0] if found else None

    async def value(self, query: str, *parameters: Any, **named: Any) -> Any:
        """The first column of the first row, None if there is none."""
        found = await self.one(query, *parameters, **named)
        return next(iter(found.values())) if found else None

    async def now(self) -> datetime:
        """The database's clock, by which everything recorded is to be read."""
        found: datetime = await self.value("select clock_timestamp()")
        return found

    @asynccontextmanager
    async def transaction(
        self, *, lock_timeout: str | None = None, read_only: bool = False
    ) -> AsyncIterator[None]:
        """One transaction; without statement timeout, because it is somebody's deliberate act."""
        with self.translated():
            async with self.connection.transaction(force_rollback=read_only):
                if read_only:
                    await self.connection.execute("set transaction read only")
                await self.connection.execute("set local statement_timeout = 0")
                if lock_timeout is not None:
                    await self.connection.execute(sql.SQL("set local lock_timeout = {}").format(lock_timeout))
                yield

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns, run in one transaction, anew as long as it lacks a lock. Raises LockRefused in the end.

        Asking briefly and again, never for long: whoever writes to a table queues behind a waiting lock for as long
        as it waits.
        """
        for left in reversed(range(LOCK_TRIES)):
            try:
                async with self.transaction(lock_timeout=LOCK_TIMEOUT):
                    return await work()
            except LockRefused:
                if not left:
                    raise
            await asyncio.sleep(LOCK_PAUSE)
        raise ValueError("LOCK_TRIES must be at least 1")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise our errors for psycopg's."""
        try:
            yield
        except psycopg.Error as error:
            raise self._ours(error) from error

    def _ours(self, error: psycopg.Error) -> PgrelayError:
        text = (error.diag.message_primary or str(error)).strip()
        if isinstance(error, errors.InsufficientPrivilege) and not error.diag.message_hint:
            return NotPermitted(
                f"{self.role}: {text}",
                f"As the owner of the schema: {grant_statement('pgrelay_admin', self.role)}",
            )
        if isinstance(error, errors.CheckViolation) and not error.diag.message_hint:
            constraint = error.diag.constraint_name
            return Refused((constraint or text).replace("_", " "), constraint=constraint)
        if isinstance(error, errors.QueryCanceled):
            return TookTooLong(
                f"it took too long: {text}", "Raise database.statement_timeout in the configuration."
            )
        if isinstance(error, errors.LockNotAvailable | errors.DeadlockDetected):
            return LockRefused(text, "Try again when the session that holds the lock is done; see pg_locks.")
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return Refused(text, "This server is a standby, or read only: point database.dsn at the primary.")
        return translate(error)


class LockRefused(Refused):
    """A lock was not had in time."""


class TookTooLong(Refused):
    """The statement timeout ended it."""


def grant_statement(group: str, role: str) -> str:
    """The GRANT that makes `role` a member of `group`."""
    return f"grant {quoted(group)} to {quoted(role)};"


def quoted(identifier: str) -> str:
    """An identifier as it is written in SQL."""
    plain = identifier.isascii() and identifier.isidentifier() and identifier == identifier.lower()
    return identifier if plain else '"' + identifier.replace('"', '""') + '"'
