"""The loop that finds work: expand new events, claim what is due, hand it on.

`pacing` says when to look, `lanes` how much of what to claim, `holdings` takes what was claimed. Outlasts the loss of
the database.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from pgrelay.attempt import Send
from pgrelay.circuit import WebhookState
from pgrelay.delivery import Claim, Outcome
from pgrelay.errors import DatabaseUnavailable
from pgrelay.holdings import Holdings, LeaseVerbs, Policy
from pgrelay.lanes import Lanes
from pgrelay.observation import Claimed, DatabaseBack, DatabaseLost, Expanded, Observation
from pgrelay.pacing import Action, Mode, Pace

_MAX_BACKOFF = 5.0
_FORGET_EVERY = 60.0
#: A scan for work that others left may take this part of the time at most.
_SCAN_SHARE = 0.02
_SCANNED = 500
#: Looks for new events to one such scan, while notifications arrive and nothing happens.
_QUIET_SCAN = 5
#: How soon to look again when nothing may start, or there is no room for what waits.
_NO_ROOM_POLL = 0.05
#: A retry is looked for this much after it falls due: the daemon's clock and the database's tick differently.
_DUE_SLACK = 0.01
#: How often other daemons are told of a backlog at most: they would find it by themselves, later.
_TELL_EVERY = 0.5
#: How long the last claim may take when the daemon stops.
_LAST_CLAIM = 5.0


class Step(Protocol):
    """What one step of expanding gave. `refused`: nothing, for another daemon is at it."""

    claims: list[Claim]
    backlog: dict[int, int]
    more: bool
    refused: bool

    @property
    def deliveries(self) -> int: ...


class PendingWebhook(Protocol):
    """A webhook with pending deliveries."""

    @property
    def webhook_id(self) -> int: ...
    @property
    def due_in(self) -> float: ...
    @property
    def due(self) -> float: ...


class Verbs(LeaseVerbs, Protocol):
    """The SQL verbs that claiming needs; see db/store.py."""

    async def expand(
        self, daemon_id: int, *, limit: int, room: int, free: dict[int, int], default_free: int
    ) -> Step: ...
    async def claim(self, daemon_id: int, wanted: Sequence[tuple[int, int, float]]) -> list[Claim]: ...
    async def pending_webhooks(
        self, daemon_id: int, after: int = 0, limit: int = 500
    ) -> Sequence[PendingWebhook]: ...
    async def want_bell(self, wanted: bool) -> None: ...
    async def tell_daemons(self) -> None: ...
    async def draw_transaction_id(self) -> int: ...
    async def oldest_running(self) -> int: ...


class Deliverer:
    """Runs from `run()` until `stop()`. `send` makes one request, `record` takes an outcome, neither may raise.

    `identity` gives the id that leases are taken under, `may_start` says whether a request may begin now (the lease
    holds, and there is room to remember its outcome). Every outcome must come back through `recorded`. `on_withdrawn`
    hears that a webhook may not be called any more, and that its leases went back: something may be owed to nobody.
    """

    def __init__(
        self,
        verbs: Verbs,
        pace: Pace,
        policy: Policy,
        *,
        send: Send,
        record: Callable[[int, Outcome], None],
        identity: Callable[[], int],
        may_start: Callable[[], bool],
        observe: Callable[[Observation], None],
        on_withdrawn: Callable[[], None] = lambda: None,
    ) -> None:
        self._verbs = verbs
        self._policy = policy
        self._daemons = 1
        self._pace = pace
        self._batch = policy.batch_size
        self._identity = identity
        self._may_start = may_start
        self._observe = observe
        self._on_withdrawn = on_withdrawn
        self._wake = asyncio.Event()
        self._lanes = Lanes(
            prefetch=policy.max_concurrency * 2,
            capacity=policy.max_in_flight * 2,
            reserve=max(1, policy.max_in_flight // 2),
        )
        self._holdings = Holdings(
            verbs,
            self._lanes,
            policy,
            send=send,
            record=record,
            identity=identity,
            may_start=may_start,
            on_hunger=self._wake.set,
            on_withdrawn=on_withdrawn,
            observe=observe,
        )
        self._announced = False
        self._short_of_room = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        #: When to look for new events, unless they are announced before.
        self._next_expand = 0.0
        #: Before it, other daemons are not told of a backlog again.
        self._next_tell = 0.0
        self._next_scan = 0.0
        self._no_scan_before = 0.0
        self._scan_after = 0
        self._next_forget = 0.0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._holdings.in_flight

    @property
    def held(self) -> int:
        """Deliveries leased, under way or not."""
        return self._holdings.held

    def name_of(self, webhook_id: int) -> str:
        """The name of a webhook, as far as it is known here."""
        lane = self._lanes.find(webhook_id)
        return "" if lane is None or lane.webhook is None else lane.webhook.name

    # What others tell it -----------------------------------------------------------------------------------------

    def notified(self, settle: bool = False) -> None:
        """Somebody says there is something new. `settle`: a daemon that left, and may have left the bell off."""
        if settle:
            self._pace.unsettle()
            self._next_expand = 0.0
        self._announced = True
        self._wake.set()

    def poll(self) -> None:
        """There are events that no notification told of."""
        self._next_expand = 0.0
        self._wake.set()

    def look_everywhere(self) -> None:
        """Trust nothing that was known: a daemon died, or notifications may have been missed."""
        self._pace.unsettle()
        self._next_expand = self._next_scan = 0.0
        self._wake.set()

    def listening(self, hears: bool) -> None:
        """Notifications arrive, or do not."""
        self._pace.listening(hears)
        # what was said before anybody listened is not said again: of new events, and of old ones that are due
        self._next_expand = self._next_scan = 0.0
        self._wake.set()

    def adopt(self, policy: Policy) -> None:
        """Take new settings."""
        self._policy = policy
        self._holdings.adopt(policy)
        self._allow()

    def share_with(self, daemons: int) -> None:
        """So many daemons, this one included, send to webhooks that have no limit of their own."""
        if daemons != self._daemons:
            self._daemons = daemons
            self._allow()

    def _allow(self) -> None:
        """An equal share of the requests that one webhook may be sent at once, and what is leased ahead for them."""
        share = max(1, self._policy.max_concurrency // max(1, self._daemons))
        self._lanes.prefetch = share * 2
        self._holdings.allow(share)

    def recorded(self, outcome: Outcome, *, fenced: bool = False) -> None:
        """An outcome was written, or refused; one that is tried again falls due so many seconds from now."""
        self._holdings.recorded(outcome)
        if fenced:
            return
        webhook_id = outcome.claim.webhook_id
        if outcome.retry_in is not None:
            moment = asyncio.get_running_loop().time() + outcome.retry_in + _DUE_SLACK
            self._lanes.due_at(webhook_id, moment, outcome.retry_in)
            self._wake.set()
        elif (lane := self._lanes.find(webhook_id)) and lane.webhook and lane.webhook.ordered:
            # the next of its resource may be due now
            self._lanes.has_backlog(webhook_id)
            self._wake.set()

    async def heed(self, state: WebhookState) -> None:
        """A webhook is held back, or is not any more."""
        now = asyncio.get_running_loop().time()
        if state.held_for is not None:
            await self._holdings.hold(state.webhook_id, now + state.held_for)
        elif state.state == "closed":
            self._lanes.let_go(state.webhook_id, now)
        elif state.state == "disabled":
            self._on_withdrawn()
        self._wake.set()

    def abandon(self) -> None:
        """Drop what was leased and not started: it belongs to somebody else now."""
        self._holdings.drop()
        self.look_everywhere()

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim and deliver until stopped."""
        loop = asyncio.get_running_loop()
        backoff, lost_at = 0.1, 0.0
        try:
            while not self._stopping.is_set():
                try:
                    if await self._look(loop.time()):
                        await asyncio.sleep(0)
                    else:
                        await self._sleep()
                    if lost_at:
                        self._observe(DatabaseBack("claim", loop.time() - lost_at))
                        backoff, lost_at = 0.1, 0.0
                except DatabaseUnavailable as error:
                    if not lost_at:
                        lost_at = loop.time()
                        self._observe(DatabaseLost("claim", error.message, backoff))
                    self._holdings.count_soon()
                    self._next_expand = self._next_scan = 0.0
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(backoff):
                            await self._stopping.wait()
                    backoff = min(backoff * 2, _MAX_BACKOFF)
        finally:
            self._ended.set()

    async def stop(self, drain_timeout: float) -> int:
        """Claim no more, give back what was not started, let requests end; cut off what lasts longer.

        How many deliveries went back.
        """
        self._holdings.close()
        self._stopping.set()
        self._wake.set()
        given_back = await self._holdings.give_all_back()
        # a claim that is under way leases more: what it brings goes back too, and if it never ends, lapses
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CLAIM):
                await self._ended.wait()
        given_back += await self._holdings.give_all_back()
        await self._holdings.drain(drain_timeout)
        return given_back

    async def _look(self, now: float) -> bool:
        """One round: settle the bell, expand, claim. True when there is more to do at once."""
        identity, lanes, holdings = self._identity(), self._lanes, self._holdings
        if not self._may_start():
            self._short_of_room = True
            return False
        holdings.resume()
        await holdings.count(identity, now)
        announced, more = self._announced, False
        # while a backlog is worked off there are many rounds, and new events are looked for no more often for that
        if announced or now >= self._next_expand:
            self._announced = False
            more = await self._expand(identity, now, announced)
            self._next_expand = 0.0 if more else now + self._pace.delay()
        if now >= self._next_scan:
            await self._scan()
        for lane in lanes.fall_due(now):
            holdings.offer(lane)
        wanted = lanes.wanted(lanes.room(holdings.held), self._batch)
        if wanted:
            claims = await self._verbs.claim(identity, wanted)
            lanes.claimed(wanted, claims, asyncio.get_running_loop().time())
            if claims:
                self._observe(Claimed(len(claims)))
                await holdings.take(identity, claims)
        if now >= self._next_forget:
            lanes.forget_idle()
            self._next_forget = now + _FORGET_EVERY
        has_room = lanes.room(holdings.held) > 0
        self._short_of_room = not has_room and bool(lanes.backlogged)
        return more or (has_room and lanes.is_hungry())

    async def _expand(self, identity: int, now: float, announced: bool) -> bool:
        """Turn new events into deliveries, leased as far as there is room. True when there are more of them."""
        lanes, holdings = self._lanes, self._holdings
        await self._tend_bell()
        room, free, default_free = lanes.free(lanes.room(holdings.held))
        step = await self._verbs.expand(
            identity, limit=self._batch, room=min(self._batch, room), free=free, default_free=default_free
        )
        if step.refused:
            self._pace.refused(announced)
        else:
            self._pace.looked(now, step.deliveries, announced)
            if step.deliveries:
                self._observe(Expanded(len(step.claims), step.deliveries - len(step.claims)))
            for webhook_id in step.backlog:
                lanes.has_backlog(webhook_id)
            if step.claims:
                await holdings.take(identity, step.claims)
            if step.backlog and self._daemons > 1 and now >= self._next_tell:
                self._next_tell = now + _TELL_EVERY
                await self._verbs.tell_daemons()
        if announced and not step.deliveries:
            # nothing new, so something old: a retry, a replay, a webhook that goes on
            self._next_scan = min(self._next_scan, self._no_scan_before)
        return step.more or len(step.claims) >= self._batch

    async def _tend_bell(self) -> None:
        match self._pace.action():
            case Action.SILENCE:
                await self._verbs.want_bell(False)
            case Action.RING:
                await self._verbs.want_bell(True)
                self._pace.rang(await self._verbs.draw_transaction_id())
            case Action.CHECK:
                self._pace.horizon(await self._verbs.oldest_running())
            case Action.NONE:
                pass

    async def _scan(self) -> None:
        """Find pending deliveries that others left or made due: a slice of the webhooks, soon the next, then a rest."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await self._verbs.pending_webhooks(self._identity(), self._scan_after, _SCANNED)
        after = loop.time()
        # while all is quiet what falls due is known here, and whoever changes anything rings the bell
        interval = self._pace.poll_interval * (_QUIET_SCAN if self._pace.mode is Mode.QUIET else 1)
        for pending in found:
            if pending.due_in <= 0.0:
                self._lanes.has_backlog(pending.webhook_id, pending.due)
            elif pending.due_in < 2 * interval:
                self._lanes.due_at(pending.webhook_id, after + pending.due_in)
        self._scan_after = found[-1].webhook_id if len(found) == _SCANNED else 0
        await self._holdings.recheck_webhooks()
        after = loop.time()
        self._no_scan_before = after + (after - began) / _SCAN_SHARE
        self._next_scan = (
            self._no_scan_before if self._scan_after else max(after + interval, self._no_scan_before)
        )

    async def _sleep(self) -> None:
        """Until woken, or the next poll, scan or due delivery."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._short_of_room:
            moment = now + _NO_ROOM_POLL
        else:
            due = self._lanes.next_due()
            moment = min(self._next_expand, self._next_scan, self._next_scan if due is None else due)
        alarm = loop.call_at(moment, self._wake.set)
        await self._wake.wait()
        alarm.cancel()
        self._wake.clear()
