"""What people read: the views tell what is so, and nothing that is secret."""

import psycopg

from pgrelay.db.webhook_states import STATES
from support.database import Database
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    failed,
    pend,
    record,
    retried,
    sign_on,
    succeeded,
    value,
)


def test_deliveries_shows_each_once_with_who_sends_it_and_when_it_is_tried_next(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    add_events(db, 6)
    one, two = sign_on(db, "one"), sign_on(db, "two")
    pend(db, one)
    ended, dead, waiting, flying = claim(db, one, {webhook: 4})
    record(db, one, succeeded(ended), failed(dead), retried(waiting, 60.0))
    (orphan,) = claim(db, two, {webhook: 1})
    db.execute("update pgrelay.daemons set lease_until = now() - interval '1 s' where id = %s", (two,))
    db.execute("select pgrelay.cancel_delivery(6)")
    rows = db.execute(
        "select id, status, attempts, next_attempt_at is not null, leased_by, leased_until > now(), finished_at is not null,"
        " last_status_code, last_error from pgrelay.deliveries order by id"
    ).fetchall()
    timeout = "timeout: no answer within 10 s"
    assert rows == [
        (ended.delivery_id, "succeeded", 1, False, None, None, True, 200, None),
        (dead.delivery_id, "failed", 1, False, None, None, True, None, timeout),
        (waiting.delivery_id, "pending", 1, True, None, None, False, None, timeout),
        (flying.delivery_id, "in_flight", 1, False, "one", True, False, None, None),
        # its daemon's lease is over: nobody sends it, whatever the row still says
        (orphan.delivery_id, "pending", 1, False, "two", False, False, None, None),
        (6, "cancelled", 0, False, None, None, True, None, "cancelled by postgres"),
    ]


def test_webhook_logs_shows_an_attempt_with_its_payload_also_when_the_webhook_is_gone(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db, "7", name="orders")
    event = add_event(db, "callback.created", "7", body='{"n": 1.10}', idempotency_key="callback_7_created_1")
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    record(db, daemon, succeeded(lease, response_body="ok", request_headers='{"A": "***"}'))
    columns = (
        "company_id, webhook_name, event_type, resource_id, idempotency_key, delivery_id, event_id, attempt, status_code,"
        " duration_ms, request_headers, payload, response_body, late"
    )
    expected = ("7", "orders", "callback.created", "7", "callback_7_created_1", lease.delivery_id, event, 1, 200, 4,
                {"A": "***"}, '{"n": 1.10}', "ok", False)  # fmt: skip
    query = f"select {columns} from pgrelay.webhook_logs where webhook_id = %s".encode()
    assert db.execute(query, (webhook,)).fetchall() == [expected]
    db.execute("delete from pgrelay.webhook_configurations")
    assert db.execute(query, (webhook,)).fetchall() == [(None, None, *expected[2:])]


def test_webhook_stats_shows_a_webhook_that_never_did_anything(db: psycopg.Connection) -> None:
    add_webhook(db, "7", name="idle")
    row = db.execute(
        "select company_id, name, total_deliveries, successful_deliveries, failed_deliveries, success_rate, attempts,"
        " last_triggered_at, pending_deliveries, oldest_pending_at from pgrelay.webhook_stats"
    ).fetchone()
    assert row == ("7", "idle", 0, 0, 0, None, 0, None, 0, None)


def test_webhook_stats_counts_what_waits_and_since_when(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_events(db, 3)
    daemon = sign_on(db)
    first, second, _ = expand(db, daemon).leases
    record(db, daemon, succeeded(first), retried(second, 60.0))
    row = db.execute(
        "select total_deliveries, success_rate, attempts, pending_deliveries,"
        " oldest_pending_at = (select min(created_at) from pgrelay.delivery_queue), last_triggered_at is not null"
        " from pgrelay.webhook_stats where webhook_id = %s",
        (webhook,),
    ).fetchone()
    assert row == (1, 100, 2, 2, True, True)


def test_health_tells_at_a_glance_what_waits_and_what_went_wrong(db: psycopg.Connection) -> None:
    def health() -> dict[str, object]:
        cursor = db.execute("select * from pgrelay.health")
        (row,) = cursor.fetchall()
        return dict(zip([column.name for column in cursor.description or ()], row, strict=True))

    quiet = health()
    assert {name for name, found in quiet.items() if found} == set()
    add_webhook(db)
    paused = add_webhook(db, events=["order.paid"], paused=True)
    add_events(db, 4)
    assert health()["events_waiting"] == 4
    living, dead = sign_on(db), sign_on(db, lease=-1.0)
    first, second, _ = expand(db, living, room=3).leases
    record(db, living, failed(first), retried(second, 60.0))
    add_event(db, "order.paid")
    pend(db, living)
    add_event(db)
    db.execute("insert into pgrelay.capture_errors (source) values ('a'), ('b')")
    db.execute(
        "insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)"
        " values ('s', 'a.b', '1', now()), ('s', 'a.b', '2', now() + interval '1 hour')"
    )
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until, probe_wait)"
        " values (7, 1, 0, now() + interval '1 min', null), (8, 1, 0, now() - interval '1 min', null), (9, 9, 0, now(), 10)"
    )
    gone, forgotten = add_webhook(db, events=["a.b"]), add_webhook(db, events=["a.b"], is_active=False)
    db.execute("select pgrelay.disable_webhook(%s, 'gone')", (gone,))
    db.execute(
        "update pgrelay.webhook_configurations set disabled_at = now() - interval '8 days' where id = %s",
        (forgotten,),
    )
    found = health()
    untried = value(
        db,
        "select min(created_at) from pgrelay.delivery_queue where attempts = 0 and webhook_id <> %s",
        paused,
    )
    assert dead != living
    assert found == {
        "daemons_alive": 1,
        "last_heartbeat_at": value(db, "select max(heartbeat_at) from pgrelay.daemons"),
        "events_waiting": 1,
        "deliveries_pending": 4,
        "deliveries_in_flight": 1,
        "oldest_untried_at": untried,
        "failed_last_day": 1,
        "capture_errors_open": 2,
        "deadlines_overdue": 1,
        "notification_queue_usage": 0.0,
        "oldest_event_at": value(db, "select max(occurred_at) from pgrelay.outbox"),
        "oldest_due_at": value(
            db,
            "select min(next_attempt_at) from pgrelay.delivery_queue where webhook_id <> %s",
            paused,
        ),
        "oldest_deadline_at": value(db, "select min(fire_at) from pgrelay.deadlines"),
        "webhooks_paused": 1,
        "circuits_open": 1,
        "webhooks_held": 1,
        "disabled_last_week": 1,
        "replays_running": 0,
        "replay_events_left": 0,
        "filter_doubts": 0,
    }


