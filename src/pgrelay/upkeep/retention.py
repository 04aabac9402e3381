"""What is kept, and for how long."""

import asyncio
from collections.abc import Awaitable, Callable

from pgrelay.errors import DatabaseUnavailable, PgrelayError


class Retain:
    """Moves the rings on, prunes the small tables, and sweeps the queue."""

    name = "retention"
    every = 60.0
    #: Sweeping, which reads the queue as a whole, may take this part of the time at most; but it comes once in so long.
    share = 0.001
    longest = 1800.0

    def __init__(
        self,
        rotate: Callable[[str, float], Awaitable[str | None]],
        prune: Callable[[float], Awaitable[None]],
        sweep: Callable[[], Awaitable[None]],
        *,
        retention: Callable[[], dict[str, float]],
    ) -> None:
        self._rotate = rotate
        self._prune = prune
        self._sweep = sweep
        self._retention = retention
        self._swept_until = float("-inf")

    async def once(self) -> float:
        retention = self._retention()
        failed: PgrelayError | None = None
        for ring, seconds in retention.items():
            try:
                while await self._rotate(ring, seconds):
                    pass  # in steps, between which others have the connection
            except DatabaseUnavailable:
                raise
            except PgrelayError as error:
                failed = error  # one ring that does not move keeps nothing else
        try:
            await self._prune(max(retention.values()))
        finally:
            if asyncio.get_running_loop().time() >= self._swept_until:
                await self._sweep_for_a_while()
        if failed is not None:
            raise failed
        return self.every

    async def _sweep_for_a_while(self) -> None:
        """Sweep, and put the next time off by what it took, also where it took too long."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._sweep()
        finally:
            ended = loop.time()
            self._swept_until = ended + min((ended - began) / self.share, self.longest)
