"""Replays: counted first, fed in slices behind live traffic, stopped, resumed, each event once."""

from typing import Any

import psycopg
import pytest

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
    sign_on,
    succeeded,
    value,
)


@pytest.fixture
def slow(db: psycopg.Connection) -> int:
    """A webhook that takes two a second, so a replay adds two at a time. Its ten events are delivered."""
    add_events(db, 10)
    webhook = add_webhook(db, rate_limit_per_second=2)
    db.execute("update pgrelay.subscriptions set since = clock_timestamp()")
    expand(db, sign_on(db))
    return webhook


def start(db: psycopg.Connection, webhook: int, since: str = "-infinity", **arguments: Any) -> int:
    given = "".join(f", p_{name} => %({name})s" for name in arguments)
    row = db.execute(
        f"select pgrelay.start_replay(%(webhook)s, %(since)s{given})".encode(),
        {"webhook": webhook, "since": since, **arguments},
    ).fetchone()
    assert row is not None
    return int(row[0])


def progress(db: psycopg.Connection, replay: int, *columns: str) -> tuple[Any, ...]:
    query = f"select {', '.join(columns)} from pgrelay.replay_progress where id = %s"
    row = db.execute(query.encode(), (replay,)).fetchone()
    assert row is not None
    return row


def feed(db: psycopg.Connection) -> int:
    """How many deliveries were added."""
    return int(value(db, "select coalesce(sum(added), 0) from pgrelay.feed_replays()"))


def deliver(db: psycopg.Connection, daemon: int, webhook: int) -> list[int]:
    """Deliver what is due; the events."""
    leases = claim(db, daemon, webhook)
    record(db, daemon, *map(succeeded, leases))
    return [lease.event_id for lease in leases]


def test_a_replay_is_fed_a_seconds_worth_at_a_time_each_event_once_and_then_it_is_done(
    db: psycopg.Connection, slow: int
):
    daemon, replay, sent = sign_on(db), start(db, slow), []
    assert progress(db, replay, "status", "events", "queued") == ("running", 10, 2)
    assert feed(db) == 0  # two wait
    while progress(db, replay, "status") == ("running",):
        sent += deliver(db, daemon, slow)
        assert feed(db) <= 2
    sent += deliver(db, daemon, slow)
    assert sent == list(range(1, 11))
    shown = progress(db, replay, "status", "queued", "skipped", "succeeded", "failed", "unfinished")
    assert shown == ("done", 10, 0, 10, 0, 0)
    assert value(db, "select count(*) from pgrelay.deliveries where replay_id = %s", replay) == 10


def test_what_is_replayed_has_the_key_and_the_body_of_its_event(db: psycopg.Connection, slow: int):
    start(db, slow)
    (one, _) = claim(db, sign_on(db), slow)
    kept = db.execute("select idempotency_key, body from pgrelay.outbox where id = %s", (one.event_id,))
    assert kept.fetchone() == (one.idempotency_key, one.body.decode())


def test_a_replay_waits_for_live_deliveries_and_says_so(db: psycopg.Connection, slow: int):
    daemon, replay = sign_on(db), start(db, slow)
    for _ in range(5):
        add_event(db)
    expand(db, daemon)
    assert deliver(db, daemon, slow) == [1, 2, 11, 12, 13, 14, 15]
    for _ in range(5):
        add_event(db)
    pend(db, daemon)
    assert feed(db) == 0
    assert progress(db, replay, "waits_because") == ("live deliveries go first",)
    deliver(db, daemon, slow)
    assert feed(db) == 2


@pytest.mark.parametrize(
    ("hold", "why"),
    [
        ("update pgrelay.webhook_configurations set paused = true", "its webhook is paused"),
        (
            "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until, probe_wait, longest_wait)"
            " select id, 9, 9, clock_timestamp() + interval '1 h', 60, 60 from pgrelay.webhook_configurations",
            "the circuit of its webhook is open",
        ),
        (
            "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until)"
            " select id, 1, 0, clock_timestamp() + interval '1 h' from pgrelay.webhook_configurations",
            "its receiver asked to be left alone (Retry-After)",
        ),
    ],
)
def test_nothing_is_queued_while_the_webhook_could_not_be_sent_it(
    db: psycopg.Connection, slow: int, hold: str, why: str
):
    db.execute(hold.encode())
    replay = start(db, slow)
    sign_on(db)
    assert (feed(db), progress(db, replay, "queued", "waits_because")) == (0, (0, why))


