"""Which delivery starts next: so many requests at once in all, and so many of each webhook.

A slot that comes free goes to a webhook that runs fewer requests than the one that had it, so in the long run each
has an equal share, whatever its requests last. The last quarter of all slots is for webhooks that run only a few:
many requests that hang, all begun at once, leave something to the others.

Nothing starts while `may_start` says no (the lease may be lost, or outcomes could not be remembered): what is ready
stays so until `resume`. Does not know what a delivery is: `deliver` does it, and must not raise.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pgrelay.delivery import Claim
from pgrelay.lanes import A_FEW, Lane, Lanes
from pgrelay.ratelimit import RateLimit, Request

#: How many waiting webhooks are compared for each slot that comes free: with thousands of them, not all.
_COMPARED = 8
#: A timer may fire this much too early, by the resolution of the clock.
_RATE_SLACK = 0.001

#: A delivery that starts: under which daemon's id it is leased, the claim, and the request as its rate limit counts it.
Start = tuple[int, Claim, Request | None]


class Slots:
    """`offer` a lane that has something ready. `on_done` is told of each delivery that ended."""

    def __init__(
        self,
        deliver: Callable[[Lane, Start], Awaitable[None]],
        *,
        total: int,
        per_lane: int,
        may_start: Callable[[], bool],
        on_done: Callable[[Lane], None],
    ) -> None:
        self._deliver = deliver
        self._total = total
        self._common = total - total // 4
        self.per_lane = per_lane
        self._may_start = may_start
        self._on_done = on_done
        self._line: deque[Lane] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._held_back = False
        self._closed = False
        self.running = 0

    def offer(self, lane: Lane) -> None:
        """Start what the lane has ready as far as there are slots for it, and let it wait in line for more."""
        while not self._closed and self._has_more(lane):
            if self.running >= self._total or (self.running >= self._common and lane.running >= A_FEW):
                self._line_up(lane)
                return
            if not self._may_start():
                self._held_back = True
                return
            self.running += 1
            worker = asyncio.get_running_loop().create_task(self._work(lane, self._begin(lane)))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def resume(self, lanes: Lanes) -> None:
        """Start what was held back, now that it may."""
        if self._held_back:
            self._held_back = False
            for lane in lanes:
                self.offer(lane)

    def close(self) -> None:
        """Start nothing any more."""
        self._closed = True

    async def drain(self, timeout: float) -> None:
        """Let requests end, and cut off those that take longer."""
        if not self._workers:
            return
        _, late = await asyncio.wait(self._workers, timeout=timeout)
        for worker in late:
            worker.cancel()
        if late:
            await asyncio.wait(late)

    async def _work(self, lane: Lane, start: Start) -> None:
        """Use one slot, for one delivery after the other, as long as there is any."""
        try:
            while True:
                await self._deliver(lane, start)
                lane.running -= 1
                self._on_done(lane)
                following = self._following(lane)
                if following is None:
                    return
                start = self._begin(following)
                self._line_up(following)
                self._line_up(lane)
                lane = following
        finally:
            self.running -= 1

    def _following(self, lane: Lane) -> Lane | None:
        """Who gets the slot that `lane` has just freed: itself, or one of the next in line that runs less."""
        if self._closed:
            return None
        best = lane if self._has_more(lane) else None
        if self._line:
            best = self._poorest(lane, best)
        if best is None:
            return None
        if self.running > self._common and best.running >= A_FEW:
            # this slot was of the reserve, and goes back to it
            self._line_up(best)
            self._line_up(lane)
            return None
        if not self._may_start():
            self._held_back = True
            return None
        return best

    def _poorest(self, lane: Lane, best: Lane | None) -> Lane | None:
        """`best`, or the one of the first few in line that runs least; the others go to the end of the line."""
        compared = 0
        for _ in range(len(self._line)):
            other = self._line.popleft()
            if other is lane or not self._has_more(other):
                other.queued = False
                continue
            # among equals, who waited goes before who has just had the slot
            if best is None or other.running < best.running + (best is lane):
                best, other = other, best
            if other is not None and other is not lane:
                self._line.append(other)
            compared += 1
            if compared == _COMPARED:
                break
        if best is not None and best is not lane:
            best.queued = False
        return best

    def _begin(self, lane: Lane) -> Start:
        """Take the next of a lane that has more."""
        lane.running += 1
        identity, claim = lane.ready.popleft()
        rate = lane.rate
        return identity, claim, None if rate is None else rate.begin(asyncio.get_running_loop().time())

    def _has_more(self, lane: Lane) -> bool:
        """Something of it is ready, and may start now."""
        if not lane.ready or lane.running >= (lane.most or self.per_lane):
            return False
        if lane.rate is None and not lane.held_until:
            return True
        now = asyncio.get_running_loop().time()
        return lane.held_until <= now and (lane.rate is None or self._in_time(lane, lane.rate, now))

    def _in_time(self, lane: Lane, rate: RateLimit, now: float) -> bool:
        """Its rate limit allows a request now; if not, it is offered again when that may be."""
        wait = rate.wait(now)
        if wait <= 0:
            return True
        moment, alarm = now + wait + _RATE_SLACK, lane.rate_alarm
        # sooner than it seemed: the limit was raised meanwhile
        if alarm is None or moment + _RATE_SLACK < alarm.when():
            if alarm is not None:
                alarm.cancel()
            lane.rate_alarm = asyncio.get_running_loop().call_at(moment, self._rate_allows, lane)
        return False

    def _rate_allows(self, lane: Lane) -> None:
        lane.rate_alarm = None
        self.offer(lane)

    def _line_up(self, lane: Lane) -> None:
        if self._has_more(lane) and not lane.queued:
            lane.queued = True
            self._line.append(lane)
