"""The SQL verbs of the daemon, one method each: rows to nouns, nouns to rows. The only place that knows column order.

Every verb is one statement calling one function of the schema pgrelay; what it promises stands there (\\df+ pgrelay.*).
All may raise DatabaseUnavailable, and then may or may not have happened.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from psycopg import AsyncConnection

from pgrelay.circuit import CircuitLimits, Report, WebhookState
from pgrelay.db import health
from pgrelay.db.arrays import bigints, doubles, integers, texts
from pgrelay.db.connect import Link
from pgrelay.db.health import Health
from pgrelay.delivery import AWAITED, Claim, Outcome, Webhook
from pgrelay.sealing import Kept, Keyring, Unopened


@dataclass(slots=True)
class Expansion:
    """What a step of expanding gave: leased deliveries, webhooks with a backlog now, and whether to go on at once."""

    claims: list[Claim] = field(default_factory=list)
    #: webhook id -> deliveries that are pending since this step
    backlog: dict[int, int] = field(default_factory=dict)
    more: bool = False
    #: Nothing was looked at: another daemon is expanding.
    refused: bool = False

    @property
    def deliveries(self) -> int:
        """How many deliveries this step made."""
        return len(self.claims) + sum(self.backlog.values())


class Pending(NamedTuple):
    """A webhook with pending deliveries: when its first is due, in seconds from now and in epoch seconds."""

    webhook_id: int
    due_in: float
    due: float


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A daemon that died, and what became of its deliveries."""

    daemon_id: int
    pending: int
    failed: int


