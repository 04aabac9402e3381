"""The daemon's own lease: kept by a heartbeat, and for how long it certainly holds."""

import time
from collections.abc import Awaitable, Callable

from pgrelay.errors import DatabaseUnavailable
from pgrelay.observation import DaemonDeclaredDead, Observation
from pgrelay.upkeep.chore import AFTER_FAILURE

#: Seconds from the first beat to the second: the first comes before anybody knows whether notifications arrive.
_SECOND_AFTER = 1.0
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_clock() -> float:
    """Seconds that go on while the machine sleeps, where it has such a clock: the others' time goes on, too."""
    return time.clock_gettime(_CLOCK)


class Heartbeat:
    """Keeps the daemon's lease, and says how long it certainly holds. Moments are those of `clock`."""

    name = "heartbeat"

    def __init__(
        self,
        beat: Callable[[], Awaitable[bool]],
        sign_on: Callable[[], Awaitable[None]],
        *,
        lease: float,
        observe: Callable[[Observation], None],
        identity: Callable[[], int],
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        self._beat = beat
        self._sign_on = sign_on
        self._lease = lease
        self._observe = observe
        self._identity = identity
        self._clock = clock
        self._held_until = float("-inf")
        self._held_since = float("inf")
        self._has_beaten = False

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
        sent = self._clock()
        try:
            if await self._beat():
                self.began(sent)
            else:
                self._observe(DaemonDeclaredDead(self._identity()))
                await self._sign_on()
        except DatabaseUnavailable:
            return min(AFTER_FAILURE, self._lease / 5)
        first, self._has_beaten = not self._has_beaten, True
        return min(_SECOND_AFTER, self._lease / 5) if first else self._lease / 5
