"""Connections to a database that may be served: opened, admitted, and waited for while there is none.

Every new connection is asked the same questions, for a failover may lead anywhere. What waiting cannot mend is raised:
a copy, an unknown schema, a missing privilege or key. A database that is away, or a standby, is waited for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from pgrelay.config.settings import DatabaseSettings
from pgrelay.db.connect import Connection, Link, connect, translated
from pgrelay.db.guard import (
    StandbyRefused,
    one,
    refuse_copy,
    refuse_public,
    refuse_sealed,
    refuse_standby,
    refuse_unknown_schema,
)
from pgrelay.errors import DatabaseUnavailable
from pgrelay.observation import DatabaseBack, DatabaseIsStandby, DatabaseLost, Observation

_FIRST_BACKOFF, _MAX_BACKOFF = 0.2, 5.0


class Contact:
    """`waiting(reason)` hears why nothing can be served yet, again and again, and an empty reason once it can."""

    def __init__(
        self,
        settings: DatabaseSettings,
        environment: str,
        key_ids: Collection[str],
        *,
        observe: Callable[[Observation], None],
        waiting: Callable[[str], None],
        stopping: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._key_ids = key_ids
        self._observe = observe
        self._waiting = waiting
        self._stopping = stopping

    async def open(self, purpose: str) -> Connection:
        """A connection that shows its purpose in pg_stat_activity; nothing is asked of it yet."""
        settings = self._settings
        dsn = settings.listen_dsn if purpose == "listen" and settings.listen_dsn is not None else settings.dsn
        return await connect(
            dsn,
            application_name=f"pgrelay {purpose}",
            connect_timeout=settings.connect_timeout,
            statement_timeout=settings.statement_timeout,
        )

    async def open_admitted(self, purpose: str) -> Connection:
        """One to a database that may be served."""
        connection = await self.open(purpose)
        try:
            with translated():
                await self._admit(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    @contextlib.asynccontextmanager
    async def link(self, purpose: str) -> AsyncIterator[Link]:
        """One that comes back by itself, and is asked anew each time."""
        link = Link(lambda: self.open(purpose), self._admit)
        try:
            yield link
        finally:
            await link.close()

    async def first(self, listen: str | None) -> str | None:
        """Wait until the database can be served: what its bodies are converted to. None when stopped meanwhile.

        `listen`: where it is to be served over HTTP.
        """
        encoding = None

        async def look() -> None:
            nonlocal encoding
            connection = await self.open_admitted("start")
            try:
                with translated():
                    if listen is not None:
                        await refuse_public(connection, listen)
                    row = await one(connection, "select getdatabaseencoding()")
                encoding = (
                    "SQL_ASCII" if row is not None and row[0] in ("SQL_ASCII", b"SQL_ASCII") else "UTF8"
                )
            finally:
                await connection.close()

        await self.until_possible(look)
        return None if self._stopping.is_set() else encoding

    async def until_possible(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Try until it works or the daemon is stopped; wait longer each time the database is away."""
        backoff, lost_at = _FIRST_BACKOFF, 0.0
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            try:
                await attempt()
                self._waiting("")
                if lost_at:
                    self._observe(DatabaseBack("start", loop.time() - lost_at))
                return
            except StandbyRefused:
                self._observe(DatabaseIsStandby(backoff))
                self._waiting("waiting: the server is a standby")
            except DatabaseUnavailable as error:
                self._observe(DatabaseLost("start", error.message, backoff))
                self._waiting(f"waiting for the database: {error.message}")
            lost_at = lost_at or loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._stopping.wait()
            backoff = min(backoff * 2, _MAX_BACKOFF)

    async def _admit(self, connection: Connection) -> None:
        await refuse_standby(connection)
        await refuse_unknown_schema(connection)
        await refuse_copy(connection, self._environment)
        await refuse_sealed(connection, self._key_ids)
