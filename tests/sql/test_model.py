"""Any sequence of verbs, by several daemons, the application and a person: `support.ledger` says what must hold after each.

PGRELAY_MODEL_EXAMPLES and PGRELAY_MODEL_STEPS make the search longer than its default.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pgrelay.db.arrays import doubles
from pgrelay.delivery import Claim, Outcome, Status
from support.database import Database
from support.ledger import Ledger, Row
from support.queue import (
    add_event,
    add_webhook,
    claim,
    expand,
    failed,
    record,
    retried,
    sign_on,
    succeeded,
    value,
)

EXAMPLES = int(os.environ.get("PGRELAY_MODEL_EXAMPLES", "40"))
STEPS = int(os.environ.get("PGRELAY_MODEL_STEPS", "40"))

_CLEAR = """
    truncate pgrelay.outbox, pgrelay.feed_windows, pgrelay.webhook_configurations, pgrelay.webhook_health, pgrelay.webhook_owners,
        pgrelay.subscriptions, pgrelay.delivery_queue, pgrelay.order_releases, pgrelay.delivery_history, pgrelay.delivery_attempts,
        pgrelay.daemons, pgrelay.metric_deltas, pgrelay.replays;
    insert into pgrelay.feed_windows (from_snapshot, to_snapshot) select s, s from pg_current_snapshot() as s;
"""
#: The wait of every retry and every hold is over.
_TIME_PASSES = """
    update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() where status = 'pending' and next_attempt_at < 'infinity';
    update pgrelay.delivery_queue set expires_at = clock_timestamp() where expires_at is not null;
    update pgrelay.webhook_health set held_until = clock_timestamp()
