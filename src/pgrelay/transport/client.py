"""One HTTP request on the wire: Request in, Response or Failure out.

Decides which connection a request takes, and which addresses it may go to (asking `addresses` about the URL, and again
about all that its name resolves to). It does not decide what a status means, nor whether anything is tried again: a
redirect is a Response like any other, and is not followed. Durations are seconds, sizes are bytes.

One `send` is one request, but for one case. A receiver may close an idle connection in the very moment it is used
again, without having read what was sent: that says nothing of the receiver, and must not cost an attempt and a minute's
wait. So where a connection that was used before ends within ONE_WAY seconds, and not a byte of an answer has come, the
request goes out once more, on a new one, and the result says that there were two `requests` (RFC 9112, section 9.3.1,
allows it for what is idempotent: the key is the same). Not so where requests are counted (`on_sent`), for a rate limit
is kept exactly. It is rare: idle connections are dropped after KEEPALIVE_SECONDS, less than most servers keep theirs,
and one whose end has been heard of is never used.

Proxies named in the environment are ignored, for nobody would vet where a request goes behind them. One that is
configured is another matter: see `proxy`.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from time import monotonic
from weakref import WeakSet

from multidict import CIMultiDict

from pgrelay.addresses import Policy, check_url
from pgrelay.delivery import ErrorKind, Failure, Request, Response
from pgrelay.transport.connection import Connection, RawHeaders
from pgrelay.transport.dialling import dial, family_of
from pgrelay.transport.failures import (
    CONNECT_SHARE,
    MAX_HEAD,
    Refused,
    explain,
    not_reached,
    too_large,
)
from pgrelay.transport.pool import Pool
from pgrelay.transport.proxy import Detour, Proxy
from pgrelay.transport.resolver import Addresses, Resolver
from pgrelay.transport.target import Target

# Verdicts on URLs that are remembered. Beyond it all are made anew.
_MAX_REMEMBERED = 20_000
# Headers of answers that are remembered, of up to MAX_HEAD characters each.
_MAX_HEADS = 64
#: In so many seconds the news that a connection was closed before arrives: later it was closed because of the request.
ONE_WAY = 1.0
#: Where all requests go that a proxy forwards.
_PROXY = "proxy"


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
        self._tls = ssl.create_default_context() if tls is None else tls
        self._proxy = proxy
        self._targets: dict[str, Target | Failure] = {}
        self._heads: dict[RawHeaders, Mapping[str, str]] = {}
        self._ways: _Ways | None = None
        #: Those of before `adopt`, as long as a request is under way on them.
        self._retired: WeakSet[_Ways] = WeakSet()

    async def start(self) -> None:
        """Make ready to send. The first connection is made by the first request."""
        self._ways = _Ways(self._policy, self._tls, self._proxy)

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
        if self._ways is not None:
            # addresses that may no longer be called are not called over old connections either
            self._ways.pool.retire()
            self._retired.add(self._ways)
            self._ways = _Ways(self._policy, self._tls, self._proxy)

    async def close(self) -> None:
        """Close all connections. A request still under way ends as a Failure of kind `shutdown`."""
        for ways in (*self._retired, *([self._ways] if self._ways else [])):
            ways.close()
        await asyncio.sleep(0)  # their ends are told by the event loop

    async def send(self, request: Request, on_sent: Callable[[], None] | None = None) -> Response | Failure:
        """The receiver's answer, or why there is none. Nothing that a receiver does raises.

        The time limit covers all of it: name, connection, TLS, head and body of the answer. `on_sent` is called when
        the request has been handed to a connection that stands: the moment at which it left.
        """
        ways = self._ways
        if ways is None:
            raise RuntimeError("Transport.send before Transport.start")
        url, headers, body, seconds = request
        target = self._targets.get(url) or self._judge(url)
        if isinstance(target, Failure):
            return target
        connection: Connection | None = None
        began = monotonic()
        requests = 1
        try:
            head = ways.head(target, headers, len(body))
            connection = ways.kept(target)
            again, left = connection is not None and on_sent is None, seconds
            while True:
                if connection is None:
                    connection = await ways.opened(target, headers, left)
                answered = connection.ask(head, body, self._max_response_bytes)
                if on_sent is not None:
                    on_sent()
                connection.allow(seconds - (monotonic() - began), seconds)
                try:
                    status, raw_headers, answer = await answered
                    break
                except Refused as fault:
                    if not again or not fault.unanswered or monotonic() - began > ONE_WAY:
                        raise
                    again, left, connection = False, seconds - (monotonic() - began), None
                    requests = 2
            found = self._heads.get(raw_headers)
            if found is None:
                found = self._remember_head(raw_headers, target.host)
            return Response(status, found, answer, monotonic() - began, connection.remote_address, requests)
        except asyncio.CancelledError:
            if connection is not None:
                connection.give_up()
            if not ways.closed or _is_cancelled():
                raise
            return Failure(ErrorKind.SHUTDOWN, _STOPPED, monotonic() - began, requests=requests)
        except (Refused, ValueError) as error:
            kind, message = explain(error, target.host)
            address = None if connection is None else connection.remote_address
            return Failure(kind, message, monotonic() - began, address, requests)

    def _judge(self, url: str) -> Target | Failure:
        """Where to send what is for this URL, exactly as it is spelled; or why nothing may be sent there."""
        target: Target | Failure | None = check_url(url, self._policy)
        if target is None:
            try:
                target = Target.of(url)
            except ValueError:
                target = Failure(ErrorKind.INVALID_URL, "the URL is malformed")
        if len(self._targets) >= _MAX_REMEMBERED:
            self._targets.clear()
        self._targets[url] = target
        return target

    def _remember_head(self, raw: RawHeaders, host: str) -> Mapping[str, str]:
        """The headers of an answer, the same object for the same headers: most answers differ in the date at most."""
        if sum(len(name) + len(value) for name, value in raw) > MAX_HEAD:
            raise too_large(host)
        # as text that a database takes: what is no UTF-8 is replaced
        headers = CIMultiDict(
            (name.decode("utf-8", "replace"), value.decode("utf-8", "replace")) for name, value in raw
        )
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[raw] = headers
        return headers


#: What is taken for an answer, where the request itself does not say so.
_ACCEPT = ("Accept: */*\r\n", "Accept-Encoding: identity\r\n")
_ACCEPT_ALL = "".join(_ACCEPT)
_STOPPED = "pgrelay stopped while the request was under way"


class _Ways:
    """How requests get to their receivers under one policy: names, connections, and the proxy, if there is one."""

    def __init__(self, policy: Policy, tls: ssl.SSLContext, proxy: Proxy | None) -> None:
        self._tls = tls
        self._names = Resolver.vetting(policy)
        self._detour = None if proxy is None else Detour(proxy, tls)
        self.pool = Pool()
        self.closed = False

    def close(self) -> None:
        """Requests under way end as `shutdown`."""
        self.closed = True
        self._names.close()
        if self._detour is not None:
            self._detour.close()
        self.pool.close(Refused.of(ErrorKind.SHUTDOWN, _STOPPED))

    def head(self, target: Target, headers: Mapping[str, str], length: int) -> bytes:
        """All before the body; ValueError for headers that would be more than that."""
        opening = target.opening
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if self._detour is not None and not target.tls:
            opening = target.absolute_opening
            if self._detour.authorization is not None:
                lines.append(f"Proxy-Authorization: {self._detour.authorization}\r\n")
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise ValueError("a line break in a header")
        if "ccept" in text or "CCEPT" in text:  # perhaps a header of the webhook's own
            given = {name.lower() for name in headers}
            text += "".join(line for line in _ACCEPT if line.partition(":")[0].lower() not in given)
        else:
            text += _ACCEPT_ALL
        return f"{opening}{text}Content-Length: {length}\r\n\r\n".encode()

    def kept(self, target: Target) -> Connection | None:
        """A connection that stands already, if the target's name need not be vetted first."""
        if self._detour is None or target.tls:
            return self.pool.take(target.place)
        return None

    async def opened(self, target: Target, headers: Mapping[str, str], seconds: float) -> Connection:
        """A connection that nobody else uses, within CONNECT_SHARE of so many seconds; raises Refused."""
        try:
            async with asyncio.timeout(seconds * CONNECT_SHARE):
                connection = await self._open(target, headers)
        except TimeoutError:
            raise not_reached(target.host, seconds * CONNECT_SHARE) from None
        return connection

    async def _open(self, target: Target, headers: Mapping[str, str]) -> Connection:
        family = family_of(target.host)
        addresses: Addresses = {target.host: family} if family else await self._names.resolve(target.host)
        detour, place = self._detour, target.place if self._detour is None or target.tls else _PROXY
        if detour is None:
            connection = await dial(
                lambda: Connection(target.host, self.pool),
                target.host,
                addresses,
                target.port,
                tls=self._tls if target.tls else None,
                server_name=target.server_name,
            )
        elif target.tls:
            user_agent = headers.get("User-Agent", "pgrelay")
            connection = await detour.through(target, addresses, user_agent, self.pool)
        else:
            connection = self.pool.take(_PROXY) or await detour.to_proxy(self.pool)
        self.pool.add(connection, place)
        return connection


def _is_cancelled() -> bool:
    """Whether somebody cancelled the running task, as opposed to what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
