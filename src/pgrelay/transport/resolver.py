"""Which addresses a name stands for, and whether they may be called.

Decides nothing itself: `addresses` judges the whole answer. aiohttp connects to the addresses given here, and
resolves no second time, so a name cannot answer one thing to be judged and another to be called. Literal
addresses never come here: `check_url` judges them.

getaddrinfo gets a thread of its own. In the loop's pool, a few names whose servers do not answer would keep
the threads busy for half a minute, and all other lookups, the database's among them, would wait for them. Nor
can a lookup be called off: its thread is a daemon, so that nothing waits for it at exit.
"""

import asyncio
import errno
import os
import socket
import threading
from concurrent.futures import Future

from aiohttp.abc import AbstractResolver, ResolveResult

from pgrelay.addresses import Policy, check_addresses
from pgrelay.delivery import ErrorKind, Failure
from pgrelay.transport.failures import Refused

#: How long the addresses of a name are remembered, in seconds.
DNS_SECONDS = 10
#: Lookups under way at once, each in a thread of its own.
MAX_LOOKUPS = 64


class VettingResolver(AbstractResolver):
    """Resolves names as the system does; raises Refused when an address may not be called."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        async with self._turns:
            addresses = await look_up(host, port, family)
        refused = check_addresses(host, addresses, self._policy)
        if refused is not None:
            raise Refused(refused)
        return _results(host, port, addresses)

    async def close(self) -> None:
        """Nothing is held open."""


class ProxyResolver(AbstractResolver):
    """Resolves the proxy's own name, which is allowed by being configured, and no other."""

    def __init__(self, proxy_host: str) -> None:
        self._proxy_host = proxy_host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self._proxy_host:
            raise Refused(Failure(ErrorKind.BLOCKED_ADDRESS, f"{host} would be called past the proxy"))
        addresses = await look_up(host, port, family)
        if not addresses:
            raise Refused(Failure(ErrorKind.DNS, "the proxy's name has no address"))
        return _results(host, port, addresses)

    async def close(self) -> None:
        """Nothing is held open."""


def _results(host: str, port: int, addresses: dict[str, int]) -> list[ResolveResult]:
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(hostname=host, host=address, port=port, family=found, proto=0, flags=numeric)
        for address, found in addresses.items()
    ]


async def look_up(host: str, port: int, family: socket.AddressFamily) -> dict[str, int]:
    """Addresses of the host, each with its family, in the order of the system's preference."""
    outcome: Future[dict[str, int]] = Future()

    def work() -> None:
        # From here on nobody can cancel the outcome: who no longer wants it does not look.
        outcome.set_running_or_notify_cancel()
        try:
            answer = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            outcome.set_result({str(address[0]): found for found, _, _, _, address in answer})
        except BaseException as error:  # belongs to whoever waits for the outcome
            outcome.set_exception(error)

    try:
        threading.Thread(target=work, name="pgrelay-lookup", daemon=True).start()
    except RuntimeError as error:  # the system grants no more threads
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    return await asyncio.wrap_future(outcome)
