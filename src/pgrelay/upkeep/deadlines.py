"""Events of deadlines that have passed."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from pgrelay.observation import DeadlinesFired, Observation


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