class Due(NamedTuple):
    """What waits to be done; see glance() in SQL."""

    events: bool
    deadline_in: float | None
    expired: bool
    lapsed: bool
    counted: bool
    replays: bool
    #: How many share the work.
    daemons: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Deadlines that fired or were dropped, and the seconds until the next one (None: none is armed)."""

    fired: int
    dropped: int
    next_in: float | None


class Fed(NamedTuple):
    """A replay that got on, ended, or had to be stopped; `added` is how many deliveries it was given now."""

    replay_id: int
    webhook_id: int
    added: int
    status: str
    events: int
    queued: int
    skipped: int
    note: str | None


class Store:
    """The verbs over one link. Give each task that must not wait for another a store of its own.

    `on_round_trip(verb, seconds)` hears of every statement that was answered.
    """

    def __init__(
        self,
        link: Link,
        encoding: str = "UTF8",
        keys: Keyring | None = None,
        *,
        on_round_trip: Callable[[str, float], None] | None = None,
    ) -> None:
        self._link = link
        #: Open what is sealed.
        self._keys = Keyring() if keys is None else keys
        self._on_round_trip = on_round_trip
        #: What bodies are converted to; SQL_ASCII in a database of that encoding, whose bytes mean nothing certain.
        self.encoding = encoding

    async def _rows(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async def verb(connection: AsyncConnection) -> list[tuple[Any, ...]]:
            began = time.monotonic()
            cursor = await connection.execute(query.encode(), parameters, binary=True)
            rows = await cursor.fetchall()
            if self._on_round_trip is not None:
                self._on_round_trip(verb_of(query), time.monotonic() - began)
            return rows

        return await self._link.run(verb)

    # Path of a delivery ------------------------------------------------------------------------------------------

    async def expand(
        self, daemon_id: int, *, limit: int, room: int, free: Mapping[int, int], default_free: int
    ) -> Expansion:
        """New events become deliveries; up to `room` are leased, per webhook `free`, else `default_free`."""
        rows = await self._rows(
            "select * from pgrelay.expand(%s, %s, %s, %s::bigint[], %s::integer[], %s, %s::name)",
            daemon_id, limit, room, bigints(list(free)), integers(list(free.values())), default_free, self.encoding,
        )  # fmt: skip
        expansion = Expansion()
        arrived = time.monotonic()
        for row in rows:
            if row[0] is not None:
                expansion.claims.append(Claim._make((*row, arrived)))
            elif row[2] is not None:
                expansion.backlog[row[2]] = row[5]
            elif row[5] == -1:
                expansion.refused = True
            elif row[5] is None:
                expansion.more = True
        return expansion

    async def claim(self, daemon_id: int, wanted: Sequence[tuple[int, int, float]]) -> list[Claim]:
        """Lease due deliveries: `wanted` is (webhook id, at most so many, floor in epoch seconds) each."""
        rows = await self._rows(
            "select * from pgrelay.claim(%s, %s::bigint[], %s::integer[], %s::double precision[], %s::name)",
            daemon_id,
            bigints([item[0] for item in wanted]),
            integers([item[1] for item in wanted]),
            doubles([item[2] for item in wanted]),
            self.encoding,
        )
        arrived = time.monotonic()
        return [Claim._make((*row, arrived)) for row in rows]

    async def pending_webhooks(self, daemon_id: int, after: int = 0, limit: int = 500) -> list[Pending]:
        """Webhooks with pending deliveries that this daemon may send, by id after `after`."""
        rows = await self._rows("select * from pgrelay.pending_webhooks(%s, %s, %s)", after, limit, daemon_id)
        return [Pending(*row) for row in rows]

    async def record(
        self, daemon_id: int, daemon: str, outcomes: Sequence[Outcome], now: float, *, resent: bool = False
    ) -> list[int]:
        """Write a batch of outcomes; `now` is monotonic as Outcome.started is. Ids whose lease was lost come back."""
        claims = [outcome.claim for outcome in outcomes]
        rows = await self._rows(
            "select * from pgrelay.record_outcomes(%s, %s, %s::bigint[], %s::integer[], %s::text[], %s::bigint[],"
            " %s::bigint[], %s::integer[], %s::double precision[], %s::integer[], %s::integer[], %s::text[],"
            " %s::text[], %s::double precision[], %s::text[], %s::text[], %s::text[], %s, %s::integer[])",
            daemon_id,
            daemon,
            bigints([claim.delivery_id for claim in claims]),
            integers([claim.lease_no for claim in claims]),
            texts([outcome.verdict for outcome in outcomes]),
            bigints([claim.webhook_id for claim in claims]),
            bigints([claim.event_id for claim in claims]),
            integers([claim.attempt for claim in claims]),
            doubles([now - outcome.started for outcome in outcomes]),
            integers([round(outcome.duration * 1000) for outcome in outcomes]),
            integers([outcome.status_code for outcome in outcomes]),
            texts([outcome.error_kind for outcome in outcomes]),
            texts([outcome.error_message for outcome in outcomes]),
            doubles([outcome.retry_in for outcome in outcomes]),
            texts([outcome.request_headers for outcome in outcomes]),
            texts([outcome.response_headers for outcome in outcomes]),
            texts([outcome.response_body for outcome in outcomes]),
            resent,
            integers([number for number, outcome in enumerate(outcomes, 1) if outcome.requests > 1]),
        )
        return [row[0] for row in rows]

    async def give_back(self, daemon_id: int, delivery_ids: Sequence[int]) -> int:
        """Return deliveries that were not started. How many were still ours."""
        rows = await self._rows(
            "select pgrelay.give_back(%s, %s::bigint[])", daemon_id, bigints(delivery_ids)
        )
        return int(rows[0][0])

    async def give_back_unknown(self, daemon_id: int, known_ids: Sequence[int]) -> int:
        """Return what is leased by this daemon though it knows nothing of it: the answer to a claim was lost."""
        rows = await self._rows(
            "select pgrelay.give_back_unknown(%s, %s::bigint[])", daemon_id, bigints(known_ids)
        )
        return int(rows[0][0])

    async def callable_versions(self, ids: Sequence[int]) -> dict[int, int]:
        """Versions of those of the webhooks that may be called: active, not paused."""
        rows = await self._rows(
            "select id, version from pgrelay.webhook_configurations"
            " where id = any (%s::bigint[]) and is_active and not paused",
            bigints(ids),
        )
        return {row[0]: row[1] for row in rows}

    async def cancel_gone(self, daemon_id: int, delivery_ids: Sequence[int]) -> None:
        """End leased deliveries whose webhook is gone."""
        await self.give_back(daemon_id, delivery_ids)
        await self._rows(
            "select pgrelay.finish_pending(%s::bigint[], 'cancelled', 'the webhook was deleted')",
            bigints(delivery_ids),
        )

    async def webhooks(self, ids: Sequence[int]) -> list[Webhook]:
        """The webhooks as they are now; ids that are gone are left out."""
        rows = await self._rows(
            "select id, version, company_id, name, url, secret_key, previous_secret_key, previous_secret_expires_at,"
            " headers, timeout_seconds, max_retry_attempts, retry_schedule, max_concurrency, rate_limit_per_second,"
            " ordering = 'resource', payload_format, payload_template"
            " from pgrelay.webhook_configurations where id = any (%s::bigint[])",
            bigints(ids),
        )
        return [self._webhook(row) for row in rows]

    def _webhook(self, row: tuple[Any, ...]) -> Webhook:
        kept, unsignable = Kept(row[5], row[6], row[8]), None
        try:
            kept = self._keys.open(kept, row[0])
        except Unopened as error:
            kept, unsignable = Kept(None, None, None), error.message
        # during a rotation the old secret signs until the new one is made
        secret = kept.secret_key or kept.previous_secret_key
        return Webhook(
            id=row[0], version=row[1], company_id=row[2], name=row[3], url=row[4], secret_key=secret or "",
            previous_secret_key=kept.previous_secret_key if kept.secret_key else None,
            previous_secret_expires_at=row[7], headers=kept.headers or {},
            timeout_seconds=float(row[9]), max_retry_attempts=row[10],
            retry_schedule=None if row[11] is None else tuple(float(wait) for wait in row[11]),
            max_concurrency=row[12], rate_limit=row[13], ordered=row[14],
            payload_format=row[15], payload_template=row[16],
            unsignable=unsignable if unsignable or secret else AWAITED,
        )  # fmt: skip

    async def seal_with(self, key_id: str) -> None:
        """Say which key seals secrets from now on."""
        await self._rows("select pgrelay.seal_with(%s)::text", key_id)

    async def webhooks_to_seal(self, key_id: str | None) -> list[tuple[int, int, Kept]]:
        """Id, version and secrets of webhooks that hold something in the clear; or by another key than `key_id`."""
        rows = await self._rows("select * from pgrelay.webhooks_to_seal(%s)", key_id)
        return [(row[0], row[1], Kept(*row[2:])) for row in rows]

    async def seal_webhook(self, webhook_id: int, version: int, kept: Kept) -> bool:
        """Store secrets that are sealed now. False if the webhook has changed since."""
        rows = await self._rows(
            "select pgrelay.seal_webhook(%s, %s, %s, %s, %s::jsonb)",
            webhook_id,
            version,
            kept.secret_key,
            kept.previous_secret_key,
            None if kept.headers is None else json.dumps(dict(kept.headers)),
        )
        return bool(rows[0][0])

    async def note_results(self, reports: Sequence[Report], limits: CircuitLimits) -> list[WebhookState]:
        """Say what became of the latest attempts, a report each webhook; which are held back, or changed."""
        rows = await self._rows(
            "select * from pgrelay.note_results(%s::bigint[], %s::boolean[], %s::integer[], %s::integer[],"
            " %s::double precision[], %s::boolean[], %s, %s, %s, %s, %s)",
            bigints([report.webhook_id for report in reports]),
            [report.succeeded for report in reports],
            integers([report.failures for report in reports]),
            integers([report.given_up for report in reports]),
            doubles([report.hold for report in reports]),
            [report.gone for report in reports],
            *limits,
        )
        return [WebhookState._make(row) for row in rows]

    async def failing_webhooks(self) -> dict[int, float | None]:
        """Webhooks whose last attempt failed, as all daemons know it; for how many seconds they are held back."""
        rows = await self._rows(
            "select webhook_id, extract(epoch from held_until - clock_timestamp())::double precision"
            " from pgrelay.webhook_health"
        )
        return dict(rows)

    # Upkeep ------------------------------------------------------------------------------------------------------

    async def sign_on(self, *, name: str, host: str, pid: int, version: str, lease: float) -> int:
        """Register this daemon; its new id."""
        rows = await self._rows("select pgrelay.sign_on(%s, %s, %s, %s, %s)", name, host, pid, version, lease)
        return int(rows[0][0])

    async def heartbeat(self, daemon_id: int, *, lease: float, listening: bool, note: str) -> bool:
        """Prolong the lease. False: declared dead."""
        rows = await self._rows("select pgrelay.heartbeat(%s, %s, %s, %s)", daemon_id, lease, listening, note)
        return bool(rows[0][0])

    async def sign_off(self, daemon_id: int) -> None:
        """End the registration in good order."""
        await self._rows("select pgrelay.sign_off(%s)::text", daemon_id)

    async def glance(self) -> Due:
        """Whether anything waits to be done."""
        return Due._make((await self._rows("select * from pgrelay.glance()"))[0])

    async def release_lapsed(self) -> list[Lapsed]:
        """Take back what dead daemons held."""
        return [Lapsed(*row) for row in await self._rows("select * from pgrelay.release_lapsed()")]

    async def fire_deadlines(self, limit: int, everything: bool) -> Deadlines:
        """Make the events of deadlines that passed."""
        rows = await self._rows("select * from pgrelay.fire_deadlines(%s, %s)", limit, everything)
        return Deadlines(*rows[0])

    async def feed_replays(self) -> list[Fed]:
        """Queue the next deliveries of running replays."""
        return [Fed._make(row) for row in await self._rows("select * from pgrelay.feed_replays()")]

    async def expire_deliveries(self) -> int:
        """End pending deliveries whose event is too old to be sent; how many."""
        rows = await self._rows("select pgrelay.expire_deliveries()")
        return int(rows[0][0])

    async def cancel_orphans(self) -> int:
        """Cancel what is pending for webhooks that are gone or inactive; how many."""
        rows = await self._rows("select pgrelay.cancel_orphans()")
        return int(rows[0][0])

    async def fold_metrics(self) -> int:
        """Fold counted deltas into minutes and totals; how many."""
        rows = await self._rows("select pgrelay.fold_metrics()")
        return int(rows[0][0])

    async def rotate(self, ring: str, retention: float) -> str | None:
        """Move a ring on if it is time; what was done."""
        rows = await self._rows("select pgrelay.rotate(%s, %s)", ring, retention)
        return None if rows[0][0] is None else str(rows[0][0])

    async def prune(self, retention: float) -> None:
        """Delete old rows of the small tables."""
        await self._rows("select pgrelay.prune(%s)::text", retention)

    async def sweep(self) -> None:
        """What is found only by reading the queue as a whole."""
        await self._rows("select pgrelay.sweep()::text")

    async def notification_queue_usage(self) -> float:
        """How full the server's notification queue is, 0 to 1."""
        rows = await self._rows("select pg_notification_queue_usage()")
        return float(rows[0][0])

    async def open_capture_errors(self) -> int:
        """How many capture errors wait for pgrelay.recapture()."""
        rows = await self._rows("select count(*) from pgrelay.capture_errors where recaptured_at is null")
        return int(rows[0][0])

    async def health(self) -> Health:
        """The figures of pgrelay.health."""
        rows = await self._rows(health.QUERY)
        return Health._make(map(float, rows[0]))

    async def overdue_webhooks(self, limit: int) -> dict[int, float]:
        """Webhooks with a delivery that should have gone out a second ago: how late it is, the latest first."""
        rows = await self._rows(
            "select webhook_id, -due_in from pgrelay.pending_webhooks(0, 100000) where due_in < -1"
            " order by due_in limit %s",
            limit,
        )
        return dict(rows)

    # The bell ----------------------------------------------------------------------------------------------------

    async def want_bell(self, wanted: bool) -> None:
        """Say whether captures should notify: True before sleeping, False while busy. Seen at once by everybody."""
        await self._rows("select setval('pgrelay.wake', %s)", 2 if wanted else 1)

    async def tell_daemons(self) -> None:
        """Say to all daemons that there is something to claim."""
        await self._rows("select pg_notify('pgrelay', 'work')::text")

    async def ring(self, channel: str) -> None:
        """Notify a channel that only one connection listens on."""
        await self._rows("select pg_notify(%s, '')::text", channel)

    async def draw_transaction_id(self) -> int:
        """A transaction id of its own: every transaction that began to write before has a lower one."""
        rows = await self._rows("select pg_current_xact_id()::text::bigint")
        return int(rows[0][0])

    async def oldest_running(self) -> int:
        """Every transaction with a lower id has ended."""
        rows = await self._rows("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        return int(rows[0][0])


@lru_cache
def verb_of(query: str) -> str:
    """The verb that a statement calls, or the table it reads: its first name in pgrelay, else in pg_catalog."""
    found = re.search(r"\bpgrelay\.(\w+)", query) or re.search(r"\b(pg_\w+)\(", query)
    return found[1] if found is not None else "other"
