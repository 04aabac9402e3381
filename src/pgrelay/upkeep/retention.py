"""What is kept, and for how long."""

from collections.abc import Awaitable, Callable


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