def test_what_is_held_back_on_purpose_is_not_overdue(db: psycopg.Connection) -> None:
    held, served = add_webhook(db), add_webhook(db)
    daemon = sign_on(db)
    add_events(db, 1)
    pend(db, daemon)
    overdue = (
        "select array[oldest_untried_at, oldest_due_at] = (select array[min(created_at), min(next_attempt_at)]"
        " from pgrelay.delivery_queue where webhook_id = %s) from pgrelay.health"
    )
    db.execute(
        "update pgrelay.delivery_queue set created_at = now() - interval '1 day' where webhook_id = %s",
        (held,),
    )
    db.execute("update pgrelay.delivery_queue set next_attempt_at = created_at")
    assert value(db, overdue, held)
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until, probe_wait)"
        " values (%s, 9, 0, now() + interval '1 hour', 60)",
        (held,),
    )
    assert value(db, overdue, served)
    assert value(db, "select circuits_open from pgrelay.health") == 1
    db.execute("update pgrelay.delivery_queue set next_attempt_at = 'infinity'")
    row = db.execute(
        "select oldest_untried_at, oldest_due_at, deliveries_pending from pgrelay.health"
    ).fetchone()
    assert row == (None, None, 2)


def test_events_waiting_are_counted_exactly_also_between_pages(
    database: Database, db: psycopg.Connection
) -> None:
    daemon = sign_on(db)
    count = "select events from pgrelay.unexpanded_events()"
    with database.connect(autocommit=False) as slow:
        add_event(slow)  # the lowest id of all, and not committed when the window is opened
        add_events(db, 10)
        for left in (10, 7, 4):
            assert value(db, count) == left
            expand(db, daemon, limit=3)
        slow.commit()
    assert value(db, count) == 2
    add_event(db)
    assert value(db, count) == 3
    pend(db, daemon, limit=3)
    assert value(db, count) == 0


def test_no_view_shows_a_secret_or_a_header_value_or_a_token_in_a_url(db: psycopg.Connection) -> None:
    add_webhook(
        db,
        url="https://example.com/T0p5ecretT0p5ecretT0p5ecret/?a=T0p5ecret&T0p5ecret#T0p5ecret",
        headers='{"X-Key": "T0p5ecret"}',
    )
    db.execute("select pgrelay.rotate_secret(id) from pgrelay.webhook_configurations")
    views = db.execute("select viewname from pg_views where schemaname = 'pgrelay'").fetchall()
    names = {name for (name,) in views}
    assert {name for name in names if not name.startswith("tenant_")} == {
        *("replay_progress", "deliveries", "health", "metrics", "webhook_logs", "webhook_stats", "webhooks")
    }
    shown = "".join(
        str(db.execute(f"select v::text from pgrelay.{name} v".encode()).fetchall()) for name in names
    )
    assert "https://example.com/***/?a=***&***#***" in shown
    assert "T0p5ecret" not in shown
    assert "whsec_" not in shown


def test_webhooks_says_in_a_word_how_each_is(db: psycopg.Connection) -> None:
    changes = {
        "disabled": "is_active = false, disabled_at = now(), paused = true",
        "inactive": "is_active = false, paused = true",
        "paused": "paused = true",
    }
    health = {
        "circuit open": "60, now() + interval '1 minute'",
        "held": "null, now() + interval '1 minute'",
        "failing": "null, now() - interval '1 minute'",
    }
    expected = {}
    for word in (*changes, *health, "healthy"):
        webhook = add_webhook(db)
        expected[webhook] = word
        if word in changes:
            db.execute(
                f"update pgrelay.webhook_configurations set {changes[word]} where id = {webhook}".encode()
            )
        if word != "healthy":  # also of those that are not called: what a person decided goes before
            details = health.get(word, "60, now() + interval '1 minute'")
            db.execute(
                "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, probe_wait, held_until)"
                f" values ({webhook}, 3, 1, {details})".encode()
            )
    assert dict(db.execute("select id, state from pgrelay.webhooks").fetchall()) == expected
    assert set(expected.values()) == set(STATES)
