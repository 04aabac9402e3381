"""The daemon's picture of each webhook: what is claimed for it, what runs, and what may still wait in the database.

No I/O. A lane is a hint about the queue, corrected by every look at it: forgetting a lane loses nothing. Moments
named `due` are epoch seconds of the database, all others monotonic seconds.

How many deliveries are held in all is bounded (`capacity`). Beyond it there is a reserve for lanes that hold only a
few, so that some webhooks whose requests take for ever cannot keep the others out.
"""

import heapq
from asyncio import TimerHandle
from collections import deque
from collections.abc import Iterator, KeysView
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, floor, log2

from pgrelay.delivery import Claim, Webhook
from pgrelay.ratelimit import RateLimit
from pgrelay.request import RequestBuilder

#: What a webhook may always have: this many deliveries held, or requests under way, out of the reserve.
A_FEW = 4
#: How many hungry webhooks are compared for each claim: with thousands of them, not all.
_COMPARED = 250
#: A webhook holds as much more as it used up in so many seconds lately: more than a claim takes to come back.
_AHEAD_SECONDS = 0.02
#: Seconds; what waits less is not put off by more than a hundredth of it.
_SHORTEST_WAIT = 0.5


@dataclass(slots=True)
class Lane:
    """One webhook. `ready` holds (daemon id, claim) pairs: leased, not started."""

    webhook_id: int
    webhook: Webhook | None = None
    builder: RequestBuilder | None = None
    ready: deque[tuple[int, Claim]] = field(default_factory=deque)
    running: int = 0
    #: Deliveries are due in the queue that were not claimed yet.
    backlog: bool = False
    #: Nothing due before it was left behind by the last claim; the next claim need not look there.
    floor: float = float("-inf")
    #: So many more are held as its receiver is fast: else its requests end while a claim is under way, and none begin.
    ahead: int = 0
    #: When the last claim for it was answered; monotonic.
    claimed_at: float = float("-inf")
    #: It stands in the line for a free request slot.
    queued: bool = False
    #: The version from which on its webhook is known to have limits; 0: it has none.
    limited_at: int = 0
    #: The limits of the webhook itself; 0 and None: it has none.
    most: int = 0
    rate: RateLimit | None = None
    #: The daemon's id under which the rate was counted. With a new one, somebody else may have sent meanwhile.
    rated_as: int = 0
    #: It is looked at again when its rate limit allows the next request; None: nothing waits for that.
    rate_alarm: TimerHandle | None = None
    #: Attempts that failed here since the last success.
    failures: int = 0
    #: Nothing is started before this moment: the receiver asked for it, or its circuit is open. 0.0: no such thing.
    held_until: float = 0.0

    @property
    def held(self) -> int:
        """How many deliveries are leased for it."""
        return len(self.ready) + self.running

    def room(self, prefetch: int) -> int:
        """How many deliveries it may hold: no more than it will start soon."""
        if self.most:
            prefetch = min(prefetch, 2 * self.most)
        if self.rate is not None:
            prefetch = min(prefetch, ceil(self.rate.rate) + A_FEW)
        return prefetch if self.most or self.rate else prefetch + self.ahead


