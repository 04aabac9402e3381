"""Counts that are folded, and figures that are read for whoever watches."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from pgrelay.errors import PgrelayError
from pgrelay.observation import CaptureErrorsSeen, Observation


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
