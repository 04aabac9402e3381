"""Requests by way of an egress proxy, and what vetting of addresses means then.

Names are still resolved and vetted here. For https the proxy is asked to connect to the vetted address (CONNECT
203.0.113.7:443), while TLS goes by the name, so what was judged is what is called, and the proxy sees neither path nor
body. For http there is no such way: the proxy gets the name and resolves it again, so there it is the proxy's own rules
that bind. The proxy itself is allowed by being configured; nothing else is ever called past it.
"""

import asyncio
import random
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from time import monotonic
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver
from yarl import URL

from pgrelay.transport.resolver import DNS_SECONDS

# Beyond it all addresses that are remembered are looked up anew.
_MAX_REMEMBERED = 20_000


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


class Way(NamedTuple):
    """What to give to aiohttp so that a request goes by way of the proxy."""

    url: URL
    headers: Mapping[str, str]
    options: dict[str, Any]


class Detour:
    """Finds the way of each request. Vetted addresses are remembered for DNS_SECONDS."""

    def __init__(self, proxy: Proxy, vetting: AbstractResolver) -> None:
        self._proxy = proxy
        self._vetting = vetting
        self._known: dict[str, tuple[float, str]] = {}
        self._lookups: dict[str, asyncio.Task[str]] = {}

    def is_fault_of_proxy(self, error: BaseException) -> bool:
        """Whether the error is about the connection to the proxy, as opposed to the one through it."""
        return getattr(error, "host", None) == self._proxy.url.raw_host

    def close(self) -> None:
        """End lookups under way."""
        for lookup in list(self._lookups.values()):
            lookup.cancel()

    async def way(self, target: URL, headers: Mapping[str, str]) -> Way:
        """Raises what the resolver raises: OSError, or Refused for a name that may not be called."""
        host, authorization = target.raw_host or "", self._proxy.authorization
        address = host if _is_address(host) else await self._address(host, target.port or 0)
        if target.scheme != "https":
            named = (
                dict(headers) if authorization is None else {**headers, "Proxy-Authorization": authorization}
            )
            return Way(target, named, {"proxy": self._proxy.url})
        # Headers of CONNECT are part of the key by which aiohttp keeps connections: with the name among them, two
        # names of one address never share a connection, which was opened and verified for one of them.
        named = {"Host": target.host_port_subcomponent or host}
        said = {**named, "User-Agent": headers.get("User-Agent", "pgrelay")}
        if authorization is not None:
            said["Proxy-Authorization"] = authorization
        options = {"proxy": self._proxy.url, "proxy_headers": said, "server_hostname": host.rstrip(".")}
        return Way(target.with_host(address), {**headers, **named}, options)

    async def _address(self, host: str, port: int) -> str:
        """One of the addresses of the name, of which all may be called."""
        expires, address = self._known.get(host, (0.0, ""))
        if monotonic() < expires:
            return address
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(self._look_up(host, port))
            lookup.add_done_callback(lambda done: self._learn(host, done))
        # whoever gives up waiting does not end it for the others
        return await asyncio.shield(lookup)

    async def _look_up(self, host: str, port: int) -> str:
        found = [result["host"] for result in await self._vetting.resolve(host, port)]
        # IPv4 before IPv6, for nobody here knows what the proxy has; any of them, so that a retry may meet another
        return random.choice([address for address in found if ":" not in address] or found)

    def _learn(self, host: str, lookup: asyncio.Task[str]) -> None:
        del self._lookups[host]
        if not lookup.cancelled() and lookup.exception() is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[host] = (monotonic() + DNS_SECONDS, lookup.result())


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