class Lanes:
    """All lanes, the moments at which one has something due, and how much of each may be claimed."""

    def __init__(self, *, prefetch: int, capacity: int, reserve: int) -> None:
        self._lanes: dict[int, Lane] = {}
        self._due: list[tuple[float, int]] = []
        #: The same, to tell what is there already.
        self._moments: set[tuple[float, int]] = set()
        #: Leased at most per webhook: what may run at once, and as much again, so that no slot waits for a claim.
        self.prefetch = prefetch
        self.capacity = capacity
        self.reserve = reserve
        #: Webhooks with a backlog; whoever was asked for goes to the end.
        self._line: dict[int, None] = {}
        #: Webhooks for which nothing can be signed here now: nothing is claimed for them.
        self.silent: set[int] = set()

    @property
    def backlogged(self) -> KeysView[int]:
        """Webhooks of which deliveries are due in the queue."""
        return self._line.keys()

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def of(self, webhook_id: int) -> Lane:
        """The lane of a webhook, made at first sight."""
        lane = self._lanes.get(webhook_id)
        if lane is None:
            lane = self._lanes[webhook_id] = Lane(webhook_id)
        return lane

    def find(self, webhook_id: int) -> Lane | None:
        """The lane of a webhook, if there is one."""
        return self._lanes.get(webhook_id)

    # What is due in the queue ------------------------------------------------------------------------------------

    def has_backlog(self, webhook_id: int, due: float | None = None) -> None:
        """Something of this webhook is due in the queue; at `due`, which may lie below the floor."""
        lane = self.of(webhook_id)
        lane.backlog = True
        self._line.setdefault(webhook_id)
        if due is not None and due < lane.floor:
            lane.floor = due

    def due_at(self, webhook_id: int, moment: float, wait: float = 0.0) -> None:
        """Something of this webhook falls due at `moment`.

        `wait` is how far ahead that is: up to a hundredth of it may be added, so that a million retries that wait
        for an hour are a few hundred moments.
        """
        if wait:
            grain = 2.0 ** floor(log2(max(wait, _SHORTEST_WAIT) / 100))
            moment = ceil(moment / grain) * grain
        entry = (moment, webhook_id)
        if entry not in self._moments:
            self._moments.add(entry)
            heapq.heappush(self._due, entry)

    def next_due(self) -> float | None:
        """The earliest such moment."""
        return self._due[0][0] if self._due else None

    def fall_due(self, now: float) -> list[Lane]:
        """Lanes whose moment has come have a backlog. Those that were held back until now are returned."""
        let_go = []
        while self._due and self._due[0][0] <= now:
            entry = heapq.heappop(self._due)
            self._moments.remove(entry)
            lane = self.of(entry[1])
            if lane.held_until > now:
                continue
            if lane.held_until:
                lane.held_until = 0.0
                let_go.append(lane)
            self.has_backlog(lane.webhook_id)
        return let_go

    # What must wait ------------------------------------------------------------------------------------------------

    def hold(self, webhook_id: int, until: float) -> None:
        """Start nothing of this webhook before that moment; then look at it again."""
        lane = self.of(webhook_id)
        lane.held_until = max(lane.held_until, until)
        lane.backlog = False
        self._line.pop(webhook_id, None)
        self.due_at(webhook_id, until)

    def let_go(self, webhook_id: int, now: float) -> None:
        """Nothing holds it back any more."""
        lane = self.find(webhook_id)
        if lane is not None and lane.held_until:
            lane.failures, lane.held_until = 0, now
            self.due_at(webhook_id, now)

    # What may be claimed -----------------------------------------------------------------------------------------

    def room(self, held: int) -> int:
        """How many more may be held in all, when `held` are; negative once the reserve is being used."""
        return self.capacity - held

    def free(self, room: int) -> tuple[int, dict[int, int], int]:
        """What may be leased as it arrives: (in all, by webhook, of webhooks that are not named).

        None where older deliveries wait: they go first. Without room, a few of each out of the reserve.
        """
        by_webhook = {
            lane.webhook_id: 0
            if lane.backlog or lane.held_until
            else max(0, self._most(lane, room) - lane.held)
            for lane in self._lanes.values()
            if lane.backlog or lane.held or lane.held_until or lane.most or lane.rate is not None
        }
        by_webhook.update(dict.fromkeys(self.silent, 0))
        most = self.prefetch if room > 0 else min(self.prefetch, A_FEW)
        return (room if room > 0 else max(0, room + self.reserve)), by_webhook, most

    def _most(self, lane: Lane, room: int) -> int:
        """How many deliveries the lane may hold while there is so much room in all."""
        most = lane.room(self.prefetch)
        return most if room > 0 else min(most, A_FEW)

    def wanted(self, room: int, batch: int) -> list[tuple[int, int, float]]:
        """What to claim of the backlog: (webhook id, how many, floor), `batch` in all at most, shared fairly.

        A lane asks again only when half of what it may hold is gone: fewer, larger claims. Who holds least comes
        first, and once there is no room, those who hold next to nothing alone; of those who hold as much, who waits
        longest. With thousands of them a few hundred are compared at a time.
        """
        left = min(batch, room if room > 0 else room + self.reserve)
        if not self._line or left <= 0:
            return []
        hungry = list(
            islice((lane for lane in self._hungry() if lane.held < self._most(lane, room)), _COMPARED)
        )
        hungry.sort(key=lambda lane: lane.held)
        wanted = []
        for position, lane in enumerate(hungry):
            share = min(self._most(lane, room) - lane.held, max(1, left // (len(hungry) - position)))
            wanted.append((lane.webhook_id, share, lane.floor))
            left -= share
            if left <= 0:
                break
        for webhook_id, _, _ in wanted:
            self._line.pop(webhook_id)
            self._line[webhook_id] = None
        return wanted

    def is_hungry(self) -> bool:
        """Some lane with a backlog would ask for more."""
        return any(True for _ in self._hungry())

    def _hungry(self) -> Iterator[Lane]:
        """Lanes with a backlog that have lost half of what they may hold, in line."""
        for webhook_id in self._line:
            lane = self._lanes[webhook_id]
            if lane.held * 2 <= lane.room(self.prefetch) and webhook_id not in self.silent:
                yield lane

    def claimed(self, wanted: list[tuple[int, int, float]], claims: list[Claim], now: float) -> None:
        """A claim was answered: lanes that gave less than asked are drained, floors move up.

        Those that asked again soon hold more from now on.
        """
        count: dict[int, int] = {}
        highest: dict[int, float] = {}
        for claim in claims:
            count[claim.webhook_id] = count.get(claim.webhook_id, 0) + 1
            if claim.due is not None:
                highest[claim.webhook_id] = max(claim.due, highest.get(claim.webhook_id, claim.due))
        for webhook_id, places, _ in wanted:
            lane = self._lanes[webhook_id]
            lane.floor = max(lane.floor, highest.get(webhook_id, lane.floor))
            given = count.get(webhook_id, 0)
            if given < places:
                lane.backlog = False
                self._line.pop(webhook_id, None)
            used_up = given / max(now - lane.claimed_at, 0.001) * _AHEAD_SECONDS
            lane.ahead, lane.claimed_at = min(int(used_up), self.capacity // 4), now

    def forget_idle(self) -> None:
        """Drop lanes that hold nothing, so that memory follows what is alive."""
        idle = [
            lane.webhook_id
            for lane in self._lanes.values()
            # a rate limit remembers what was sent: without it, the next owner's wait would begin anew
            if not (lane.held or lane.backlog or lane.held_until or lane.rate is not None)
        ]
        for webhook_id in idle:
            del self._lanes[webhook_id]
