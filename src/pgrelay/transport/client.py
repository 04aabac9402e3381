"""One HTTP request on the wire: Request in, Response or Failure out.

Decides which connection a request takes, which addresses it may go to (asking `addresses` about the URL, and
again about all that its name resolves to), how much of an answer is read, and which kind of failure an
exception stands for. It does not decide what a status means, nor whether anything is tried again: a redirect
is a Response like any other, and is not followed. Durations are seconds, sizes are bytes.

One `send` is one request at most. A connection that the receiver closes in the very moment it is used again
is a failed attempt: to send once more would be an attempt that nobody can see. It is made rare instead: idle
connections are dropped after KEEPALIVE_SECONDS, which is less than common servers keep theirs (5 s in Node,
Apache and uvicorn), and one whose end has been heard of is never used.

Proxies named in the environment are ignored, for nobody would vet where a request goes behind them. One that is
configured is another matter: see `proxy`.
"""

import asyncio
import io
import ssl
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import cast

import aiohttp
from aiohttp.abc import AbstractResolver, AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

from pgrelay.addresses import Policy, check_url
from pgrelay.delivery import ErrorKind, Failure, Request, Response
from pgrelay.transport.failures import CONNECT_SHARE, EXPECTED, MAX_HEAD, TooLarge, explain
from pgrelay.transport.proxy import Detour, Proxy, Way
from pgrelay.transport.resolver import DNS_SECONDS, ProxyResolver, VettingResolver

#: How long an idle connection is kept.
KEEPALIVE_SECONDS = 4.0

# Verdicts on URLs, and prepared timeouts, that are remembered. Beyond it all are made anew.
_MAX_REMEMBERED = 20_000
# Headers of answers that are remembered, of up to MAX_HEAD characters each.
_MAX_HEADS = 64
# aiohttp writes a larger body at one go, and warns of it; a stream it writes piece by piece.
_LARGE_BODY = 1024 * 1024


