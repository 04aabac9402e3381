"""What was done in a storm, what came at the receiver, and when. All moments are of the loop's clock.

A receiver in a busy process reads late: `lag` says by how much. Requests that a stopped daemon had begun, and that leave
when it goes on, cannot be called back: they are strays, and count for no limit and no order.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: A change holds once the daemons have heard of it, between whatever else they do.
NOTICE = 5.0
#: So long after it goes on, what a stopped daemon had begun may still leave.
STRAY = 1.0
FOREVER = float("inf")


@dataclass
class Arrival:
    """One request."""

    webhook: int
    daemon: str
    key: str
    attempt: int
    body: bytes
    headers: dict[str, str]
    at: float
    ended: float = FOREVER
    #: None: it got no answer.
    status: int | None = None
    retry_after: float = 0.0
    stray: bool = False


class Event(NamedTuple):
    """A row of the outbox."""

    id: int
    company_id: str
    resource: str | None
    body: bytes
    #: After it nothing may come.
    valid_until: float = FOREVER


class History:
    """A value that changes."""

    def __init__(self, at: float, value: Any) -> None:
        self._at, self._values = [at], [value]

    def change(self, at: float, value: Any) -> None:
        self._at.append(at)
        self._values.append(value)

    def during(self, first: float, last: float) -> list[Any]:
        """All that held at some time between these two."""
        return self._values[max(0, bisect_right(self._at, first) - 1) : bisect_right(self._at, last)]

    @property
    def now(self) -> Any:
        return self._values[-1]


@dataclass
class Terms:
    """A webhook, as people changed it."""

    company_id: str
    ordered: bool
    most_attempts: int
    #: Active, not paused, not deleted.
    callable: History
    max_concurrency: History
    rate: History
    secrets: History
    #: Moments at which a person let it go on whatever its receiver asked for.
    freed: list[float] = field(default_factory=list)


@dataclass
class Diary:
    """All that was done."""

    webhooks: dict[int, Terms] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    #: (webhook, event) that a person had sent again, or tried again.
    again: set[tuple[int, int]] = field(default_factory=set)
    #: Of each daemon, from when to when it was stopped.
    stops: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    #: From when to when the server of the database was gone.
    outages: list[tuple[float, float]] = field(default_factory=list)
    #: When the receiver looked, and how late that was.
    lags: list[tuple[float, float]] = field(default_factory=list)
    #: In words, for who has to find out what went wrong.
    told: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something was done."""
        self.told.append(f"{asyncio.get_running_loop().time():.2f} {text}")

    async def watch_the_clock(self) -> None:
        """How late this loop reads what has come; until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            before = now()
            await asyncio.sleep(0.005)
            self.lags.append((now(), now() - before - 0.005))

    def lag(self, at: float) -> float:
        """How much earlier than `at` something may have come that was read then."""
        first, last = bisect_left(self.lags, (at - 0.5, 0.0)), bisect_right(self.lags, (at + 0.1, 0.0))
        return max((late for _, late in self.lags[first:last]), default=0.0)

    def told_by(self, at: float, within: float = NOTICE) -> float:
        """What holds since then, or longer, the daemons know at that moment: not what changed as the database went away."""
        since = at - within
        for gone, back in reversed(self.outages):
            if gone <= at and since <= back:
                since = min(since, gone - NOTICE)
        return since

    def find_strays(self) -> None:
        """And end what was open when its daemon stood still: the others may have taken it over."""
        for one in self.arrivals:
            for stopped, went_on in self.stops[one.daemon]:
                one.stray |= went_on - 0.05 <= one.at <= went_on + STRAY
                if one.at <= stopped < one.ended:
                    one.ended = stopped
