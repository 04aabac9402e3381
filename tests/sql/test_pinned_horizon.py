"""An old snapshot that is held costs nothing: vacuum can remove nothing, and yet claiming and expanding stay as cheap."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pgrelay.delivery import Claim
from support.database import Database
from support.plans import buffers
from support.queue import (
    add_events,
    add_webhook,
    claim,
    expand,
    record,
    recording,
    sign_on,
    succeeded,
    value,
)

DELIVERIES = 20_000
BATCH = 500
MEASURED = 100


@contextmanager
def old_snapshot(database: Database) -> Iterator[psycopg.Connection]:
    """A transaction that sees everything as it is now, for as long as the block runs."""
    with database.connect(autocommit=False) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        holder.execute("select count(*) from pgrelay.delivery_queue")
        yield holder


def expansion_cost(db: psycopg.Connection, daemon: int) -> int:
    """Pages that expanding and leasing 100 events takes, everything included."""
    add_events(db, MEASURED)
    return buffers(db, "select * from pgrelay.expand(%s, 1000, 1000, '{}', '{}', 1000)", daemon)


def claim_cost(db: psycopg.Connection, daemon: int, floors: dict[int, float]) -> int:
    """The same for claiming 100 that are pending, with the floors that claims before gave."""
    add_events(db, MEASURED)
    expand(db, daemon, room=0)
    webhooks = list(floors)
    cost = buffers(
        db,
        "select * from pgrelay.claim(%s, %s::bigint[], %s::integer[], %s::double precision[])",
        daemon,
        list(webhooks),
        [MEASURED // len(webhooks)] * len(webhooks),
        list(floors.values()),
    )
    return cost


def work(
    db: psycopg.Connection, daemon: int, webhooks: list[int], floors: dict[int, float], chance: random.Random
) -> None:
    """Deliver BATCH events, half of them as they come and half by way of the backlog."""
    add_events(db, BATCH // len(webhooks))
    leases: list[Claim] = expand(db, daemon, room=BATCH // 2).leases
    claimed = claim(db, daemon, dict.fromkeys(webhooks, BATCH), floors)
    for lease in claimed:
        floors[lease.webhook_id] = max(floors[lease.webhook_id], lease.due or 0.0)
    outcomes = [succeeded(lease) for lease in leases + claimed]
    chance.shuffle(outcomes)
    assert record(db, daemon, *outcomes) == []


def test_expanding_and_claiming_cost_the_same_after_20_000_deliveries_under_an_old_snapshot(
    database: Database, db: psycopg.Connection
) -> None:
    webhooks = [add_webhook(db) for _ in range(5)]
    daemon = sign_on(db)
    floors = dict.fromkeys(webhooks, float("-inf"))
    chance = random.Random(3)
    with old_snapshot(database) as holder:
        work(db, daemon, webhooks, floors, chance)
        before = expansion_cost(db, daemon), claim_cost(db, daemon, floors)
        for _ in range(DELIVERIES // BATCH):
            work(db, daemon, webhooks, floors, chance)
        after = expansion_cost(db, daemon), claim_cost(db, daemon, floors)
        without_floors = claim_cost(db, daemon, dict.fromkeys(webhooks, float("-inf")))
        assert holder.execute("select count(*) from pgrelay.delivery_queue").fetchone() == (0,)
    assert after[0] <= 2 * before[0]
    assert after[1] <= 2 * before[1]
    # what the floors spare: without them the claim walks over everything that was claimed since
    assert without_floors > after[1] + 500


def test_recording_costs_the_same_after_thousands_that_were_sent_in_order_under_an_old_snapshot(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db, "1", ordering="resource")
    add_webhook(db, "2")
    daemon = sign_on(db)

    def cost() -> int:
        add_events(db, MEASURED, company_id="2")
        query, parameters = recording(daemon, *map(succeeded, expand(db, daemon).leases))
        return buffers(db, query, *parameters)

    with old_snapshot(database):
        before = [cost() for _ in range(2)][-1]
        for _ in range(10):
            add_events(db, BATCH)
            record(db, daemon, *map(succeeded, expand(db, daemon).leases))
        assert cost() <= 2 * before


def test_expanding_costs_the_same_after_thousands_of_deliveries_in_order_were_cancelled_under_an_old_snapshot(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db, "1", ordering="resource")
    add_webhook(db, "2")
    daemon = sign_on(db)

    def cost() -> int:
        add_events(db, 1, company_id="2")
        return buffers(db, "select * from pgrelay.expand(%s, 1000, 1000, '{}', '{}', 1000)", daemon)

    with old_snapshot(database):
        before = [cost() for _ in range(2)][-1]
        for _ in range(20):
            add_events(db, 2 * BATCH)
            expand(db, daemon, room=0)
            cancelled = "select pgrelay.finish_pending(array(select id from pgrelay.delivery_queue where webhook_id = 1), %s, '')"
            assert value(db, cancelled, "cancelled") == 2 * BATCH
        expand(db, daemon)
        expand(db, daemon)
        assert value(db, "select count(*) from pgrelay.order_releases") == 0
        assert cost() <= 2 * before


def test_what_is_counted_is_seen_and_folded_without_walking_over_what_was_folded_under_an_old_snapshot(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    daemon = sign_on(db)

    def cost(query: str) -> int:
        add_events(db, 1)
        record(db, daemon, *map(succeeded, expand(db, daemon).leases))
        return buffers(db, query)

    with old_snapshot(database):
        glance, fold = "select * from pgrelay.glance()", "select pgrelay.fold_metrics()"
        before = [(cost(glance), cost(fold)) for _ in range(2)][-1]
        columns = "webhook_id, minute, attempts, attempts_failed, deliveries_succeeded, deliveries_failed, duration_ms_sum"
        counted = f"""
            insert into pgrelay.metric_deltas ({columns}, duration_buckets, last_attempt_at)
            select 1, now(), 1, 0, 1, 0, 5, array_fill(0, array[12]), now() from generate_series(1, 20000)
        """
        db.execute(counted.encode())
        while value(db, fold):
            pass
        db.execute("select setval('pgrelay.metric_deltas_id_seq', 1000000)")
        assert cost(glance) <= 2 * before[0] and cost(fold) <= 2 * before[1]
        # totals that were changed thousands of times cost no more
        for _ in range(6000):
            db.execute(counted.replace("20000", "1").encode())
            db.execute(fold.encode())
        db.execute("select setval('pgrelay.metric_deltas_id_seq', 2000000)")
        assert cost(fold) <= 2 * before[1]
        assert db.execute("select attempts from pgrelay.webhook_totals").fetchall() == [(26_007,)]
    db.execute(
        "insert into pgrelay.metric_deltas overriding system value select 5, 1, now(), 1, 0, 1, 0, 5, '{}', now()"
    )
    assert value(db, fold) == 1


def test_deadlines_are_seen_and_fired_without_walking_over_those_that_fired_under_an_old_snapshot(
    database: Database, db: psycopg.Connection
) -> None:
    armed = (
        "insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)"
        " select 'none', 'e', n::text, clock_timestamp() + %s::interval from generate_series(1, %s) as n"
    )
    glance, fire = "select * from pgrelay.glance()", "select * from pgrelay.fire_deadlines(1000, false)"

    def cost() -> tuple[int, int]:
        db.execute(armed, ("-1 second", 1))
        return buffers(db, glance), buffers(db, fire)

    with old_snapshot(database):
        before = [cost() for _ in range(2)][-1]
        db.execute(armed, ("-1 hour", 20_000))
        assert db.execute("select dropped from pgrelay.fire_deadlines(50000)").fetchone() == (20_000,)
        after = cost()
        assert after[0] <= 2 * before[0] and after[1] <= 2 * before[1]
        # what is left aside so is taken by the look at all
        db.execute(armed, ("-1 hour", 3))
        assert db.execute("select dropped, next_in from pgrelay.fire_deadlines(9, false)").fetchone() == (
            0,
            None,
        )
        assert db.execute("select dropped, next_in from pgrelay.fire_deadlines(9)").fetchone() == (3, None)