def test_a_stopped_replay_queues_nothing_and_goes_on_where_it_stopped(db: psycopg.Connection, slow: int):
    daemon, replay = sign_on(db), start(db, slow)
    sent = deliver(db, daemon, slow)
    assert value(db, "select pgrelay.stop_replay(%s)", replay) is True
    assert value(db, "select pgrelay.stop_replay(%s)", replay) is False
    assert (feed(db), progress(db, replay, "status", "note")) == (0, ("stopped", "stopped by postgres"))
    assert value(db, "select pgrelay.resume_replay(%s)", replay) is True
    assert value(db, "select pgrelay.resume_replay(%s)", replay) is False
    while feed(db):
        sent += deliver(db, daemon, slow)
    assert sent == list(range(1, 11))
    assert value(db, "select pgrelay.resume_replay(%s)", replay) is False


def test_a_daemon_that_dies_in_the_middle_of_a_slice_has_queued_nothing_of_it(
    database: Database, db: psycopg.Connection, slow: int
):
    daemon, replay = sign_on(db), start(db, slow)
    deliver(db, daemon, slow)
    dying = database.connect(autocommit=False)
    assert feed(dying) == 2
    assert feed(db) == 0  # another daemon does not wait for it
    db.execute("select pg_terminate_backend(%s, 5000)", (dying.info.backend_pid,))
    assert progress(db, replay, "queued") == (2,)
    dying.close()
    assert feed(db) == 2
    assert deliver(db, daemon, slow) == [3, 4]


def test_stopping_waits_for_the_slice_that_is_under_way_and_nothing_follows(
    database: Database, db: psycopg.Connection, slow: int
):
    daemon, replay = sign_on(db), start(db, slow)
    deliver(db, daemon, slow)
    db.execute("set lock_timeout = '50ms'")
    with database.connect(autocommit=False) as feeding:
        assert feed(feeding) == 2
        with pytest.raises(psycopg.errors.LockNotAvailable):
            db.execute("select pgrelay.stop_replay(%s)", (replay,))
        feeding.commit()
        db.execute("select pgrelay.stop_replay(%s)", (replay,))
        assert feed(feeding) == 0


def test_what_is_captured_or_committed_after_the_start_is_not_part_of_it(
    database: Database, db: psycopg.Connection
):
    webhook = add_webhook(db)
    with database.connect(autocommit=False) as application:
        late = add_event(application, resource_id="late")
        early = add_event(db)
        replay = start(db, webhook, until="infinity")
        application.commit()
    add_event(db)
    while feed(db):
        pass
    assert progress(db, replay, "events", "queued", "status") == (1, 1, "done")
    assert value(
        db, "select array_agg(event_id) from pgrelay.delivery_queue where replay_id = %s", replay
    ) == [early]
    assert late < early


def test_only_some_event_types_are_replayed_if_asked_for(db: psycopg.Connection):
    webhook = add_webhook(db, events=["callback.*"])
    wanted = [add_event(db, "callback.created"), add_event(db, "callback.created")]
    add_event(db, "callback.expired")
    add_event(db, "order.paid")
    replay = start(db, webhook, event_types=["callback.created", "order.*"])
    assert value(db, "select array_agg(event_id order by event_id) from pgrelay.delivery_queue") == wanted
    assert progress(db, replay, "status", "events") == ("done", 2)


def test_what_the_webhook_no_longer_subscribes_to_is_skipped(db: psycopg.Connection, slow: int):
    daemon, replay = sign_on(db), start(db, slow)
    db.execute("update pgrelay.webhook_configurations set subscribed_events = '{order.*}'")
    deliver(db, daemon, slow)
    feed(db)
    assert progress(db, replay, "status", "queued", "skipped") == ("done", 2, 8)


