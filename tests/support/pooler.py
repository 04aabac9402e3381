"""A stand-in for a pooler in transaction mode: clients get statements through, and notifications only during one.

Every client has a server connection of its own here, so what a true pooler does beyond that (another server for the next
transaction) is not to be seen; that statements are not prepared by name, which would not survive it, can be asked.
"""

import asyncio
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

_HEAD = struct.Struct("!cI")
_LENGTH = struct.Struct("!I")


class Pooler:
    """Listens on a port of 127.0.0.1, and leads to another."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        #: Notifications that came while nothing ran.
        self.dropped = 0
        #: Statements that were prepared by name.
        self.prepared = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for client in list(self._clients):
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            async with asyncio.TaskGroup() as group:
                session = _Session(self)
                group.create_task(session.requests(client, to_server))
                group.create_task(session.answers(server, to_client))
        except* (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # asyncio's own callback would complain of a task that ends cancelled
        finally:
            self._clients.discard(task)
            for writer in (to_client, to_server):
                with suppress(RuntimeError):
                    writer.close()


class _Session:
    """One client's way to the server and back."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._busy = True

    async def requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        length = await client.readexactly(_LENGTH.size)  # the startup message has no type
        to_server.write(length + await client.readexactly(_LENGTH.unpack(length)[0] - _LENGTH.size))
        while True:
            kind, head, body = await _message(client)
            self._busy = True
            if kind == b"P" and not body.startswith(b"\0"):
                self._pooler.prepared += 1
            to_server.write(head + body)

    async def answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while True:
            kind, head, body = await _message(server)
            if kind == b"A" and not self._busy:
                self._pooler.dropped += 1
                continue
            if kind == b"K":  # the key for cancelling is the pooler's, not the server's
                body = struct.pack("!I", 2**31 - 1) + body[4:]
            if kind == b"Z":
                self._busy = body != b"I"
            to_client.write(head + body)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes, bytes]:
    """The type of the next message, its head and its body."""
    head = await reader.readexactly(_HEAD.size)
    kind, length = _HEAD.unpack(head)
    return kind, head, await reader.readexactly(length - _LENGTH.size)