"""
WEBHOOKS: list[dict[str, Any]] = [
    {"company_id": "1"},
    {"company_id": "1", "ordering": "resource", "max_retry_attempts": 2},
    {"company_id": "2", "max_concurrency": 2, "max_retry_attempts": 1},
    {"company_id": "2", "ordering": "resource", "rate_limit_per_second": 5, "events": ["order.*"]},
    {"company_id": "pgrelay", "events": ["delivery.failed", "webhook.*"]},
]
CHANGES = ["paused", "not paused", "inactive", "active", "limited", "not limited", "ordered", "not ordered"]
_COLUMNS = {
    "paused": "paused = true",
    "not paused": "paused = false",
    "limited": "max_concurrency = 2",
    "not limited": "max_concurrency = null, rate_limit_per_second = null",
    "ordered": "ordering = 'resource'",
    "not ordered": "ordering = 'none'",
}
some = st.integers(0, 1000)
room = st.sampled_from([0, 1, 5, 1000])
again = st.sampled_from(["", "", "resent", "late"])
tenants = st.sampled_from("112")
resources = st.sampled_from(["a", "a", "b", None])


class Deliveries(RuleBasedStateMachine):
    """One database; verbs are called as the daemon calls them. A number `pick` chooses among what there is."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.db = self.database.connect(options="-c client_min_messages=warning")
        self.application = self.database.connect(autocommit=False)
        self.uncommitted: list[int] = []
        self.db.execute(_CLEAR.encode())
        self.ledger = Ledger(self.db)
        self.webhooks = [add_webhook(self.db, **columns) for columns in WEBHOOKS]
        self.daemons = [sign_on(self.db, name) for name in ("one", "two", "three")]
        #: (delivery, lease) -> who got it
        self.leases: dict[tuple[int, int], tuple[int, Claim]] = {}

    @initialize(events=st.lists(st.tuples(tenants, resources), min_size=4, max_size=12))
    def begin_with(self, events: list[tuple[str, str | None]]) -> None:
        """Some of all there is, for hypothesis leaves out some verbs in every example."""
        for number, (tenant, resource) in enumerate(events):
            self.capture(tenant, resource)
            if number == len(events) // 2:
                self.expand(0, 2, 1)
        self.expand(1, 2, 1)
        self.claim(1, 1)

    # The application ---------------------------------------------------------------------------------------------

    @rule(tenant=tenants, resource=resources, kind=st.sampled_from(["order.paid", "order.paid", "user.made"]))
    def capture(self, tenant: str, resource: str | None, kind: str = "order.paid") -> None:
        self.ledger.add(add_event(self.db, kind, tenant, resource_id=resource))
        self.ledger.audit()

    @rule(tenant=tenants, resource=resources, life=st.sampled_from(["-1 s", "1 h"]))
    def capture_what_ages(self, tenant: str, resource: str | None, life: str) -> None:
        event = add_event(self.db, "order.paid", tenant, resource_id=resource)
        self.db.execute(
            "update pgrelay.outbox set valid_until = now() + %s::interval where id = %s", (life, event)
        )
        self.ledger.add(event)
        self.ledger.audit()

    @rule(tenant=tenants)
    def capture_in_an_open_transaction(self, tenant: str) -> None:
        self.uncommitted.append(add_event(self.application, "order.paid", tenant, resource_id="late"))
        self.ledger.audit()

    @precondition(lambda self: self.uncommitted)
    @rule(commits=st.booleans())
    def end_the_transaction(self, commits: bool) -> None:
        if commits:
            self.application.commit()
            self.ledger.add(*self.uncommitted)
        else:
            self.application.rollback()
        self.uncommitted.clear()
        self.ledger.audit()

    # Daemons -----------------------------------------------------------------------------------------------------

    @rule(who=some, limit=st.integers(1, 3), room=room, free=room)
    def expand_a_page(self, who: int, limit: int, room: int, free: int) -> None:
        self.expand(who, room, free, limit)

    @rule(who=some, room=room, free=room)
    def expand(self, who: int, room: int, free: int, limit: int = 1000) -> None:
        daemon = self._daemon(who)
        for terms in self.ledger.begin().values():
            # a circuit that is open lets nothing through here
            self.ledger.refuse(terms.id, terms.open)
        step = expand(self.db, daemon, limit=limit, room=room, default_free=free)
        self._leased(daemon, step.leases)

    @rule(who=some, places=st.integers(1, 4), which=some)
    def claim_of_one(self, who: int, places: int, which: int) -> None:
        self.claim(who, places, self._webhook(which))

    @rule(who=some, places=st.integers(1, 4))
    def claim(self, who: int, places: int, *only: int) -> None:
        daemon = self._daemon(who)
        self.ledger.begin()
        self._leased(daemon, claim(self.db, daemon, dict.fromkeys(only or self.webhooks, places)))

    def _leased(self, daemon: int, claims: list[Claim]) -> None:
        for lease in claims:
            assert (lease.delivery_id, lease.lease_no) not in self.leases, "one lease twice"
            self.leases[lease.delivery_id, lease.lease_no] = daemon, lease
        changed = self.ledger.audit("claim", daemon=daemon)
        given = {(row.id, row.lease_no) for row in changed if row.status is Status.IN_FLIGHT}
        assert given == {(lease.delivery_id, lease.lease_no) for lease in claims}

    @precondition(lambda self: self._held())
    @rule(pick=some, again=again)
    def succeed(self, pick: int, again: str = "") -> None:
        self._record(pick, "succeed", succeeded, Status.SUCCEEDED, again)

    @precondition(lambda self: self._held())
    @rule(pick=some, again=again)
    def fail(self, pick: int, again: str) -> None:
        self._record(pick, "fail", retried, Status.PENDING, again)

    @precondition(lambda self: self._held())
    @rule(pick=some, again=again)
    def fail_for_good(self, pick: int, again: str) -> None:
        self._record(pick, "fail", failed, Status.FAILED, again)

    def _record(self, pick: int, verb: str, verdict: Callable[..., Outcome], end: Status, again: str) -> None:
        held = self._held()
        row = held[pick % len(held)]
        daemon, lease = self.leases[row.id, row.lease_no]
        assert record(self.db, daemon, verdict(lease)) == []
        self.ledger.attempts_made += 1
        (changed,) = [new for new in self.ledger.audit(verb) if new.id == row.id]
        assert changed.status is end
        if again:
            self._record_in_vain(daemon, lease, verdict, again)

    @precondition(lambda self: self.leases)
    @rule(
        pick=some,
        verdict=st.sampled_from([succeeded, retried, failed]),
        wrong=st.sampled_from(["lease", "daemon", "late", "resent"]),
    )
    def record_what_is_not_held(self, pick: int, verdict: Callable[..., Outcome], wrong: str) -> None:
        daemon, lease = list(self.leases.values())[-1 - pick % len(self.leases)]
        held = (lease.delivery_id, lease.lease_no) in {(row.id, row.lease_no) for row in self._held()}
        if wrong == "lease":
            lease = lease._replace(lease_no=lease.lease_no + (1 if held else 1000))
        elif wrong == "daemon":
            daemon += 1000
        elif held:
            return
        self._record_in_vain(daemon, lease, verdict, wrong)

    def _record_in_vain(self, daemon: int, lease: Claim, verdict: Callable[..., Outcome], how: str) -> None:
        resent = how == "resent"
        fenced = record(self.db, daemon, verdict(lease), resent=resent)
        assert fenced == ([] if resent else [lease.delivery_id])
        self.ledger.attempts_made += not resent
        assert self.ledger.audit() == []

    @precondition(lambda self: self._held())
    @rule(pick=some)
    def give_back(self, pick: int) -> None:
        held = self._held()
        row = held[pick % len(held)]
        self.db.execute("select pgrelay.give_back(%s, array[%s::bigint])", (row.leased_by, row.id))
        (changed,) = self.ledger.audit("give_back")
        assert changed.attempts == row.attempts - 1

    @rule(who=some)
    def stall(self, who: int) -> None:
        """The lease of a daemon passes without a heartbeat; nobody has noticed yet."""
        self.db.execute(
            "update pgrelay.daemons set lease_until = clock_timestamp() - interval '1 s' where id = %s",
            (self._daemon(who),),
        )
        self.ledger.audit()

    @rule(who=some)
    def beat(self, who: int) -> None:
        """One that was declared dead meanwhile is another from now on."""
        index = who % len(self.daemons)
        if not value(self.db, "select pgrelay.heartbeat(%s, 60, true, '')", self.daemons[index]):
            self.daemons[index] = sign_on(self.db, "again")
        self.ledger.audit()

    @rule()
    def release_lapsed(self) -> None:
        self._take_back("select pgrelay.release_lapsed()")

    @rule(who=some)
    def sign_off(self, who: int) -> None:
        index = who % len(self.daemons)
        self._take_back("select pgrelay.sign_off(%s)", self.daemons[index])
        self.daemons[index] = sign_on(self.db, "again")

    @rule()
    def sweep(self) -> None:
        self._take_back("select pgrelay.sweep()")

    def _take_back(self, query: str, *parameters: int) -> None:
        self.db.execute(query.encode(), parameters)
        held = len(self._held())
        changed = [row for row in self._look("lapse") if row.leased_by is None]
        assert held - len(self._held()) == len(changed)

    def _look(self, *verbs: str) -> list[Row]:
        """An audit after something that notes an attempt for each lapsed lease."""
        lapsed = value(self.db, "select count(*) from pgrelay.delivery_attempts where error_kind = 'lapsed'")
        self.ledger.lapsed(lapsed)
        return self.ledger.audit(*verbs)

    @rule()
    def expire(self) -> None:
        self.db.execute("select pgrelay.expire_deliveries()")
        self.ledger.audit("expire")

    @rule()
    def cancel_orphans(self) -> None:
        self.db.execute("select pgrelay.cancel_orphans()")
        self.ledger.audit("cancel")

    @rule(
        which=some,
        failures=st.integers(0, 3),
        recovered=st.booleans(),
        hold=st.sampled_from([None, None, 60.0]),
        gone=st.sampled_from([False, False, False, True]),
    )
    def note_results(
        self, which: int, failures: int, recovered: bool, hold: float | None, gone: bool
    ) -> None:
        self.db.execute(
            "select * from pgrelay.note_results(array[%s::bigint], array[%s], array[%s], array[0], %s::float8[], array[%s],"
            " 3, 10, 60, 0, 0)",
            (
                self._webhook(which),
                recovered or not failures,
                failures,
                doubles([hold]),
                gone and failures > 0,
            ),
        )
        self.ledger.audit("cancel")

    @rule()
    def time_passes(self) -> None:
        self.db.execute(_TIME_PASSES.encode())
        self.ledger.audit()

    # A person ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.ledger.rows)
    @rule(pick=some)
    def cancel(self, pick: int) -> None:
        row = self._row(pick, Status.PENDING)
        done = value(self.db, "select pgrelay.cancel_delivery(%s)", row.id)
        assert done == (row.status is Status.PENDING)
        assert [changed.id for changed in self.ledger.audit("cancel")] == [row.id] * done

    @precondition(lambda self: self.ledger.rows)
    @rule(pick=some)
    def retry(self, pick: int) -> None:
        row = self._row(pick, Status.FAILED, Status.CANCELLED, Status.EXPIRED)
        try:
            done = value(self.db, "select pgrelay.retry_delivery(%s)", row.id)
        except psycopg.Error as error:
            assert error.sqlstate == "PGR20", error
            assert not value(
                self.db, "select is_active from pgrelay.webhook_configurations where id = %s", row.webhook_id
            )
            done = False
        else:
            assert done == (row.status not in (Status.SUCCEEDED, Status.IN_FLIGHT))
        if done and row.status is not Status.PENDING:
            self.ledger.retried(row.id)
        self.ledger.audit("retry")

    @rule(which=some)
    def replay(self, which: int) -> None:
        webhook = self._webhook(which)
        if not value(self.db, "select is_active from pgrelay.webhook_configurations where id = %s", webhook):
            return
        since = "(select coalesce(percentile_disc(0.7) within group (order by occurred_at), now()) from pgrelay.outbox)"
        events = self.db.execute(
            f"select event_id from pgrelay.replay_events(%s, {since}, now())".encode(), (webhook,)
        ).fetchall()
        replay = value(self.db, f"select pgrelay.start_replay(%s, {since}, now())", webhook)
        count = value(self.db, "select events from pgrelay.replays where id = %s", replay)
        assert count == len(events)
        self.ledger.replay(replay, [row[0] for row in events])
        self.ledger.replayed()
        self.ledger.audit()

    @rule()
    def feed_replays(self) -> None:
        self.db.execute("select pgrelay.feed_replays()")
        self.ledger.replayed()
        self.ledger.audit()

    @rule(which=st.integers(1, 3), verb=st.sampled_from(["stop", "resume"]))
    def stop_or_resume_a_replay(self, which: int, verb: str) -> None:
        try:
            self.db.execute(f"select pgrelay.{verb}_replay(%s)".encode(), (which,))
        except psycopg.Error as error:
            assert error.sqlstate == "PGR20", error
        self.ledger.audit()

    @rule(which=some)
    def pause(self, which: int) -> None:
        self.change(which, "paused")

    @rule(which=some, change=st.sampled_from(CHANGES))
    def change(self, which: int, change: str) -> None:
        webhook = self._webhook(which)
        if change in ("active", "inactive"):
            self.db.execute("select pgrelay.set_active(%s, %s)", (webhook, change == "active"))
        else:
            query = f"update pgrelay.webhook_configurations set {_COLUMNS[change]} where id = %s"
            self.db.execute(query.encode(), (webhook,))
        if change == "limited":
            self.ledger.limited(webhook)
        self.ledger.audit("cancel")
        if change == "inactive":
            left = [row for row in self.ledger.rows.values() if row.webhook_id == webhook]
            assert not [row for row in left if row.status is Status.PENDING]

    # The end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
        finally:
            self.application.close()
            self.db.close()

    def _drain(self) -> None:
        """One healthy daemon ends everything, and every event is accounted for."""
        self.application.commit()
        self.ledger.add(*self.uncommitted)
        self.db.execute("update pgrelay.webhook_configurations set paused = false where paused")
        self.ledger.audit("cancel")
        for daemon in self.daemons:
            self._take_back("select pgrelay.sign_off(%s)", daemon)
        self.daemons = [sign_on(self.db, "last")]
        (daemon,) = self.daemons
        self.db.execute(
            "select pgrelay.resume_replay(r.id) from pgrelay.replays r"
            " join pgrelay.webhook_configurations w on w.id = r.webhook_id and w.is_active where r.status = 'stopped'"
        )
        for _ in range(200):
            self.feed_replays()
            self.db.execute(_TIME_PASSES.encode())
            self.ledger.audit()
            self.expire()
            self.cancel_orphans()
            self.expand(0, 1000, 1000)
            self.claim(0, 1000)
            for row in self._held():
                self.succeed(0)
                self.db.execute("delete from pgrelay.webhook_health where webhook_id = %s", (row.webhook_id,))
            if not value(
                self.db,
                "select events_waiting + deliveries_pending + deliveries_in_flight + replays_running"
                " from pgrelay.health",
            ):
                break
        assert value(self.db, "select count(*) from pgrelay.delivery_queue") == 0
        assert self.ledger.everything_is_expanded()
        ended = "select id, queued, skipped, events, status from pgrelay.replays"
        for replay, queued, skipped, events, status in self.db.execute(ended.encode()):
            assert (len(self.ledger.not_replayed(replay)) == events - queued) and status != "running"
            assert skipped == 0 and (queued == events or status == "stopped")

    # What there is -----------------------------------------------------------------------------------------------

    def _daemon(self, who: int) -> int:
        return self.daemons[who % len(self.daemons)]

    def _webhook(self, which: int) -> int:
        return self.webhooks[which % len(self.webhooks)]

    def _row(self, pick: int, *mostly: Status) -> Row:
        rows = list(self.ledger.rows.values())
        wanted = [row for row in rows if row.status in mostly] if pick % 4 else []
        return (wanted or rows)[pick % len(wanted or rows)]

    def _held(self) -> list[Row]:
        return [row for row in self.ledger.rows.values() if row.status is Status.IN_FLIGHT]


def test_whatever_is_done_in_whatever_order_nothing_is_lost_invented_or_sent_out_of_turn(
    database: Database,
) -> None:
    machine = type("Deliveries", (Deliveries,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=EXAMPLES == 40,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