class Transport:
    """Sends requests over connections that it keeps alive. `start` and `close` it within the event loop.

    Of a body, `max_response_bytes` are read, counted after decompression; the connection of a longer one is
    closed instead of reading on. How many requests are under way is the caller's to limit. Without `tls` the
    system's trust store counts, and no certificate is shown. With a `proxy` every request goes by way of it.
    """

    def __init__(
        self,
        policy: Policy,
        max_response_bytes: int,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._policy = policy
        self._max_response_bytes = max_response_bytes
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._proxy = proxy
        self._detour: Detour | None = None
        self._targets: dict[str, URL | Failure] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._heads: dict[aiohttp.typedefs.RawHeaders, Mapping[str, str]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []

    async def start(self) -> None:
        """Make ready to send. The first connection is made by the first request."""
        self._session = self._new_session()

    def adopt(
        self,
        policy: Policy,
        max_response_bytes: int | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """Judge by another policy and go by way of another proxy, or none, from now on.

        And read so much of answers, trust by that context; None leaves these as they are. Requests under way go on as
        they began.
        """
        if max_response_bytes is not None:
            self._max_response_bytes = max_response_bytes
        if policy == self._policy and proxy == self._proxy and tls in (None, self._tls):
            return
        self._policy = policy
        self._proxy = proxy
        self._tls = self._tls if tls is None else tls
        self._targets.clear()
        if self._session is not None:
            # Addresses that may no longer be called are not called over old connections either. Those lose their
            # owner, and so are closed when they have been idle for a while.
            self._retired.append(self._session)
            self._session = self._new_session()

    def _new_session(self) -> aiohttp.ClientSession:
        resolver: AbstractResolver = VettingResolver(self._policy)
        self._detour = None
        if self._proxy is not None:
            self._detour = Detour(self._proxy, resolver)
            resolver = ProxyResolver(self._proxy.url.raw_host or "")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEPALIVE_SECONDS,
                resolver=resolver,
                ttl_dns_cache=DNS_SECONDS,
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            # Bounds what is received, and what is decompressed, ahead of being read.
            read_bufsize=max(self._max_response_bytes, 4096),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections. A request still under way ends as a Failure of kind `shutdown`."""
        for session in (*self._retired, *([self._session] if self._session else [])):
            await session.close()
        if self._detour is not None:
            self._detour.close()

    async def send(self, request: Request, on_sent: Callable[[], None] | None = None) -> Response | Failure:
        """The receiver's answer, or why there is none. Nothing that a receiver does raises.

        The time limit covers all of it: name, connection, TLS, head and body of the answer. `on_sent` is called when
        the request has been handed to a connection that stands: the moment at which it left.
        """
        session, detour = self._session, self._detour
        if session is None:
            raise RuntimeError("Transport.send before Transport.start")
        url, body, seconds = request.url, request.body, request.timeout_seconds
        target = self._targets.get(url) or self._judge(url)
        if isinstance(target, Failure):
            return target
        response: _Response | None = None
        way, left = Way(target, request.headers, {}), seconds
        began = monotonic()
        try:
            if detour is not None:
                way = await _within(seconds * CONNECT_SHARE, detour.way(target, request.headers))
                # what the lookup took, unless it is next to nothing: prepared timeouts are kept
                left -= took if (took := monotonic() - began) > 0.01 else 0.0
            answer = await session.post(
                way.url,
                data=_payload(body, on_sent),
                headers=way.headers,
                timeout=self._timeouts.get(left) or self._prepare(left, keep=left == seconds),
                allow_redirects=False,
                **way.options,
            )
            response = cast(_Response, answer)
            headers = self._heads.get(response.raw_headers) or self._remember_head(response)
            body = await response.content.read(self._max_response_bytes)
            if not response.content.at_eof():
                body = await self._read_on(response.content, body)
            return Response(response.status, headers, body, monotonic() - began, response.remote_address)
        except (*EXPECTED, asyncio.CancelledError) as error:
            if session.closed and not _is_cancelled():
                kind, message = ErrorKind.SHUTDOWN, "pgrelay stopped while the request was under way"
            elif isinstance(error, asyncio.CancelledError):
                raise
            else:
                of_proxy = detour is not None and detour.is_fault_of_proxy(error)
                kind, message = explain(error, "the proxy" if of_proxy else target.host or "", seconds)
            address = None if response is None else response.remote_address
            return Failure(kind, message, monotonic() - began, address)
        finally:
            # Read to its end, it is closed by now, and its connection waits for the next request.
            if response is not None and not response.closed:
                response.close()

    def _judge(self, url: str) -> URL | Failure:
        """Where to send what is for this URL, exactly as it is spelled; or why nothing may be sent there."""
        target: URL | Failure | None = check_url(url, self._policy)
        if target is None:
            try:
                target = URL(url, encoded=True)
            except ValueError:
                target = Failure(ErrorKind.INVALID_URL, "the URL is malformed")
        if len(self._targets) >= _MAX_REMEMBERED:
            self._targets.clear()
        self._targets[url] = target
        return target

    def _prepare(self, seconds: float, *, keep: bool = True) -> aiohttp.ClientTimeout:
        # aiohttp takes 0 for "no limit", and rounds what is above ceil_threshold up to whole seconds.
        total = max(seconds, 0.001)
        timeout = aiohttp.ClientTimeout(
            total=total, connect=total * CONNECT_SHARE, ceil_threshold=total + 1.0
        )
        if len(self._timeouts) >= _MAX_REMEMBERED:
            self._timeouts.clear()
        if keep:
            self._timeouts[seconds] = timeout
        return timeout

    def _remember_head(self, response: aiohttp.ClientResponse) -> Mapping[str, str]:
        """The headers of an answer, the same object for the same headers: most answers differ in the date at most."""
        headers = _storable(response.headers)
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[response.raw_headers] = headers
        return headers

    async def _read_on(self, content: StreamReader, read: bytes) -> bytes:
        """The body up to its end or to the limit, given what has been read of it."""
        parts, left = [read], self._max_response_bytes - len(read)
        while left > 0 and (part := await content.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _payload(body: bytes, on_sent: Callable[[], None] | None) -> bytes | io.BytesIO | aiohttp.BytesPayload:
    if on_sent is not None:
        return _Announced(body, on_sent)
    return body if len(body) < _LARGE_BODY else io.BytesIO(body)


class _Announced(aiohttp.BytesPayload):
    """A body that says when it has been written."""

    def __init__(self, body: bytes, on_sent: Callable[[], None]) -> None:
        super().__init__(body)
        self._on_sent = on_sent

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        self._on_sent()


async def _within(seconds: float, way: Awaitable[Way]) -> Way:
    try:
        async with asyncio.timeout(seconds):
            return await way
    except TimeoutError:
        raise aiohttp.ConnectionTimeoutError from None


class _Response(aiohttp.ClientResponse):
    """Remembers who answered: once the body has been read, the connection is somebody else's."""

    remote_address: str | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            peer = connection.transport.get_extra_info("peername")
            self.remote_address = None if peer is None else peer[0]
        return await super().start(connection)


def _storable(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers as text that a database takes: what was no UTF-8 on the wire is replaced."""
    text = "".join([*headers.keys(), *headers.values()])
    if len(text) > MAX_HEAD:
        raise TooLarge
    if text.isascii():
        return headers
    # aiohttp decodes with surrogateescape: the surrogates stand for bytes that were no UTF-8.
    return CIMultiDict(
        (name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        for name, value in headers.items()
    )


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task, as opposed to what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
