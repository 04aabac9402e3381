"""What must be true of all deliveries after every step, whatever the steps are, and what changed since the one before.

ledger = Ledger(db)
ledger.add(event_id)
ledger.expanding()
... expand ...
changes = ledger.audit("claim")
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg

from pgrelay.delivery import TRANSITIONS, Status

_DELIVERIES = """
    select id, webhook_id, event_id, status, attempts, lease_no, leased_by, order_key from pgrelay.delivery_queue
    union all
    select id, webhook_id, event_id, status, attempts, lease_no, null, null from pgrelay.delivery_history
    order by id
"""
_WEBHOOKS = """
    select w.id, w.is_active, w.paused, w.max_concurrency is not null or w.rate_limit_per_second is not null,
           coalesce(h.held_until > clock_timestamp(), false), h.probe_wait is not null,
           (select d.id from pgrelay.webhook_owners o join pgrelay.daemons d on d.id = o.daemon_id and d.ended_at is null
            where o.webhook_id = w.id)
    from pgrelay.webhook_configurations w left join pgrelay.webhook_health h on h.webhook_id = w.id order by w.id
"""
#: Written by itself, from the definition of a subscription: not as expand() finds it.
_SUBSCRIBED = """
    select w.id from pgrelay.webhook_configurations w, pgrelay.outbox o
    where o.id = %s and w.is_active and (w.id = o.only_webhook or o.only_webhook is null and w.company_id = o.company_id
        and exists (select from unnest(w.subscribed_events) as p
                    where o.event_type = p or p = '*' or right(p, 2) = '.*' and starts_with(o.event_type, left(p, -1)))
        and (select min(s.since) from pgrelay.subscriptions s where s.webhook_id = w.id) <= o.occurred_at)
"""
#: What the feed has done, as sql/migrations says of feed_windows.
_EXPANDED = """
    select o.id from pgrelay.outbox o, (select * from pgrelay.feed_windows order by id desc limit 1) as f
    where pg_visible_in_snapshot(o.xid, case when f.after_id is null then f.to_snapshot else f.from_snapshot end)
       or pg_visible_in_snapshot(o.xid, f.to_snapshot) and o.id <= f.after_id
"""


class Row(NamedTuple):
    """One delivery, wherever it is."""

    id: int
    webhook_id: int
    event_id: int
    status: Status
    attempts: int
    lease_no: int
    leased_by: int | None
    order_key: int | None


class Terms(NamedTuple):
    """What bears on whether a webhook's deliveries may be leased."""

    id: int
    is_active: bool
    paused: bool
    limited: bool
    held: bool
    open: bool
    #: The living daemon that serves it.
    owner: int | None

    def most(self, daemon: int) -> float:
        """How many deliveries of it this daemon may lease now."""
        if (
            not self.is_active
            or self.paused
            or self.held
            or (self.limited and self.owner not in (None, daemon))
        ):
            return 0
        return 1 if self.open else float("inf")


