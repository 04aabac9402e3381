"""Hot statements read by index, and little, whatever the planner's statistics say: those of queues are always wrong."""

import psycopg
import pytest

from support.plans import Read, reads
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    pend,
    record,
    retried,
    sign_on,
    succeeded,
    value,
)

BIG = 10_000
WEBHOOKS = 20

STATES = ["empty", "never analysed", "analysed when empty", "analysed"]


def fill(db: psycopg.Connection, webhooks: list[int]) -> None:
    """A backlog for every webhook, and a past: rows as the verbs would write them."""
    db.execute(
        "insert into pgrelay.outbox (event_type, company_id, idempotency_key, body)"
        " select 'callback.created', '1', 'k', '{}' from generate_series(1, %s)",
        (BIG,),
    )
    db.execute(
        "insert into pgrelay.feed_windows (from_snapshot, to_snapshot) values (pg_current_snapshot(), pg_current_snapshot())"
    )
    db.execute(
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot)"
        " select (%(webhooks)s::bigint[])[1 + g %% %(count)s], g, 0 from generate_series(1, %(big)s) as g",
        {"webhooks": webhooks, "count": len(webhooks), "big": BIG},
    )
    db.execute(
        "insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, created_at)"
        " select -g, 1, g, 0, 'succeeded', 1, 1, now() from generate_series(1, %s) as g",
        (BIG,),
    )


@pytest.fixture(params=STATES)
def loaded(db: psycopg.Connection, request: pytest.FixtureRequest) -> psycopg.Connection:
    for table in ("outbox_0", "outbox_kept", "delivery_queue", "delivery_history_0", "feed_windows"):
        db.execute(f"alter table pgrelay.{table} set (autovacuum_enabled = false)".encode())
    webhooks = [add_webhook(db) for _ in range(WEBHOOKS)]
    if request.param == "analysed when empty":
        db.execute("analyze")
    if request.param != "empty":
        fill(db, webhooks)
    if request.param == "analysed":
        db.execute("analyze")
    return db


def check(done: list[Read], most_rows: int) -> None:
    """No table but a tiny one was read as a whole, and no more rows or entries than that in all."""
    assert not [read for read in done if not read.by_index and read.rows > WEBHOOKS]
    assert sum(read.rows for read in done) <= most_rows, done


def test_every_hot_statement_reads_by_index_and_little(loaded: psycopg.Connection) -> None:
    db = loaded
    with reads(db) as done:
        daemon = sign_on(db)
    check(done, 40)
    webhooks = [
        row[0] for row in db.execute("select id from pgrelay.webhook_configurations order by id").fetchall()
    ]
    waiting = value(db, "select count(*) from pgrelay.delivery_queue")

    with reads(db) as done:
        assert expand(db, daemon).leases == []
    check(done, 10)

    add_events(db, 5)
    with reads(db) as done:
        leases = expand(db, daemon, room=60).leases
    assert len(leases) == 60
    check(done, 500)

    add_events(db, 30)
    with reads(db) as done:
        paged = expand(db, daemon, limit=5, room=0)
    assert paged.more and sum(paged.backlog.values()) == 100
    check(done, 700)
    pend(db, daemon)

    with reads(db) as done:
        assert (
            record(db, daemon, *map(succeeded, leases[:40]), *(retried(lease, 60.0) for lease in leases[40:]))
            == []
        )
    check(done, 800)

    with reads(db) as done:
        claims = claim(db, daemon, dict.fromkeys(webhooks, 5))
    assert len(claims) == 100
    check(done, 800)

    with reads(db) as done:
        db.execute("select pgrelay.give_back(%s, %s)", (daemon, [lease.delivery_id for lease in claims]))
    check(done, 400)

    with reads(db) as done:
        assert len(db.execute("select * from pgrelay.pending_webhooks()").fetchall()) == WEBHOOKS
    check(done, 500)

    with reads(db) as done:
        assert value(db, "select pgrelay.cancel_orphans()") == 0
    check(done, 500)

    with reads(db) as done:
        assert value(db, "select events from pgrelay.unexpanded_events()") == 0
    check(done, 100)
    assert value(db, "select count(*) from pgrelay.delivery_queue") == waiting + 35 * WEBHOOKS - 40

    db.execute("set enable_seqscan = off")  # small tables are read as a whole, and rightly
    for query in (
        "select * from pgrelay.deliveries where id = %s",
        "select * from pgrelay.webhook_logs where delivery_id = %s",
    ):
        with reads(db) as done:
            assert len(db.execute(query.encode(), (leases[0].delivery_id,)).fetchall()) == 1
        check(done, 60)


