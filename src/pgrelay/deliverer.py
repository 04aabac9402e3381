"""Claim, send, decide, hand on: the way of a delivery through the daemon.

One loop claims; each request runs in a worker of its own, at most `max_concurrency` of a webhook and `max_in_flight` in
all. Slots go round: a webhook that waits for one gets the next that comes free, so many slow requests of one webhook
never keep another from its turn for longer than one request.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from pgrelay.delivery import Claim, ErrorKind, Failure, Outcome, Request, Response, Verdict, Webhook
from pgrelay.errors import DatabaseUnavailable
from pgrelay.lanes import Lane, Lanes
from pgrelay.observation import DatabaseBack, DatabaseLost, Observation
from pgrelay.pacing import Action, Pace
from pgrelay.request import RequestBuilder
from pgrelay.retry import Decision, decide

_MAX_BACKOFF = 5.0
_FORGET_EVERY = 60.0
#: A scan for work that others left may take this part of the time at most.
_SCAN_SHARE = 0.02
_NO_ROOM_POLL = 0.05
#: A retry is looked for this much after it falls due: the daemon's clock and the database's tick differently.
_DUE_SLACK = 0.01


class Step(Protocol):
    """What one step of expanding gave."""

    claims: list[Claim]
    backlog: dict[int, int]
    more: bool

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


class Verbs(Protocol):
    """The SQL verbs that claiming needs; see db/store.py."""

    async def expand(
        self, daemon_id: int, *, limit: int, room: int, free: dict[int, int], default_free: int
    ) -> Step: ...
    async def claim(self, daemon_id: int, wanted: Sequence[tuple[int, int, float]]) -> list[Claim]: ...
    async def pending_webhooks(self, after: int = 0, limit: int = 500) -> Sequence[PendingWebhook]: ...
    async def webhooks(self, ids: Sequence[int]) -> list[Webhook]: ...
    async def give_back(self, daemon_id: int, delivery_ids: Sequence[int]) -> int: ...
    async def cancel_gone(self, daemon_id: int, delivery_ids: Sequence[int]) -> None: ...
    async def want_bell(self, wanted: bool) -> None: ...
    async def running_transactions(self) -> tuple[int, int]: ...


class Policy(NamedTuple):
    """How deliveries are made; replaced as a whole when the configuration is reloaded. Seconds."""

    max_in_flight: int
    max_concurrency: int
    batch_size: int
    user_agent: str
    retry_schedule: tuple[float, ...]
    retry_jitter: float
    max_retry_wait: float


class Deliverer:
    """Runs from `run()` until `stop()`. `send` makes one request, `record` takes an outcome, neither may raise.

    `identity` gives the id that leases are taken under, `may_start` says whether a request may begin now (the lease
    holds, and there is room to remember its outcome).
    """

    def __init__(
        self,
        verbs: Verbs,
        pace: Pace,
        policy: Policy,
        *,
        send: Callable[[Request], Awaitable[Response | Failure]],
        record: Callable[[int, Outcome], None],
        identity: Callable[[], int],
        may_start: Callable[[], bool],
        observe: Callable[[Observation], None],
    ) -> None:
        self._verbs = verbs
        self._pace = pace
        self._policy = policy
        self._send = send
        self._record = record
        self._identity = identity
        self._may_start = may_start
        self._observe = observe
        self._lanes = Lanes(policy.max_concurrency * 2)
        self._line: deque[Lane] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._running = 0
        self._held = 0
        self._wake = asyncio.Event()
        self._notified = False
        self._stopping = False
        self._next_scan = 0.0
        self._scan_after = 0
        self._next_forget = 0.0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._running

    @property
    def held(self) -> int:
        """Deliveries leased, under way or not."""
        return self._held

    def name_of(self, webhook_id: int) -> str:
        """The name of a webhook, as far as it is known here."""
        webhook = self._lanes.of(webhook_id).webhook
        return "" if webhook is None else webhook.name

    def wake(self) -> None:
        """Look now: a notification, or a guess that there may be work."""
        self._notified = True
        self._wake.set()

    def listening(self, hears: bool) -> None:
        """Notifications arrive, or do not."""
        self._pace.listening(hears)
        self._wake.set()

    def adopt(self, policy: Policy) -> None:
        """Take new settings; requests that run keep theirs, webhooks are prepared anew."""
        self._policy = policy
        self._lanes.prefetch = policy.max_concurrency * 2
        for lane in self._lanes:
            if lane.webhook is not None:
                lane.builder = RequestBuilder(lane.webhook, policy.user_agent)

    def recorded(self, outcome: Outcome) -> None:
        """An outcome was written: one that is tried again falls due so many seconds from now."""
        if outcome.retry_in is not None:
            moment = asyncio.get_running_loop().time() + outcome.retry_in + _DUE_SLACK
            self._lanes.due_at(outcome.claim.webhook_id, moment)
            self._wake.set()

    def abandon(self) -> None:
        """Drop what was leased and not started: it belongs to somebody else now."""
        for lane in self._lanes:
            self._held -= len(lane.ready)
            lane.ready.clear()
        self._next_scan = 0.0
        self._wake.set()

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claim and deliver until stopped. Outlasts the loss of the database."""
        loop = asyncio.get_running_loop()
        backoff, lost_at = 0.1, 0.0
        while not self._stopping:
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
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
                self._next_scan = 0.0

    async def stop(self, drain_timeout: float) -> int:
        """Claim no more, give back what was not started, let requests end; cut off what lasts longer. How many went back."""
        self._stopping = True
        self._wake.set()
        unstarted = [claim.delivery_id for lane in self._lanes for _, claim in lane.ready]
        self.abandon()
        given_back = 0
        if unstarted:
            try:
                given_back = await self._verbs.give_back(self._identity(), unstarted)
            except DatabaseUnavailable as error:
                self._observe(DatabaseLost("claim", error.message, 0.0))
        if self._workers:
            _, late = await asyncio.wait(self._workers, timeout=drain_timeout)
            for worker in late:
                worker.cancel()
            if late:
                await asyncio.wait(late)
        return given_back

    async def _look(self, now: float) -> bool:
        """One round: settle the bell, expand, claim. True when there is more to do at once."""
        identity = self._identity()
        policy = self._policy
        notified, self._notified = self._notified, False
        await self._tend_bell()
        if not self._may_start():
            return False
        room = min(policy.batch_size, policy.max_in_flight * 2 - self._held)
        step = await self._verbs.expand(
            identity, limit=policy.batch_size, room=max(0, room), free=self._lanes.free(), default_free=self._lanes.prefetch
        )
        self._pace.looked(now, step.deliveries, notified)
        for webhook_id in step.backlog:
            self._lanes.has_backlog(webhook_id)
        await self._dispatch(identity, step.claims)
        if now >= self._next_scan:
            await self._scan(now)
        self._lanes.fall_due(now)
        wanted = self._lanes.wanted(min(policy.batch_size, policy.max_in_flight * 2 - self._held))
        if wanted:
            claims = await self._verbs.claim(identity, wanted)
            self._lanes.claimed(wanted, claims)
            await self._dispatch(identity, claims)
        if now >= self._next_forget:
            self._lanes.forget_idle()
            self._next_forget = now + _FORGET_EVERY
        return step.more or len(step.claims) >= policy.batch_size or bool(self._lanes.wanted(policy.max_in_flight * 2 - self._held))

    async def _tend_bell(self) -> None:
        match self._pace.action():
            case Action.SILENCE:
                await self._verbs.want_bell(False)
            case Action.RING:
                await self._verbs.want_bell(True)
                self._pace.rang((await self._verbs.running_transactions())[1])
            case Action.CHECK:
                self._pace.horizon((await self._verbs.running_transactions())[0])
            case Action.NONE:
                pass

    async def _scan(self, now: float) -> None:
        """Find pending deliveries that others left or made due: a slice of the webhooks, then the next."""
        loop = asyncio.get_running_loop()
        found = await self._verbs.pending_webhooks(self._scan_after, 500)
        after = loop.time()
        for pending in found:
            if pending.due_in <= 0.0:
                self._lanes.has_backlog(pending.webhook_id, pending.due)
            elif pending.due_in < 2 * self._pace.poll_interval:
                self._lanes.due_at(pending.webhook_id, after + pending.due_in)
        self._scan_after = found[-1].webhook_id if len(found) == 500 else 0
        self._next_scan = after + max(self._pace.poll_interval, (after - now) / _SCAN_SHARE)

    async def _sleep(self) -> None:
        """Until woken, or the next poll, scan or due delivery."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        moments = [now + self._pace.delay(), max(self._next_scan, now + _NO_ROOM_POLL)]
        due = self._lanes.next_due()
        if due is not None:
            moments.append(due)
        alarm = loop.call_at(min(moments), self._wake.set)
        await self._wake.wait()
        alarm.cancel()
        self._wake.clear()

    # From a claim to a worker ----------------------------------------------------------------------------------------

    async def _dispatch(self, identity: int, claims: list[Claim]) -> None:
        if not claims:
            return
        self._held += len(claims)
        unknown = {
            claim.webhook_id
            for claim in claims
            if (webhook := self._lanes.of(claim.webhook_id).webhook) is None or webhook.version < claim.webhook_version
        }
        gone = await self._learn(unknown) if unknown else frozenset()
        if gone:
            lost = [claim.delivery_id for claim in claims if claim.webhook_id in gone]
            self._held -= len(lost)
            await self._verbs.cancel_gone(identity, lost)
        for claim in claims:
            if claim.webhook_id not in gone:
                lane = self._lanes.of(claim.webhook_id)
                lane.ready.append((identity, claim))
                self._start(lane)

    async def _learn(self, webhook_ids: set[int]) -> frozenset[int]:
        """Read webhooks that are new or changed; the ids of those that are gone come back."""
        for webhook in await self._verbs.webhooks(sorted(webhook_ids)):
            lane = self._lanes.of(webhook.id)
            lane.webhook = webhook
            lane.builder = RequestBuilder(webhook, self._policy.user_agent)
            webhook_ids.discard(webhook.id)
        return frozenset(webhook_ids)

    def _start(self, lane: Lane) -> None:
        """Give the lane a slot if it may have one, else put it in the line for one."""
        if not lane.ready or lane.running >= self._policy.max_concurrency:
            return
        if self._running < self._policy.max_in_flight:
            self._running += 1
            lane.running += 1
            worker = asyncio.get_running_loop().create_task(self._work(lane))
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        elif not lane.queued:
            lane.queued = True
            self._line.append(lane)

    async def _work(self, lane: Lane) -> None:
        """Use one slot, for one delivery after the other, as long as there is any."""
        try:
            while lane.ready:
                identity, claim = lane.ready.popleft()
                await self._deliver(lane, identity, claim)
                self._held -= 1
                if lane.backlog and lane.held * 2 <= self._lanes.prefetch:
                    self._wake.set()
                if self._line:
                    lane = self._pass_on(lane)
        finally:
            self._running -= 1
            lane.running -= 1
            if self._line and not self._stopping:
                following = self._line.popleft()
                following.queued = False
                self._start(following)

    def _pass_on(self, lane: Lane) -> Lane:
        """The slot goes to the lane that waited longest; this one lines up again if it has more."""
        following = self._line.popleft()
        following.queued = False
        if not following.ready or following.running >= self._policy.max_concurrency:
            return lane
        lane.running -= 1
        following.running += 1
        if lane.ready and not lane.queued:
            lane.queued = True
            self._line.append(lane)
        return following

    async def _deliver(self, lane: Lane, identity: int, claim: Claim) -> None:
        """Build, send, decide, hand on."""
        started = asyncio.get_running_loop().time()
        webhook, builder = lane.webhook, lane.builder
        if webhook is None or builder is None or claim.body is None:
            missing = Failure(ErrorKind.PROTOCOL, "the event is no longer kept: there is no body to send")
            decision = Decision(Verdict.FAILED, None, missing.kind, missing.message)
            self._record(identity, _outcome(claim, decision, started, missing, "{}"))
            return
        request = builder.build(claim, int(time.time()))
        try:
            result = await self._send(request)
        except asyncio.CancelledError:
            # the drain is over: whether the receiver got it, nobody knows
            elapsed = asyncio.get_running_loop().time() - started
            result = Failure(ErrorKind.SHUTDOWN, "the daemon stopped before an answer came", elapsed)
        policy = self._policy
        decision = decide(
            result,
            attempt=claim.attempt,
            max_attempts=webhook.max_retry_attempts,
            schedule=policy.retry_schedule if webhook.retry_schedule is None else webhook.retry_schedule,
            now=datetime.now(UTC),
            jitter_fraction=policy.retry_jitter * random.random() if policy.retry_jitter else 0.0,
            max_wait=policy.max_retry_wait,
        )
        self._record(identity, _outcome(claim, decision, started, result, builder.recorded_headers(request)))


def _outcome(claim: Claim, decision: Decision, started: float, result: Response | Failure, request_headers: str) -> Outcome:
    return Outcome(
        claim, decision.verdict, started, result.duration, decision.status_code, decision.error_kind, decision.error_message,
        decision.retry_in, request_headers,
        _recorded(result) if isinstance(result, Response) else None,
        result.body if isinstance(result, Response) else None,
    )  # fmt: skip


def _recorded(response: Response) -> str:
    """Response headers as JSON text; cookies are credentials, so their values are masked."""
    return json.dumps({name: "***" if name.lower() == "set-cookie" else value for name, value in response.headers.items()})