def test_a_replay_for_a_webhook_that_goes_away_is_stopped_and_can_be_resumed_when_it_is_back(
    db: psycopg.Connection, slow: int
):
    replay = start(db, slow)
    db.execute("select pgrelay.set_active(%s, false)", (slow,))
    note = "its webhook was deleted or made inactive"
    assert db.execute("select replay_id, added, status, note from pgrelay.feed_replays()").fetchall() == [
        (replay, 0, "stopped", note)
    ]
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select pgrelay.resume_replay(%s)", (replay,))
    assert refused.value.sqlstate == "PGR20"
    db.execute("select pgrelay.set_active(%s, true)", (slow,))
    assert value(db, "select pgrelay.resume_replay(%s)", replay) is True
    assert feed(db) == 2


def test_order_is_kept_within_what_is_replayed(db: psycopg.Connection):
    webhook, daemon = add_webhook(db, ordering="resource"), sign_on(db)
    for resource in ("a", "b", "a"):
        add_event(db, resource_id=resource)
    record(db, daemon, *map(succeeded, expand(db, daemon).leases))
    expand(db, daemon)
    while deliver(db, daemon, webhook):
        pass
    start(db, webhook)
    expand(db, daemon)
    assert deliver(db, daemon, webhook) == [1, 2]
    assert deliver(db, daemon, webhook) == [3]


def test_retention_spares_what_a_running_replay_needs_for_one_retention_and_then_counts_what_is_gone(
    db: psycopg.Connection, slow: int
):
    daemon, replay = sign_on(db), start(db, slow)
    db.execute(
        "update pgrelay.ring_slots set opened_at = opened_at - interval '10 days' where ring = 'outbox' and slot = 0"
    )
    db.execute("select pgrelay.rotate('outbox', 3600)")
    db.execute(
        "update pgrelay.ring_slots set closed_at = closed_at - interval '9 days' where closed_at is not null"
    )
    db.execute("select pgrelay.rotate('outbox', 3600)")
    assert value(db, "select count(*) from pgrelay.outbox_0") == 10
    deliver(db, daemon, slow)
    assert feed(db) == 2
    deliver(db, daemon, slow)
    db.execute("update pgrelay.replays set started_at = started_at - interval '2 hours'")
    db.execute("select pgrelay.rotate('outbox', 3600)")
    assert value(db, "select count(*) from pgrelay.outbox") == 0
    feed(db)
    assert progress(db, replay, "status", "queued", "skipped") == ("done", 4, 6)


def test_a_stopped_replay_holds_nothing_back(db: psycopg.Connection, slow: int):
    replay = start(db, slow)
    db.execute("select pgrelay.stop_replay(%s)", (replay,))
    deliver(db, sign_on(db), slow)
    db.execute("select setval('pgrelay.outbox_slot', 1)")
    db.execute("select pgrelay.rotate('outbox', 3600)")
    db.execute(
        "update pgrelay.ring_slots set closed_at = closed_at - interval '9 days' where closed_at is not null"
    )
    db.execute("select pgrelay.rotate('outbox', 3600)")
    assert value(db, "select count(*) from pgrelay.outbox") == 0


def test_a_failing_replay_stops_feeding_at_a_thousand_unfinished(db: psycopg.Connection):
    webhook = add_webhook(db, max_concurrency=10_000)
    db.execute("update pgrelay.subscriptions set since = clock_timestamp()")
    add_events(db, 1500)
    db.execute("update pgrelay.subscriptions set since = clock_timestamp()")
    start(db, webhook)
    for _ in range(4):
        db.execute("update pgrelay.delivery_queue set next_attempt_at = now() + interval '1 hour'")
        feed(db)
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 1000
    assert value(db, "select waits_because from pgrelay.replay_progress") in (
        "no daemon is running",
        "its deliveries wait for another attempt",
    )


