"""A webhook receiver made of raw sockets, for tests: it does what a script says, well or badly.

    async with Receiver() as receiver:
        receiver.on("/hook", in_turn(status(503), ok()))
        ...                                              # something sends to receiver.url("/hook")
        first, second = await receiver.wait_for(2, path="/hook")

Raw, because a web framework would mend what is meant to be broken, and would not tell which bytes came. What
is not scripted is answered with 200. Every request is kept as it was read from the wire.
"""

import asyncio
import ssl
import struct
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Seen:
    """One request, as it came."""

    method: str
    #: The request target exactly as sent: path and query.
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    #: All bytes of the head, from the request line to the empty line.
    head: bytes
    #: Which connection it came on; they count from 1.
    connection: int
    #: Seconds of the loop's clock.
    at: float

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The value of a header that came at most once."""
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Exchange:
    """A request and the means to answer it, which is all that a behaviour gets."""

    request: Seen
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    #: False ends the connection after this exchange.
    keep: bool = True

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """A complete answer, with its length."""
        lines = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(headers or {})}
        await self.write(head(status, lines) + body)

    async def until_the_sender_is_gone(self) -> None:
        while await self.reader.read(65_536):
            pass

    def reset(self) -> None:
        """Break the connection off with RST, so that the sender sees "connection reset"."""
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        self.keep = False


Behaviour = Callable[[Exchange], Awaitable[None]]


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers, as they go over the wire."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unheard Of"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ok(body: bytes = b"ok") -> Behaviour:
    return status(200, body)


def status(code: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(code, body, headers)

    return behave


def redirect(location: str, code: int = 302) -> Behaviour:
    return status(code, headers={"Location": location})


def slow(seconds: float, then: Behaviour | None = None) -> Behaviour:
    """Answers, but only after a while."""

    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await (then or ok())(exchange)

    return behave


def after(event: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """Answers when the event is set."""

    async def behave(exchange: Exchange) -> None:
        await event.wait()
        await (then or ok())(exchange)

    return behave


def hang(first: bytes = b"") -> Behaviour:
    """Takes the request, begins the answer at best, and never ends it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.write(first)
        await exchange.until_the_sender_is_gone()
        exchange.keep = False

    return behave


def reset() -> Behaviour:
    """Takes the request and resets the connection."""

    async def behave(exchange: Exchange) -> None:
        exchange.reset()

    return behave


def raw(data: bytes) -> Behaviour:
    """Writes these bytes, whatever they are, and closes the connection. None at all is a bare close."""

    async def behave(exchange: Exchange) -> None:
        exchange.keep = False
        await exchange.write(data)

    return behave


def drip(first: bytes = b"", piece: bytes = b"x", pause: float = 0.01) -> Behaviour:
    """Writes `first`, and then a piece every now and then, for ever."""

    async def behave(exchange: Exchange) -> None:
        await exchange.write(first)
        while True:
            await exchange.write(piece)
            await asyncio.sleep(pause)

    return behave


def endless_body(headers: Mapping[str, str] | None = None, piece: bytes = b"x" * 65_536) -> Behaviour:
    """A body that never ends, as fast as it is taken."""
    return drip(head(200, headers or {}), piece, pause=0.0)


def wrong_length(body: bytes = b"short", claimed: int = 100) -> Behaviour:
    """Announces a longer body than it sends before it closes the connection."""
    return raw(head(200, {"Content-Length": str(claimed)}) + body)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour for each request; the last one stays."""
    left = list(behaviours)

    async def behave(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return behave


@dataclass
class Receiver:
    """Listens on a free port of 127.0.0.1 while the `async with` lasts."""

    #: Serves https with this context.
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    #: Connections made so far, and open now.
    connections: int = 0
    open_connections: int = 0
    #: The most requests that were under way at the same time, by path.
    busiest: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._behaviours: dict[str, Behaviour] = {}
        self._otherwise = ok()
        self._busy: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, self.host, self.port, ssl=self.tls, backlog=1024, limit=16 * 1024 * 1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        # What the loop has accepted by now becomes a connection within a turn or two of it.
        for _ in range(3):
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:  # of tasks that were cancelled before they began
            # asyncio of Python 3.11.2 fails to abort TLS that was closed twice: that one is closed
            with suppress(AttributeError):
                writer.transport.abort()
        await self._server.wait_closed()

    def url(self, path: str = "/") -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{path}"

    def on(self, path: str, behaviour: Behaviour) -> None:
        """What requests for this path meet from now on; the query does not count."""
        self._behaviours[path] = behaviour

    def otherwise(self, behaviour: Behaviour) -> None:
        """What requests for all other paths meet from now on."""
        self._otherwise = behaviour

    def seen_at(self, path: str | None) -> list[Seen]:
        """Requests for the path so far, or all of them."""
        return [request for request in self.seen if path is None or request.path == path]

    async def wait_for(self, count: int, *, path: str | None = None, within: float = 10.0) -> list[Seen]:
        """All requests, or those for the path, as soon as there are `count`, or TimeoutError."""
        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(lambda: len(self.seen_at(path)) >= count)
        except TimeoutError:
            came = len(self.seen_at(path))
            raise TimeoutError(f"{came} requests within {within} s, not {count}") from None
        return self.seen_at(path)

    async def wait_until_closed(self, *, within: float = 10.0) -> None:
        """Until no connection is open any more."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(lambda: self.open_connections == 0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(self.connections, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            # The sender may leave whenever it likes.
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while (request := await _read(reader, number)) is not None:
                    exchange = Exchange(request, reader, writer)
                    await self._behave(exchange)
                    if not exchange.keep:
                        break
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            self._writers.discard(writer)
            async with self._changed:
                self.open_connections -= 1
                self._changed.notify_all()

    async def _behave(self, exchange: Exchange) -> None:
        path = exchange.request.path
        async with self._changed:
            self.seen.append(exchange.request)
            self._busy[path] += 1
            self.busiest[path] = max(self.busiest[path], self._busy[path])
            self._changed.notify_all()
        try:
            await self._behaviours.get(path, self._otherwise)(exchange)
        finally:
            self._busy[path] -= 1


async def _read(reader: asyncio.StreamReader, connection: int) -> Seen | None:
    """The next request on a connection; None when the sender has closed it in between."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    body = await reader.readexactly(length)
    return Seen(method, target, headers, body, head, connection, asyncio.get_running_loop().time())


def self_signed(folder: Path, name: str = "127.0.0.1", days: int = 2) -> tuple[Path, Path]:
    """A certificate for the host name or address, and its key, made by openssl and signed by itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = "IP" if name[0].isdigit() else "DNS"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", str(days), "-subj", f"/CN={name}"]
    subprocess.run([*command, "-addext", f"subjectAltName={kind}:{name}"], check=True, capture_output=True)
    return certificate, key
