"""The periodic chores: heartbeat, deadlines, lapsed leases, figures, retention. One small class each, all of one shape.

A chore is `run_forever`: it does its work, says when to come again, and outlasts the loss of the database. Seconds.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from pgrelay.errors import DatabaseUnavailable, PgrelayError
from pgrelay.observation import (
    CaptureErrorsSeen,
    DaemonDeclaredDead,
    DeadlinesFired,
    DeliveriesExpired,
    LeasesLapsed,
    Observation,
    SecretsSealed,
    UpkeepFailed,
)
from pgrelay.sealing import Kept, Keyring, Unopened

_AFTER_FAILURE = 1.0


class Chore(Protocol):
    """Something done again and again. `once` returns the seconds until the next time."""

    name: str

    async def once(self) -> float: ...


async def run_forever(chore: Chore, observe: Callable[[Observation], None]) -> None:
    """Do the chore until cancelled. What fails is told, and tried again."""
    while True:
        try:
            wait = await chore.once()
        except DatabaseUnavailable:
            # told by the parts that deliver; a chore has nothing to add
            wait = _AFTER_FAILURE
        except PgrelayError as error:
            observe(UpkeepFailed(chore.name, error.message))
            wait = 10 * _AFTER_FAILURE
        await asyncio.sleep(wait)


class Heartbeat:
    """Keeps the daemon's lease, and says how long it certainly holds."""

    name = "heartbeat"

    def __init__(
        self,
        beat: Callable[[], Awaitable[bool]],
        sign_on: Callable[[], Awaitable[None]],
        *,
        lease: float,
        observe: Callable[[Observation], None],
        identity: Callable[[], int],
    ) -> None:
        self._beat = beat
        self._sign_on = sign_on
        self._lease = lease
        self._observe = observe
        self._identity = identity
        self._held_until = float("-inf")
        self._held_since = float("inf")

    def began(self, moment: float) -> None:
        """A lease was taken or prolonged by a statement sent at `moment`."""
        if not self.holds(moment):
            self._held_since = moment
        self._held_until = moment + self._lease * 0.8

    def holds(self, now: float) -> bool:
        """The lease certainly holds: nobody else may have taken our deliveries."""
        return now < self._held_until

    def judges(self, now: float) -> bool:
        """Others may be declared dead: the database has been there for a whole lease, so they could beat if they lived.

        After an outage all leases are over, and who comes back first must not take the others' deliveries.
        """
        return self.holds(now) and now - self._held_since >= self._lease

    async def once(self) -> float:
        sent = asyncio.get_running_loop().time()
        try:
            if await self._beat():
                self.began(sent)
            else:
                self._observe(DaemonDeclaredDead(self._identity()))
                await self._sign_on()
        except DatabaseUnavailable:
            return min(_AFTER_FAILURE, self._lease / 5)
        return self._lease / 5


class DeadlineStore(Protocol):
    """What fire_deadlines gave."""

    @property
    def fired(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def next_in(self) -> float | None: ...


class FireDeadlines:
    """Makes the events of deadlines that passed: at the moment of the next one, and to find new ones twice a second."""

    name = "deadlines"
    batch = 200
    longest = 0.5

    def __init__(
        self,
        fire: Callable[[int], Awaitable[DeadlineStore]],
        *,
        wake: Callable[[], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._fire = fire
        self._wake = wake
        self._observe = observe

    async def once(self) -> float:
        result = await self._fire(self.batch)
        if result.fired:
            self._wake()
        if result.fired or result.dropped:
            self._observe(DeadlinesFired(result.fired, result.dropped))
        if result.fired + result.dropped >= self.batch:
            return 0.0
        return self.longest if result.next_in is None else min(self.longest, max(0.0, result.next_in) + 0.001)


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
        expired = await self._expire()
        if expired:
            self._observe(DeliveriesExpired(expired))
        return 0.05 if expired else 5.0


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
        await self._cancel_orphans()
        return self._every


class FoldMetrics:
    """Folds counted deltas into minutes and totals."""

    name = "metrics"
    every = 5.0

    def __init__(self, fold: Callable[[], Awaitable[int]]) -> None:
        self._fold = fold

    async def once(self) -> float:
        await self._fold()
        return self.every


class Figures(Protocol):
    """What was read, by name."""

    def _asdict(self) -> dict[str, float]: ...


class ReadFigures:
    """Reads how the installation as a whole is, for /metrics; a larger queue less often, for it is read as a whole.

    `overdue` gives webhooks and by how many seconds they are late.
    """

    name = "figures"
    every = 5.0
    #: Reading may take this part of the time at most.
    share = 0.02

    def __init__(
        self,
        read: Callable[[], Awaitable[Figures]],
        overdue: Callable[[], Awaitable[Mapping[int, float]]],
        publish: Callable[[Mapping[str, float] | None, Mapping[int, float]], None],
    ) -> None:
        self._read = read
        self._overdue = overdue
        self._publish = publish

    async def once(self) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._publish((await self._read())._asdict(), await self._overdue())
        except PgrelayError:
            self._publish(None, {})  # old figures would pass for new ones
            raise
        return max(self.every, (loop.time() - began) / self.share)


class Retain:
    """Moves the rings on and prunes the small tables."""

    name = "retention"
    every = 60.0

    def __init__(
        self,
        rotate: Callable[[str, float], Awaitable[str | None]],
        prune: Callable[[float], Awaitable[None]],
        *,
        retention: Callable[[], dict[str, float]],
    ) -> None:
        self._rotate = rotate
        self._prune = prune
        self._retention = retention

    async def once(self) -> float:
        retention = self._retention()
        for ring, seconds in retention.items():
            await self._rotate(ring, seconds)
        await self._prune(max(retention.values()))
        return self.every


class SealSecrets:
    """Seals what webhooks hold in the clear, and makes the secrets that SQL asked for."""

    name = "secrets"
    every = 1.0

    def __init__(
        self,
        mark: Callable[[str], Awaitable[None]],
        find: Callable[[str | None], Awaitable[Sequence[tuple[int, int, Kept]]]],
        store: Callable[[int, int, Kept], Awaitable[bool]],
        *,
        keys: Keyring,
        observe: Callable[[Observation], None],
    ) -> None:
        self._mark = mark
        self._find = find
        self._store = store
        self._keys = keys
        self._observe = observe
        self._began = False

    async def once(self) -> float:
        key_id = self._keys.ids[0]
        if not self._began:
            await self._mark(key_id)
        # at first also what another key has sealed; later only what is new
        sealed = 0
        for webhook_id, version, kept in await self._find(None if self._began else key_id):
            with contextlib.suppress(Unopened):  # told when it has something to deliver
                sealed += await self._store(
                    webhook_id, version, self._keys.seal(kept, webhook_id, os.urandom)
                )
        self._began = True
        if sealed:
            self._observe(SecretsSealed(sealed, key_id))
        return self.every


class WatchCapture:
    """Tells when capture errors wait for somebody."""

    name = "capture errors"
    every = 30.0

    def __init__(
        self, count: Callable[[], Awaitable[int]], *, observe: Callable[[Observation], None]
    ) -> None:
        self._count = count
        self._observe = observe
        self._told = 0

    async def once(self) -> float:
        unresolved = await self._count()
        if unresolved != self._told:
            self._told = unresolved
            if unresolved:
                self._observe(CaptureErrorsSeen(unresolved))
        return self.every
