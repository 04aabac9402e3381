"""The LISTEN connection: wake-ups in, nothing else.

It never opens a transaction and reads its socket at all times, so that the server's notification queue never waits for
it. The connection proves itself every `proof_interval` seconds: a notification from another session must come. From
itself would prove nothing: a pooler in transaction mode accepts LISTEN, passes on what comes while a statement of this
very connection runs, and drops the rest, which no error would tell.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

import psycopg
from psycopg import AsyncConnection

from pgrelay.db.connect import translate
from pgrelay.errors import PgrelayError

CHANNEL = "pgrelay"


class Listener:
    """Calls `on_note(payload)` for each notification, and `on_state(listening, why)` after each proof that changed it.

    `ring(channel)` has another session notify a channel. `run()` keeps a connection until cancelled, and connects anew
    `retry_in` seconds after a loss. What happened in between is not told: whoever hears `on_state(True, "")` looks.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[AsyncConnection]],
        *,
        ring: Callable[[str], Awaitable[None]],
        on_note: Callable[[str], None],
        on_state: Callable[[bool, str], None],
        proof_interval: float = 10.0,
        proof_timeout: float = 3.0,
        retry_in: float = 1.0,
    ) -> None:
        self._open = open_connection
        self._ring = ring
        self._on_note = on_note
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
            cursor = await connection.execute("select current_setting('max_prepared_transactions')")
            row = await cursor.fetchone()
            prepared = "0" if row is None else row[0]
            own = f"{CHANNEL}_{secrets.token_hex(8)}"
            await connection.execute(f'listen {CHANNEL}; listen "{own}"'.encode())
            proven = False
            while True:
                await self._ring(own)
                if not await self._proof(connection, own):
                    self._on_state(False, "a notification from another session did not arrive (a pooler?)")
                    proven = False
                elif not proven:
                    proven = True
                    if prepared == "0":
                        self._on_state(True, "")
                    else:
                        self._on_state(
                            False, f"max_prepared_transactions is {prepared}: captures do not notify"
                        )
                async for note in connection.notifies(timeout=self._proof_interval):
                    if note.channel == CHANNEL:
                        self._on_note(note.payload)
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            await connection.close()

    async def _proof(self, connection: AsyncConnection, own: str) -> bool:
        """Whether the notification that was asked for comes in time. Others may come with it in one packet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._proof_timeout
        proven = False
        while not proven and (left := deadline - loop.time()) > 0:
            # to its end, never left by break or return: the rest of the packet would be lost
            async for note in connection.notifies(timeout=left, stop_after=1):
                if note.channel == own:
                    proven = True
                else:
                    self._on_note(note.payload)
        return proven