class Ledger:
    """`audit` compares the tables with what was written down here, and with what they were at the last audit."""

    def __init__(self, db: psycopg.Connection) -> None:
        self._db = db
        self.rows: dict[int, Row] = {}
        #: (event, webhook) -> deliveries
        self.owed: Counter[tuple[int, int]] = Counter()
        self._events: set[int] = set()
        self._expanded: set[int] = set()
        self._subscribed: dict[int, list[int]] = {}
        #: What a person has sent again need not be in the order of events; what was retried, not of ids either.
        self._replayed: set[int] = set()
        #: replay -> events still to be queued
        self._to_replay: dict[int, set[int]] = {}
        self._retried: set[int] = set()
        self._terms: dict[int, Terms] = {}
        #: (delivery, lease) of before their webhook had a limit
        self._unlimited: set[tuple[int, int]] = set()
        self.attempts_made = 0
        self._lapsed = 0

    # What happens ------------------------------------------------------------------------------------------------

    def add(self, *events: int) -> None:
        """These events are committed."""
        self._events.update(events)

    def begin(self) -> dict[int, Terms]:
        """Something follows that expands or leases: see what it may do."""
        self.told()
        new = self._events - self._expanded
        self._subscribed = {
            event: [row[0] for row in self._db.execute(_SUBSCRIBED, (event,))] for event in new
        }
        self._terms = {row[0]: Terms._make(row) for row in self._db.execute(_WEBHOOKS.encode())}
        return self._terms

    def told(self) -> None:
        """Events that pgrelay makes itself, for its operator, are events like any other."""
        query = "select id from pgrelay.outbox where company_id = 'pgrelay' and source = 'pgrelay'"
        self._events.update(row[0] for row in self._db.execute(query))

    def refuse(self, webhook: int, refused: bool) -> None:
        """What follows may lease nothing of this webhook."""
        if refused:
            self._terms[webhook] = self._terms[webhook]._replace(held=True)

    def lapsed(self, count: int) -> None:
        """So many attempts have an unknown outcome by now."""
        self.attempts_made += count - self._lapsed
        self._lapsed = count

    def everything_is_expanded(self) -> bool:
        """No event waits."""
        return self._events == self._expanded

    def replayed(self) -> None:
        """What was queued by replays meanwhile is owed. Each of its events at most once, and none but what was asked for."""
        rows = self._db.execute(
            "select id, event_id, webhook_id, replay_id from pgrelay.delivery_queue where replay_id is not null"
        )
        for delivery, event, webhook, replay in rows:
            if delivery not in self._replayed:
                self._replayed.add(delivery)
                self.owed[event, webhook] += 1
                self._to_replay[replay].remove(event)

    def replay(self, replay: int, events: Iterable[int]) -> None:
        """A person wants these events sent to one webhook once more."""
        self._to_replay[replay] = set(events)

    def not_replayed(self, replay: int) -> set[int]:
        """Events of a replay that are not queued."""
        return self._to_replay[replay]

    def retried(self, delivery: int) -> None:
        """A person wants another round of attempts."""
        self._retried.add(delivery)

    def limited(self, webhook: int) -> None:
        """A webhook has a limit from now on."""
        self._unlimited.update(
            (row.id, row.lease_no) for row in self.rows.values() if row.webhook_id == webhook
        )

    # What must be true -------------------------------------------------------------------------------------------

    def audit(self, *verbs: str, daemon: int | None = None) -> list[Row]:
        """Check everything; what changed since the last time, which may be by these verbs of TRANSITIONS only.

        `daemon`: who may have leased something.
        """
        found = [
            Row._make(row)._replace(status=Status(row[3])) for row in self._db.execute(_DELIVERIES.encode())
        ]
        before, self.rows = self.rows, {row.id: row for row in found}
        assert len(found) == len(self.rows), "a delivery is there twice"
        assert before.keys() <= self.rows.keys(), "a delivery is gone"
        changed = [row for row in found if row != before.get(row.id)]
        for row in changed:
            self._moves_as_the_table_says(before.get(row.id), row, verbs)
        self._is_owed()
        leased = [
            row for row in changed
            if row.status is Status.IN_FLIGHT and (row.id not in before or before[row.id].lease_no != row.lease_no)
        ]  # fmt: skip
        self._may_be_leased(leased, daemon)
        self._is_in_order(leased)
        self._is_served_by_one()
        made = self._db.execute("select count(*) from pgrelay.delivery_attempts").fetchone()
        assert made == (self.attempts_made,), f"{made} attempts are recorded, {self.attempts_made} were made"
        return changed

    def _moves_as_the_table_says(self, old: Row | None, new: Row, verbs: tuple[str, ...]) -> None:
        assert new.attempts >= 0
        if old is None:
            assert new.status in (Status.PENDING, Status.IN_FLIGHT)
            return
        assert (old.webhook_id, old.event_id) == (new.webhook_id, new.event_id)
        assert old.lease_no <= new.lease_no
        if old.status is not new.status:
            ways = [
                verb
                for verb in verbs
                if old.status in TRANSITIONS[verb][0] and new.status in TRANSITIONS[verb][1]
            ]
            assert ways, f"{old} became {new} by {verbs}"

    def _is_owed(self) -> None:
        events = {row[0] for row in self._db.execute("select id from pgrelay.outbox")}
        self.told()
        assert events == self._events, (
            f"events lost: {self._events - events}, invented: {events - self._events}"
        )
        expanded = {row[0] for row in self._db.execute(_EXPANDED.encode())}
        assert self._expanded <= expanded
        for event in expanded - self._expanded:
            self.owed.update((event, webhook) for webhook in self._subscribed[event])
        self._expanded = expanded
        there = Counter((row.event_id, row.webhook_id) for row in self.rows.values())
        assert there == self.owed, f"missing: {self.owed - there}, too many: {there - self.owed}"

    def _may_be_leased(self, leased: list[Row], daemon: int | None) -> None:
        assert {row.leased_by for row in leased} <= {daemon}
        for webhook, count in Counter(row.webhook_id for row in leased).items():
            most = self._terms[webhook].most(daemon or 0)
            assert count <= most, f"{count} leased, at most {most} may be: {self._terms[webhook]}"

    def _is_in_order(self, leased: list[Row]) -> None:
        """Of one resource at most one under way, and it is the first, unless a person put another before it."""
        unfinished: dict[Any, list[Row]] = {}
        for row in self.rows.values():
            if row.order_key is not None:
                unfinished.setdefault((row.webhook_id, row.order_key), []).append(row)
        for line in unfinished.values():
            under_way = [row for row in line if row.status is Status.IN_FLIGHT]
            assert len(under_way) <= 1, f"two of one resource under way: {under_way}"
            events = [row.event_id for row in line if row.id not in self._replayed | self._retried]
            assert events == sorted(events)
        for row in leased:
            if row.order_key is not None:
                line = unfinished[row.webhook_id, row.order_key]
                passed = [other for other in line if other.id < row.id and other.id not in self._retried]
                assert not passed, f"{row} goes before {passed}"

    def _is_served_by_one(self) -> None:
        daemons = dict(self._db.execute("select id, ended_at is null from pgrelay.daemons").fetchall())
        terms = {row[0]: Terms._make(row) for row in self._db.execute(_WEBHOOKS.encode())}
        served: dict[int, set[int]] = {}
        for row in self.rows.values():
            if (
                row.leased_by is not None
                and daemons[row.leased_by]
                and (row.id, row.lease_no) not in self._unlimited
            ):
                served.setdefault(row.webhook_id, set()).add(row.leased_by)
        for webhook, by in served.items():
            limited = webhook in terms and terms[webhook].limited
            assert not limited or len(by) <= 1, f"webhook {webhook} is served by daemons {by}"
