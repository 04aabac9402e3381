"""Which addresses a name stands for, and whether they may be called.

Decides nothing itself: `addresses` judges the whole answer. Connections are made to the addresses given here, and
nobody resolves a second time, so a name cannot answer one thing to be judged and another to be called. Literal
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
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic

from pgrelay.addresses import Policy, check_addresses
from pgrelay.delivery import Failure
from pgrelay.transport.failures import Refused, not_connected

#: How long the addresses of a name are remembered, in seconds.
DNS_SECONDS = 10
#: Lookups under way at once, each in a thread of its own.
MAX_LOOKUPS = 64
# Beyond it all names that are remembered are looked up anew.
_MAX_REMEMBERED = 20_000

#: The addresses of a name, each with its family, in the order of the system's preference.
Addresses = dict[str, int]


class Resolver:
    """Resolves names as the system does, each once at a time, and remembers the answer for DNS_SECONDS.

    `judge(host, addresses)` says why none of them may be called, or None.
    """

    def __init__(self, judge: Callable[[str, Addresses], Failure | None]) -> None:
        self._judge = judge
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)
        self._known: dict[str, tuple[float, Addresses]] = {}
        self._lookups: dict[str, asyncio.Task[Addresses]] = {}

    @classmethod
    def vetting(cls, policy: Policy) -> "Resolver":
        """One that refuses names of which any address may not be called."""
        return cls(lambda host, addresses: check_addresses(host, addresses, policy))

    async def resolve(self, host: str) -> Addresses:
        """All addresses of the name, if all of them may be called; raises Refused."""
        expires, addresses = self._known.get(host, (0.0, {}))
        if monotonic() < expires:
            return addresses
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(self._look_up(host))
            lookup.add_done_callback(lambda done: self._learn(host, done))
        # whoever gives up waiting does not end it for the others
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """End lookups under way; who waits for one is cancelled."""
        for lookup in list(self._lookups.values()):
            lookup.cancel()

    async def _look_up(self, host: str) -> Addresses:
        async with self._turns:
            try:
                addresses = await look_up(host, 0, socket.AF_UNSPEC)
            except OSError as error:
                raise not_connected(error, host) from error
        refused = self._judge(host, addresses)
        if refused is not None:
            raise Refused(refused)
        return addresses

    def _learn(self, host: str, lookup: asyncio.Task[Addresses]) -> None:
        del self._lookups[host]
        if not lookup.cancelled() and lookup.exception() is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[host] = (monotonic() + DNS_SECONDS, lookup.result())


async def look_up(host: str, port: int, family: socket.AddressFamily) -> Addresses:
    """Ask the system; raises OSError, of which socket.gaierror is one."""
    outcome: Future[Addresses] = Future()

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
