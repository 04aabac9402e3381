"""What nobody delivers any more: deliveries of dead daemons, of webhooks that are gone, of events too old."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from pgrelay.observation import DeliveriesExpired, LeasesLapsed, Observation


class LapsedDaemon(Protocol):
    """A daemon that died, and what became of its deliveries."""

    @property
    def daemon_id(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def failed(self) -> int: ...


class ExpireDeliveries:
    """End what is too old to be sent. It is not claimed any more anyway, so there is no hurry."""

    name = "expiry"

    def __init__(
        self, expire: Callable[[], Awaitable[int]], *, observe: Callable[[Observation], None]
    ) -> None:
        self._expire = expire
        self._observe = observe

    async def once(self) -> float:
        while expired := await self._expire():
            self._observe(DeliveriesExpired(expired))
            await asyncio.sleep(0.05)
        return 1.0


class ReleaseLapsed:
    """Takes back what dead daemons held, and ends what nobody is owed any more."""

    name = "leases"

    def __init__(
        self,
        release: Callable[[], Awaitable[Sequence[LapsedDaemon]]],
        cancel_orphans: Callable[[], Awaitable[int]],
        *,
        every: float,
        may_judge: Callable[[], bool],
        wake: Callable[[], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._release = release
        self._cancel_orphans = cancel_orphans
        self._every = every
        self._may_judge = may_judge
        self._wake = wake
        self._observe = observe

    async def once(self) -> float:
        for dead in await self._release() if self._may_judge() else ():
            self._observe(LeasesLapsed(dead.daemon_id, dead.pending, dead.failed))
            self._wake()
        while await self._cancel_orphans():
            pass  # in slices, between which others have the connection
        return self._every
