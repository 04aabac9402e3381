"""Replays: what is sent again is queued in slices, behind the live traffic."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from pgrelay.observation import Observation, ReplayDone, ReplayStopped


class FedReplay(Protocol):
    """A replay that got on, ended, or had to be stopped."""

    @property
    def replay_id(self) -> int: ...
    @property
    def webhook_id(self) -> int: ...
    @property
    def added(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def queued(self) -> int: ...
    @property
    def skipped(self) -> int: ...
    @property
    def note(self) -> str | None: ...


class FeedReplays:
    """Queues the next deliveries of running replays when it is called: four times a second while they get on."""

    name = "replays"
    busy = 0.25

    def __init__(
        self,
        feed: Callable[[], Awaitable[Sequence[FedReplay]]],
        *,
        wake: Callable[[], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._feed = feed
        self._wake = wake
        self._observe = observe

    async def once(self) -> float:
        while fed := await self._feed():
            for one in fed:
                if one.status == "done":
                    self._observe(ReplayDone(one.replay_id, one.webhook_id, one.queued, one.skipped))
                elif one.status == "stopped":
                    self._observe(ReplayStopped(one.replay_id, one.webhook_id, one.queued, one.note or ""))
            if any(one.added for one in fed):
                self._wake()
            await asyncio.sleep(self.busy)
        return 0.0
