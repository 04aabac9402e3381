"""Connections: how they are made, kept and lost, and what psycopg's errors mean to the rest of the program.

Every connection is in autocommit mode at READ COMMITTED: each verb is one statement, so no transaction and no snapshot
is ever held while something else is awaited. Dead networks are found by TCP keepalives and tcp_user_timeout, which
libpq applies below any statement (a query in flight is saved by the latter alone). Durations are seconds.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import AsyncConnection, errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgrelay.config.nearest import nearest
from pgrelay.errors import (
    ConfigError,
    DatabaseUnavailable,
    NotPermitted,
    PgrelayError,
    Refused,
    SchemaMismatch,
)

T = TypeVar("T")
#: For those who pass connections on without speaking to them.
Connection = AsyncConnection

#: libpq settings unless the DSN says otherwise: a silent peer is given up after about 20 s, a stuck send after 15 s.
_NETWORK_DEFAULTS: dict[str, str] = {
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
    "client_encoding": "UTF8",
}


def conninfo(dsn: str, *, application_name: str, connect_timeout: float) -> str:
    """The DSN with pgrelay's defaults for what it leaves open. Raises ConfigError when it cannot be read."""
    try:
        given = conninfo_to_dict(dsn)
        defaults = {
            **_NETWORK_DEFAULTS,
            "application_name": application_name,
            "connect_timeout": str(max(2, round(connect_timeout))),
        }
        return make_conninfo(dsn, **{key: value for key, value in defaults.items() if key not in given})
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"database.dsn cannot be read as a connection string{_misspelt(error)}",
            "Use postgresql://user@host:5432/name, or host=… dbname=… (see the PostgreSQL manual, 34.1.1).",
        ) from None


def _misspelt(error: psycopg.ProgrammingError) -> str:
    """Which option of a DSN was probably meant. Nothing else of libpq's message: it may quote a piece of a password."""
    wrong = re.search(r'invalid connection option "(\w+)"', str(error))
    known = [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()]
    meant = nearest(wrong[1], known) if wrong else None
    return f": {wrong[1]!r} is no option, did you mean {meant!r}?" if wrong and meant else ""


async def connect(
    dsn: str,
    *,
    application_name: str = "pgrelay",
    connect_timeout: float = 5.0,
    statement_timeout: float = 30.0,
) -> AsyncConnection:
    """An open connection, ready for verbs. Raises DatabaseUnavailable, NotPermitted, or ConfigError for the DSN."""
    info = conninfo(dsn, application_name=application_name, connect_timeout=connect_timeout)
    try:
        connection = await AsyncConnection.connect(info, autocommit=True)
        try:
            cursor = await connection.execute(
                sql.SQL(
                    "select pg_backend_pid(), set_config('statement_timeout', {}, false),"
                    " set_config('default_transaction_isolation', 'read committed', false),"
                    " set_config('timezone', 'UTC', false)"
                ).format(str(int(statement_timeout * 1000)))
            )
            row = await cursor.fetchone()
            if row is not None and row[0] != connection.info.backend_pid:
                # A pooler is in between: what is prepared in one session may be asked for in another.
                connection.prepare_threshold = None
        except BaseException:
            await connection.close()
            raise
    except psycopg.Error as error:
        raise translate(error) from error
    return connection


def translate(error: psycopg.Error) -> PgrelayError:
    """Our error for one of psycopg's: what it means here, and what to do about it."""
    text = (error.diag.message_primary or str(error)).strip()
    hint = error.diag.message_hint or ""
    state = error.sqlstate or ""
    if state.startswith("PGR"):
        if state == "PGR12":
            return NotPermitted(text, hint)
        return Refused(text, hint, constraint=error.diag.constraint_name)
    if isinstance(error, errors.InsufficientPrivilege):
        return NotPermitted(
            text, hint or "Grant the role pgrelay_daemon (or pgrelay_admin) to the role that connects."
        )
    if isinstance(
        error,
        errors.InvalidSchemaName | errors.UndefinedTable | errors.UndefinedFunction | errors.UndefinedColumn,
    ):
        return SchemaMismatch(
            f"the schema in the database does not fit this program: {text}", "Run pgrelay migrate."
        )
    if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
        return DatabaseUnavailable(text, "Check user and password of database.dsn, and pg_hba.conf.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return DatabaseUnavailable(
            text, "Check that Postgres runs and that database.dsn (or PGHOST …) is right."
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        # the primary was demoted under us, or a pooler led elsewhere: a new connection is looked at anew
        return DatabaseUnavailable(
            text, "Writing is not possible there; database.dsn must lead to the primary."
        )
    if state.startswith("XX"):
        return DatabaseUnavailable(text, hint or "This is a fault inside the server; its log says more.")
    return Refused(text, hint, constraint=error.diag.constraint_name)


@contextmanager
def translated() -> Iterator[None]:
    """Raise ours for psycopg's errors."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


class Link:
    """One connection that comes back: opened at first use, thrown away when it breaks, opened anew at the next use.

    One verb at a time. `on_connect` runs on every new connection before anything else, and may refuse it by raising.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        on_connect: Callable[[AsyncConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._open = open_connection
        self._on_connect = on_connect
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()

    async def run(self, verb: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What `verb` returns. Raises ours for psycopg's errors; DatabaseUnavailable also closes the connection."""
        async with self._turn:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._admitted()
                return await verb(self._connection)
            except psycopg.Error as error:
                ours = translate(error)
                if isinstance(ours, DatabaseUnavailable):
                    await self._drop()
                raise ours from error
            except asyncio.CancelledError:
                # the answer may still be on the wire: a connection in an unknown state is not used again
                await self._drop()
                raise

    async def _admitted(self) -> AsyncConnection:
        """A new connection that `on_connect` did not refuse."""
        connection = await self._open()
        try:
            if self._on_connect is not None:
                await self._on_connect(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Close the connection, if one is open."""
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