def test_a_preview_counts_estimates_and_warns(db: psycopg.Connection, slow: int):
    add_event(db, "order.paid", occurred_at="2026-01-01Z")
    row = db.execute(
        "select events, bytes, event_types, first_event_at::text, per_second, estimated_seconds, cardinality(warnings)"
        " from pgrelay.preview_replay(%s, '2020-01-01')",
        (slow,),
    ).fetchone()
    assert row is not None
    assert row[0] == 11 and row[1] == 10 * 2 + len('{"event": "order.paid"}')
    assert row[2] == {"callback.created": 10, "order.paid": 1}
    assert row[3].startswith("2026-01-01")
    assert row[4:] == (2.0, 5.5, 1)
    db.execute("update pgrelay.webhook_configurations set paused = true")
    start(db, slow)
    warnings = value(db, "select warnings from pgrelay.preview_replay(%s, '2020-01-01')", slow)
    assert warnings[0].startswith("pgrelay was installed ") and warnings[1].startswith(
        "its webhook is paused"
    )
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select * from pgrelay.preview_replay(999, '2020-01-01')")
    assert refused.value.sqlstate == "PGR20"


def test_a_preview_says_gone_only_of_what_once_was(db: psycopg.Connection, slow: int):
    preview = "select warnings, kept_since from pgrelay.preview_replay(%s, '2020-01-01')"
    ((young,), installed) = db.execute(preview, (slow,)).fetchone() or ()
    written = value(db, "select to_char(%s at time zone 'UTC', 'YYYY-MM-DD HH24:MI \"UTC\"')", installed)
    assert young == f"pgrelay was installed {written}: there are no events from before"
    assert value(db, "select pgrelay.rotate('outbox', 0)") == "writing slot 1 now"
    assert db.execute(preview, (slow,)).fetchone() == ([young], installed)
    assert "emptied slot 0" in value(db, "select pgrelay.rotate('outbox', 0)")
    ((old,), since) = db.execute(preview, (slow,)).fetchone() or ()
    assert since > installed and "what was captured before is gone" in old


def test_the_estimate_goes_by_recent_requests_and_leaves_room_for_live_ones(db: psycopg.Connection):
    webhook = add_webhook(db, max_concurrency=2)
    assert value(db, "select pgrelay.replay_pace(%s)", webhook) == 20
    db.execute(
        "insert into pgrelay.metric_minutes values (%s, date_trunc('minute', clock_timestamp()), 6000, 0, 6000, 0, 300000, '{}')",
        (webhook,),
    )
    assert value(db, "select pgrelay.replay_pace(%s)", webhook) == 40
    add_events(db, 60)
    assert value(db, "select estimated_seconds from pgrelay.preview_replay(%s, '2020-01-01')", webhook) == 2


def test_a_replay_that_ended_long_ago_is_pruned_and_a_running_one_is_stopped_in_a_copy(
    db: psycopg.Connection, slow: int
):
    running, done = start(db, slow), start(db, slow, since="infinity")
    assert progress(db, done, "status", "events") == ("done", 0)
    db.execute(
        "update pgrelay.replays set ended_at = ended_at - interval '2 hours' where ended_at is not null"
    )
    db.execute("select pgrelay.prune(3600)")
    assert value(db, "select array_agg(id) from pgrelay.replays") == [running]
    db.execute("select pgrelay.adopt('staging', 'cancel')")
    assert progress(db, running, "status", "note") == ("stopped", "running when the database was copied")


def test_failures_of_what_is_replayed_are_counted_and_a_retry_stays_part_of_it(
    db: psycopg.Connection, slow: int
):
    daemon, replay = sign_on(db), start(db, slow)
    one, two = claim(db, daemon, slow)
    record(db, daemon, failed(one), succeeded(two))
    assert progress(db, replay, "succeeded", "failed", "unfinished") == (1, 1, 0)
    db.execute("select pgrelay.retry_delivery(%s)", (one.delivery_id,))
    assert progress(db, replay, "succeeded", "failed", "unfinished") == (1, 0, 1)
    db.execute("select pgrelay.cancel_delivery(%s)", (one.delivery_id,))
    assert progress(db, replay, "cancelled", "unfinished") == (1, 0)
