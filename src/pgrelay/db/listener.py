"""The LISTEN connection: wake-ups in, nothing else.

It never opens a transaction and reads its socket at all times, so that the server's notification queue never waits for
it. The connection proves itself every `proof_interval` seconds: a notification from another session must come. From
itself would prove nothing: a pooler in transaction mode accepts LISTEN, passes on what comes while a statement of this
very connection runs, and drops the rest, which no error would tell.
"""

import asyncio
import contextlib
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
        loop = asyncio.get_running_loop()
        connection = await self._open()
        descriptor = connection.fileno()
        try:
            cursor = await connection.execute("select current_setting('max_prepared_transactions')")
            row = await cursor.fetchone()
            prepared = "0" if row is None else row[0]
            own = f"{CHANNEL}_{secrets.token_hex(8)}"
            await connection.execute(f'listen {CHANNEL}; listen "{own}"'.encode())
            arrived = asyncio.Event()
            # psycopg's notifies() wakes up ten times a second, which costs an idle daemon more than all else
            loop.add_reader(descriptor, arrived.set)
            proven = False
            while True:
                await self._ring(own)
                if not await self._hear(connection, arrived, self._proof_timeout, own):
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
                await self._hear(connection, arrived, self._proof_interval)
        except psycopg.Error as error:
            raise translate(error) from error
        finally:
            loop.remove_reader(descriptor)
            await connection.close()

    async def _hear(
        self, connection: AsyncConnection, arrived: asyncio.Event, seconds: float, until: str | None = None
    ) -> bool:
        """Pass on what comes, for so many seconds or until something comes by the channel `until`: then True."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await arrived.wait()
                    arrived.clear()
                    if until in self._take(connection):
                        return True
        return False

    def _take(self, connection: AsyncConnection) -> set[str]:
        """Take what the socket holds, and pass it on; the channels it came by."""
        connection.pgconn.consume_input()
        channels = set()
        while (note := connection.pgconn.notifies()) is not None:
            channel = note.relname.decode()
            channels.add(channel)
            if channel == CHANNEL:
                self._on_note(note.extra.decode())
        return channels