def test_webhooks_that_have_become_many_since_they_were_analysed_are_read_one_by_one(
    db: psycopg.Connection,
) -> None:
    many = 1000
    tables = "webhook_configurations", "subscriptions", "webhook_health", "webhook_owners", "daemons"
    for table in (*tables, "delivery_queue"):
        db.execute(f"alter table pgrelay.{table} set (autovacuum_enabled = false)".encode())
    daemon, other = sign_on(db), sign_on(db, "two")
    first = add_webhook(db, company_id="0")
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries) values (%s, 1, 1)",
        (first,),
    )
    db.execute("insert into pgrelay.webhook_owners (webhook_id, daemon_id) values (%s, %s)", (first, daemon))
    db.execute("analyze")
    db.execute(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events, max_concurrency)"
        " select '1', 'w' || n, 'https://example.com/', '{*}', case when n %% 2 = 0 then 5 end"
        " from generate_series(1, %s) as n",
        (many,),
    )
    db.execute("update pgrelay.subscriptions set since = since - interval '1 day'")
    webhooks = [
        row[0] for row in db.execute("select id from pgrelay.webhook_configurations where id > %s", (first,))
    ]
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until, probe_wait, longest_wait)"
        " select id, 9, 1, now(), 1, 60 from unnest(%s::bigint[]) as id where id %% 3 = 0",
        (webhooks,),
    )
    db.execute(
        "insert into pgrelay.webhook_owners (webhook_id, daemon_id) select id, %s from unnest(%s::bigint[]) as id where id %% 10 = 0",
        (other, webhooks),
    )

    add_event(db)
    with reads(db) as done:
        step = expand(db, daemon, room=100, default_free=5)
    assert len(step.leases) == 100
    check(done, 20 * many)

    with reads(db) as done:
        found = db.execute("select * from pgrelay.pending_webhooks(0, 5000, %s)", (daemon,)).fetchall()
    assert 700 < len(found) < many
    check(done, 12 * many)

    with reads(db) as done:
        claims = claim(db, daemon, dict.fromkeys(webhooks, 5))
    assert len(claims) > 700
    check(done, 40 * many)

    with reads(db) as done:
        db.execute("select pgrelay.give_back(%s, %s)", (daemon, [lease.delivery_id for lease in claims]))
        assert value(db, "select pgrelay.cancel_orphans()") == 0
    check(done, 12 * many)


def test_deliveries_that_a_person_or_their_lifetime_ends_are_looked_up_whatever_was_planned_when_there_were_none(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    db.execute("alter table pgrelay.delivery_queue set (autovacuum_enabled = false)")
    db.execute("analyze pgrelay.delivery_queue")
    verbs = (
        "select pgrelay.expire_deliveries()",
        "select pgrelay.cancel_delivery(7)",
        "select pgrelay.retry_delivery(8)",
    )
    for _ in range(10):
        for verb in verbs:
            db.execute(verb.encode())
    fill(db, [webhook])
    for verb in verbs:
        with reads(db) as done:
            db.execute(verb.encode())
        check(done, 20)


def test_what_lies_in_the_future_is_not_read_to_find_what_is_due(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    db.execute(
        "insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)"
        " select 's', 'e', n::text, now() + interval '1 hour' from generate_series(1, %s) as n",
        (BIG,),
    )
    db.execute(
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot, next_attempt_at, expires_at)"
        " select %s, n, 0, now() + interval '1 hour', now() + interval '2 hours' from generate_series(1, %s) as n",
        (webhook, BIG),
    )
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until, probe_wait, longest_wait)"
        " values (%s, 9, 1, now(), 1, 60)",
        (webhook,),
    )
    for query in (
        "select * from pgrelay.glance()",
        "select * from pgrelay.fire_deadlines()",
        "select * from pgrelay.fire_deadlines(200, false)",
        "select pgrelay.expire_deliveries()",
        f"select pgrelay.grant_probes(array[{webhook}])",
        f"select * from pgrelay.claim(1, array[{webhook}], array[5], array['-infinity'::float8])",
    ):
        with reads(db) as done:
            db.execute(query.encode())
        check(done, 40)


def test_a_slice_of_a_replay_reads_a_slice(loaded: psycopg.Connection) -> None:
    db = loaded
    webhook = add_webhook(db)
    add_events(db, 1000, company_id="1")
    add_events(db, 5000, company_id="2")
    add_event(db)
    db.execute("select pgrelay.start_replay(%s, '-infinity')", (webhook,))
    db.execute(
        "update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() + interval '1 h' where webhook_id = %s",
        (webhook,),
    )
    with reads(db) as done:
        assert value(db, "select sum(added) from pgrelay.feed_replays()") == 160
    check(done, 3500)


def test_what_failed_lately_is_found_by_indexes_that_hold_nothing_else(db: psycopg.Connection) -> None:
    db.execute(
        "insert into pgrelay.delivery_history (id, webhook_id, event_id, event_slot, status, attempts, lease_no, created_at)"
        " select n, 1, n, 0, case when n % 1000 = 0 then 'failed' else 'succeeded' end, 1, 1, now()"
        " from generate_series(1, 5000) as n"
    )
    db.execute(
        "insert into pgrelay.delivery_attempts (delivery_id, event_id, webhook_id, attempt, started_at, error_kind)"
        " select n, n, 1, 1, now(), case when n % 1000 = 0 then 'status' end from generate_series(1, 5000) as n"
    )
    db.execute("analyze pgrelay.delivery_history, pgrelay.delivery_attempts")
    for query in (
        "select failed_last_day from pgrelay.health",
        "select count(*) from (select from pgrelay.delivery_attempts where error_kind is not null"
        " order by started_at desc limit 20) as latest",
    ):
        with reads(db) as done:
            assert value(db, query) == 5
        check(done, 50)
