"""Events of deadlines that have passed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from pgrelay.observation import DeadlinesFired, Observation
from pgrelay.upkeep.chore import UNCALLED


class DeadlineStore(Protocol):
    """What fire_deadlines gave."""

    @property
    def fired(self) -> int: ...
    @property
    def dropped(self) -> int: ...


class FireDeadlines:
    """Makes the events of deadlines that passed, when it is called.

    It is called for those that pass now, and looks for no others then. For all of them, also those armed when they had
    passed long ago, it looks once a minute at least.
    """

    name = "deadlines"
    batch = 200

    def __init__(
        self,
        fire: Callable[[int, bool], Awaitable[DeadlineStore]],
        *,
        wake: Callable[[], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._fire = fire
        self._wake = wake
        self._observe = observe
        self._all_at = float("-inf")

    async def once(self) -> float:
        began = asyncio.get_running_loop().time()
        everything = began >= self._all_at
        while True:
            result = await self._fire(self.batch, everything)
            if result.fired:
                self._wake()
            if result.fired or result.dropped:
                self._observe(DeadlinesFired(result.fired, result.dropped))
            if result.fired + result.dropped < self.batch:
                if everything:
                    self._all_at = began + UNCALLED
                return 0.0
