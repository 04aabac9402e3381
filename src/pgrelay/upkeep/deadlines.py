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


class FireDeadlines:
    """Makes the events of deadlines that passed, all of them, when it is called."""

    name = "deadlines"
    batch = 200

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
        while True:
            result = await self._fire(self.batch)
            if result.fired:
                self._wake()
            if result.fired or result.dropped:
                self._observe(DeadlinesFired(result.fired, result.dropped))
            if result.fired + result.dropped < self.batch:
                return 0.0
