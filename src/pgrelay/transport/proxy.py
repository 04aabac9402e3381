"""Requests by way of an egress proxy, and what vetting of addresses means then.

Names are still resolved and vetted here. For https the proxy is asked to connect to the vetted address (CONNECT
203.0.113.7:443), while TLS goes by the name, so what was judged is what is called, and the proxy sees neither path nor
body. For http there is no such way: the proxy gets the name and resolves it again, so there it is the proxy's own rules
that bind. The proxy itself is allowed by being configured; nothing else is ever called past it.
"""

import asyncio
import errno
import random
import re
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from yarl import URL

from pgrelay.delivery import ErrorKind, Failure
from pgrelay.transport.connection import Connection, Keeper
from pgrelay.transport.dialling import SomeProtocol, dial, family_of
from pgrelay.transport.failures import (
    MAX_HEAD,
    broken_off,
    no_answer,
    no_http,
    not_connected,
    refused_by_proxy,
)
from pgrelay.transport.resolver import Addresses, Resolver
from pgrelay.transport.target import Target

#: What the proxy is called in messages.
_PROXY = "the proxy"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |$|\r)")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is, and what it wants to be told of who asks."""

    #: Without credentials.
    url: URL
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, text: str) -> "Proxy | None":
        """From a URL as the configuration checks it (values.parse_proxy); None for an empty one."""
        if not text:
            return None
        url = URL(text)
        if url.user is None:
            return cls(url)
        credentials = f"{url.user}:{url.password or ''}".encode()
        return cls(url.with_user(None), f"Basic {b64encode(credentials).decode()}")


class Detour:
    """Opens connections by way of the proxy. They are closed, or come back, as any other."""

    def __init__(self, proxy: Proxy, tls: ssl.SSLContext) -> None:
        self._proxy = proxy
        self._tls = tls
        self._names = Resolver(_any_address)

    def close(self) -> None:
        """End lookups under way."""
        self._names.close()

    @property
    def authorization(self) -> str | None:
        """The header Proxy-Authorization of a request that the proxy forwards."""
        return self._proxy.authorization

    async def to_proxy(self, keeper: Keeper) -> Connection:
        """To the proxy itself, which forwards whatever http it is asked for."""
        return await self._dial(lambda: Connection(_PROXY, keeper))

    async def through(
        self, target: Target, addresses: Addresses, user_agent: str, keeper: Keeper
    ) -> Connection:
        """Through the proxy to one of these addresses, over TLS."""
        tunnel = await self._dial(_Tunnel)
        try:
            status = await tunnel.ask(self._connect(target, _one_of(addresses), user_agent))
            if not 200 <= status <= 299:
                raise refused_by_proxy(target.host, status)
            connection = Connection(target.host, keeper)
            try:
                transport = await asyncio.get_running_loop().start_tls(
                    tunnel.transport, connection, self._tls, server_hostname=target.server_name
                )
            except OSError as error:
                raise not_connected(error, target.host) from error
        except BaseException:
            tunnel.transport.abort()
            raise
        if transport is None:  # the other side was gone by then
            raise not_connected(ConnectionResetError(errno.ECONNRESET, ""), target.host)
        connection.connection_made(transport)
        return connection

    async def _dial(self, protocol: Callable[[], SomeProtocol]) -> SomeProtocol:
        url = self._proxy.url
        host = url.raw_host or ""
        addresses = {host: family} if (family := family_of(host)) else await self._names.resolve(host)
        tls = self._tls if url.scheme == "https" else None
        return await dial(protocol, _PROXY, addresses, url.port or 0, tls=tls, server_name=host)

    def _connect(self, target: Target, address: str, user_agent: str) -> bytes:
        authority = f"[{address}]:{target.port}" if ":" in address else f"{address}:{target.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {target.authority}", f"User-Agent: {user_agent}"]
        if self._proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class _Tunnel(asyncio.Protocol):
    """A connection to the proxy until it is one to somebody else."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._head = b""

    async def ask(self, request: bytes) -> int:
        """The status that the proxy answers with."""
        self.transport.write(request)
        return await self._status

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if self._status.done() or not (end or len(self._head) > MAX_HEAD):
            return
        status = _STATUS.match(head)
        # behind the proxy nobody speaks before we do
        if status is None or (rest and status[1].startswith(b"2")):
            self._status.set_exception(no_http(_PROXY, "when asked for a connection"))
        else:
            self._status.set_result(int(status[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._status.done():
            self._status.set_exception(no_answer(_PROXY) if exc is None else broken_off(exc, _PROXY))


def _any_address(host: str, addresses: Addresses) -> Failure | None:
    """The proxy is allowed by being configured, wherever it is."""
    return None if addresses else Failure(ErrorKind.DNS, "the proxy's name has no address")


def _one_of(addresses: Addresses) -> str:
    # IPv4 before IPv6, for nobody here knows what the proxy has; any of them, so that a retry may meet another
    return random.choice([address for address in addresses if ":" not in address] or list(addresses))
