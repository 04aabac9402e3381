"""What this daemon has leased: from the answer to a claim until the outcome is recorded or the lease given back.

Learns the webhooks that claims are for, and hands deliveries to `slots`. Knows of every lease, so that those whose
claim was never answered can be told from the others.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from pgrelay.attempt import RetryPolicy, Send, attempt
from pgrelay.circuit import CircuitLimits
from pgrelay.delivery import AWAITED, Claim, Outcome, Verdict, Webhook
from pgrelay.errors import DatabaseUnavailable
from pgrelay.lanes import Lane, Lanes
from pgrelay.observation import DatabaseLost, Observation, WebhookUnsignable
from pgrelay.ratelimit import RateLimit
from pgrelay.request import RequestBuilder
from pgrelay.slots import Slots, Start

#: How long after the first count there is a second: longer than a statement usually may take
#: (database.statement_timeout), for the server may go on with a claim after the connection broke.
_COUNT_AGAIN = 35.0


class LeaseVerbs(Protocol):
    """The SQL verbs that holding leases needs; see db/store.py."""

    async def webhooks(self, ids: Sequence[int]) -> list[Webhook]: ...
    async def callable_versions(self, ids: Sequence[int]) -> dict[int, int]: ...
    async def give_back(self, daemon_id: int, delivery_ids: Sequence[int]) -> int: ...
    async def give_back_unknown(self, daemon_id: int, known_ids: Sequence[int]) -> int: ...
    async def cancel_gone(self, daemon_id: int, delivery_ids: Sequence[int]) -> None: ...


class Policy(NamedTuple):
    """How deliveries are made; replaced as a whole when the configuration is reloaded."""

    max_in_flight: int
    max_concurrency: int
    batch_size: int
    user_agent: str
    retry: RetryPolicy
    circuit: CircuitLimits


class Holdings:
    """`take` claims; every outcome goes to `record` and must come back through `recorded`."""

    def __init__(
        self,
        verbs: LeaseVerbs,
        lanes: Lanes,
        policy: Policy,
        *,
        send: Send,
        record: Callable[[int, Outcome], None],
        identity: Callable[[], int],
        may_start: Callable[[], bool],
        on_hunger: Callable[[], None],
        on_withdrawn: Callable[[], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._verbs = verbs
        self._lanes = lanes
        self._policy = policy
        self._send = send
        self._record = record
        self._identity = identity
        self._on_hunger = on_hunger
        self._on_withdrawn = on_withdrawn
        self._observe = observe
        self._slots = Slots(
            self._deliver,
            total=policy.max_in_flight,
            per_lane=policy.max_concurrency,
            may_start=may_start,
            on_done=self._done,
        )
        #: (delivery id, lease number) of all that is leased here and whose outcome is not recorded yet.
        self._mine: set[tuple[int, int]] = set()
        #: When those of them are too old to be sent that ever will be; monotonic.
        self._too_old: dict[tuple[int, int], float] = {}
        #: When to count next; None: there is no reason to.
        self._next_count: float | None = None
        #: Deliveries leased, under way or not.
        self.held = 0

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._slots.running

    # Forth -------------------------------------------------------------------------------------------------------

    async def take(self, identity: int, claims: list[Claim]) -> None:
        """Deliver what was claimed under the leases of `identity`, as slots come free."""
        unknown = {
            claim.webhook_id
            for claim in claims
            if (webhook := self._lanes.of(claim.webhook_id).webhook) is None
            or webhook.version < claim.webhook_version
        }
        gone = await self._learn(unknown) if unknown else frozenset()
        if gone:
            lost = [claim.delivery_id for claim in claims if claim.webhook_id in gone]
            await self._verbs.cancel_gone(identity, lost)
            claims = [claim for claim in claims if claim.webhook_id not in gone]
        if self._lanes.silent:
            await self._give_back([claim for claim in claims if claim.webhook_id in self._lanes.silent])
            claims = [claim for claim in claims if claim.webhook_id not in self._lanes.silent]
        if unlimited := [claim for claim in claims if self._is_unlimited(claim)]:
            await self._give_back(unlimited)
            claims = [claim for claim in claims if not self._is_unlimited(claim)]
        self.held += len(claims)
        for claim in claims:
            self._mine.add((claim.delivery_id, claim.lease_no))
            if claim.expires_in is not None:
                moment = asyncio.get_running_loop().time() + claim.expires_in
                self._too_old[claim.delivery_id, claim.lease_no] = moment
            lane = self._lanes.of(claim.webhook_id)
            if lane.rate is not None and lane.rated_as != identity:
                began = asyncio.get_running_loop().time()
                lane.rate = RateLimit(lane.rate.rate, began, lane.rate.unsent)
                lane.rated_as = identity
            lane.ready.append((identity, claim))
            self._slots.offer(lane)

    def adopt(self, policy: Policy) -> None:
        """Take new settings; requests that run keep theirs, webhooks are prepared anew."""
        self._policy = policy
        for lane in self._lanes:
            if lane.webhook is not None and lane.webhook.unsignable is None:
                lane.builder = RequestBuilder(lane.webhook, policy.user_agent)

    def allow(self, per_webhook: int) -> None:
        """So many requests at once to each webhook that has no limit of its own."""
        self._slots.per_lane = per_webhook
        for lane in self._lanes:
            self._slots.offer(lane)

    def offer(self, lane: Lane) -> None:
        """Start what the lane has ready, as far as it may."""
        self._slots.offer(lane)

    def resume(self) -> None:
        """Requests may start again."""
        self._slots.resume(self._lanes)

    def recorded(self, outcome: Outcome) -> None:
        """An outcome was written, or refused: the lease is over."""
        self._mine.discard((outcome.claim.delivery_id, outcome.claim.lease_no))

    async def hold(self, webhook_id: int, until: float) -> None:
        """Send nothing to a webhook before that moment; what is leased for it and not started goes back."""
        self._lanes.hold(webhook_id, until)
        await self._give_back(self.drop([self._lanes.of(webhook_id)]))

    async def recheck_webhooks(self) -> None:
        """Learn what changed of webhooks for which something waits here, give back what may not be sent now.

        And see whether there is a secret now for those that had none.
        """
        if self._lanes.silent:
            await self._learn(self._lanes.silent)
        waiting = [lane for lane in self._lanes if lane.ready]
        if not waiting:
            return
        versions = await self._verbs.callable_versions([lane.webhook_id for lane in waiting])
        if await self._give_back(self.drop(lane for lane in waiting if lane.webhook_id not in versions)):
            self._on_withdrawn()
        changed = [
            lane.webhook_id
            for lane in waiting
            if lane.webhook is not None and versions.get(lane.webhook_id, 0) > lane.webhook.version
        ]
        if changed:
            await self._learn(changed)
            for lane in waiting:
                self._slots.offer(lane)

    async def _learn(self, webhook_ids: Iterable[int]) -> frozenset[int]:
        """Read webhooks that are new or changed; the ids of those that are gone come back."""
        gone = set(webhook_ids)
        outdated = []
        for webhook in await self._verbs.webhooks(sorted(gone)):
            lane = self._lanes.of(webhook.id)
            lane.webhook = webhook
            if webhook.max_concurrency is None and webhook.rate_limit is None:
                lane.limited_at = 0
            elif not lane.limited_at:
                lane.limited_at = webhook.version
                self._lanes.has_backlog(webhook.id)
                outdated.append(lane)
            lane.most = webhook.max_concurrency or 0
            if webhook.rate_limit != (None if lane.rate is None else lane.rate.rate):
                began = asyncio.get_running_loop().time()
                unsent = () if lane.rate is None else lane.rate.unsent
                lane.rate = (
                    None if webhook.rate_limit is None else RateLimit(webhook.rate_limit, began, unsent)
                )
            gone.discard(webhook.id)
            if webhook.unsignable is None:
                lane.builder = RequestBuilder(webhook, self._policy.user_agent)
                if webhook.id in self._lanes.silent:
                    self._lanes.silent.discard(webhook.id)
                    self._lanes.has_backlog(webhook.id, float("-inf"))
            else:
                self._silence(webhook, webhook.unsignable)
                outdated.append(lane)
        self._lanes.silent -= gone
        await self._give_back(self.drop(outdated))
        return frozenset(gone)

    def _is_unlimited(self, claim: Claim) -> bool:
        """It was leased before its webhook had limits: whoever serves that one now may be another daemon."""
        return claim.webhook_version < self._lanes.of(claim.webhook_id).limited_at

    def _silence(self, webhook: Webhook, reason: str) -> None:
        """Claim nothing for a webhook whose requests cannot be signed here: its deliveries wait, or are another's."""
        if webhook.id not in self._lanes.silent and reason != AWAITED:
            self._observe(WebhookUnsignable(webhook.id, webhook.name, reason))
        self._lanes.silent.add(webhook.id)

    async def _deliver(self, lane: Lane, start: Start) -> None:
        identity, claim, rated = start
        webhook, builder = lane.webhook, lane.builder
        assert webhook is not None and builder is not None, (
            "take() learns a webhook before it offers its lane"
        )
        if claim.expires_in is not None and self._is_too_old(claim):
            self._mine.discard((claim.delivery_id, claim.lease_no))
            if rated is not None and lane.rate is not None:
                lane.rate.withdraw(rated)
            await self._give_back([claim])  # pending again, it expires
            return
        if rated is None:
            outcome = await attempt(claim, webhook, builder, self._policy.retry, self._send)
        else:
            clock = asyncio.get_running_loop().time

            def sent() -> None:
                rated.sent_at = clock()

            outcome = await attempt(claim, webhook, builder, self._policy.retry, self._send, sent)
            if rated.sent_at is None:
                sent()
        if outcome.verdict is Verdict.SUCCEEDED:
            lane.failures = 0
        else:
            self._pause(lane, outcome)
        self._record(identity, outcome)

    def _pause(self, lane: Lane, outcome: Outcome) -> None:
        """Begin nothing more before the database, which all daemons ask, can say for how long."""
        lane.failures += 1
        circuit = self._policy.circuit
        seconds = outcome.hold or 0.0
        if 0 < circuit.open_after <= lane.failures:
            seconds = max(seconds, circuit.first_wait)
        if seconds:
            self._lanes.hold(lane.webhook_id, asyncio.get_running_loop().time() + seconds)

    def _is_too_old(self, claim: Claim) -> bool:
        moment = self._too_old.pop((claim.delivery_id, claim.lease_no))
        return asyncio.get_running_loop().time() >= moment

    def _done(self, lane: Lane) -> None:
        self.held -= 1
        if lane.backlog and lane.held * 2 <= lane.room(self._lanes.prefetch):
            self._on_hunger()

    # And back ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Start nothing any more."""
        self._slots.close()

    async def give_all_back(self) -> int:
        """Return what was not started; how many the database took."""
        return await self._give_back(self.drop())

    async def drain(self, timeout: float) -> None:
        """Let requests end, cut off those that take longer than so many seconds."""
        await self._slots.drain(timeout)

    def drop(self, lanes: Iterable[Lane] | None = None) -> list[Claim]:
        """Forget what is leased and not started, of these lanes or of all."""
        dropped = []
        for lane in self._lanes if lanes is None else lanes:
            dropped += [claim for _, claim in lane.ready]
            lane.ready.clear()
        self.held -= len(dropped)
        for claim in dropped:
            self._mine.discard((claim.delivery_id, claim.lease_no))
            self._too_old.pop((claim.delivery_id, claim.lease_no), None)
        return dropped

    def count_soon(self) -> None:
        """The answer to a claim may have been lost."""
        self._next_count = 0.0

    async def count(self, identity: int, now: float) -> None:
        """If there is reason to: give back what is leased here though nobody here knows of it."""
        if self._next_count is None or now < self._next_count:
            return
        first = self._next_count == 0.0
        await self._verbs.give_back_unknown(identity, [delivery_id for delivery_id, _ in self._mine])
        self._next_count = now + _COUNT_AGAIN if first else None

    async def _give_back(self, claims: Sequence[Claim]) -> int:
        if not claims:
            return 0
        try:
            return await self._verbs.give_back(self._identity(), [claim.delivery_id for claim in claims])
        except DatabaseUnavailable as error:
            self.count_soon()
            self._observe(DatabaseLost("claim", error.message, 0.0))
            return 0
