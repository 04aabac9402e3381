"""The one look of an idle daemon: whether anything is due, and who is to do it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

#: Chores that are called when there is something for them, by name.
CALLED = ("deadlines", "leases", "expiry", "replays", "metrics")


class Due(Protocol):
    """What waits to be done; `deadline_in`: seconds until the next deadline, None where none is armed."""

    @property
    def events(self) -> bool: ...
    @property
    def deadline_in(self) -> float | None: ...
    @property
    def expired(self) -> bool: ...
    @property
    def lapsed(self) -> bool: ...
    @property
    def counted(self) -> bool: ...
    @property
    def replays(self) -> bool: ...


class Glance:
    """Calls other chores when there is something for them, and `poll` when there are events nobody told of.

    What costs an idle daemon is waking up and asking, less what is asked: so this is asked in one statement. A
    deadline is known before it comes, unless it was armed since the last look: then it fires less than a second late.
    """

    name = "glance"
    longest = 0.9

    def __init__(
        self,
        look: Callable[[], Awaitable[Due]],
        *,
        poll_interval: float,
        poll: Callable[[], None],
        calls: Mapping[str, Callable[[], None]],
    ) -> None:
        self._look = look
        self._poll_interval = poll_interval
        self._poll = poll
        self._calls = calls
        self._every = min(self.longest, poll_interval)
        self._polled = float("-inf")

    async def once(self) -> float:
        loop = asyncio.get_running_loop()
        due = await self._look()
        now = loop.time()
        if due.events and now - self._polled >= self._poll_interval - self._every:
            self._polled = now
            self._poll()
        if due.expired:
            self._calls["expiry"]()
        if due.lapsed:
            self._calls["leases"]()
        if due.counted:
            self._calls["metrics"]()
        if due.replays:
            self._calls["replays"]()
        if due.deadline_in is not None and due.deadline_in <= self._every:
            loop.call_later(max(0.0, due.deadline_in) + 0.001, self._calls["deadlines"])
        return self._every
