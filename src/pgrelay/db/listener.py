"""The LISTEN connection: wake-ups in, nothing else.

It never opens a transaction and reads its socket at all times, so that the server's notification queue never waits for
it. The connection proves itself every `proof_interval` seconds: a notification to itself must come back. A pooler in
transaction mode accepts LISTEN and delivers nothing, which no error would tell.
"""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
from psycopg import AsyncConnection

from pgrelay.db.connect import translate
from pgrelay.errors import PgrelayError

CHANNEL = "pgrelay"


class Listener:
    """Calls `on_wake()` for each burst of notifications, and `on_state(listening, why)` when that changes.

    `run()` keeps a connection until cancelled: it reconnects `retry_in` seconds after a loss, and calls on_wake after
    every connect, because anything may have happened meanwhile.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        *,
        on_wake: Callable[[], None],
        on_state: Callable[[bool, str], None],
        proof_interval: float = 10.0,
        proof_timeout: float = 3.0,
        retry_in: float = 1.0,
    ) -> None:
        self._open = open_connection
        self._on_wake = on_wake
        self._on_state = on_state
        self._proof_interval = proof_interval
        self._proof_timeout = proof_timeout
        self._retry_in = retry_in

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except PgrelayError as error:
                self._on_state(False, error.message)
            await asyncio.sleep(self._retry_in)

    async def _listen(self) -> None:
        connection = await self._open()
        try:
            cursor = await connection.execute(
                "select current_setting('max_prepared_transactions'), pg_backend_pid()"
            )
            row = await cursor.fetchone()
            prepared, pid = row if row is not None else ("0", 0)
            own = f"{CHANNEL}_{pid}"
            await connection.execute(f'listen {CHANNEL}; listen "{own}"'.encode())
            proven = False
            while True:
                await connection.execute("select pg_notify(%s, '')", (own,))
                if not await self._proof(connection, own):
                    self._on_state(False, "a notification sent to itself did not come back (a pooler?)")
                    proven = False
                elif not proven:
                    proven = True
                    if prepared == "0":
                        self._on_state(True, "")
                    else:
                        self._on_state(
                            False, f"max_prepared_transactions is {prepared}: captures do not notify"
                        )
                self._on_wake()
                async for note in connection.notifies(timeout=self._proof_interval):
                    if note.channel == CHANNEL:
                        self._on_wake()
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            await connection.close()

    async def _proof(self, connection: AsyncConnection, own: str) -> bool:
        async for note in connection.notifies(timeout=self._proof_timeout):
            if note.channel == own:
                return True
            self._on_wake()
        return False
