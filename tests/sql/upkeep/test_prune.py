"""Small tables stay small, and what they still say stays."""

import psycopg

from support.database import Database
from support.plans import reads
from support.queue import add_events, add_webhook, expand, record, sign_on, succeeded, value

DAY = 86_400


def prune(db: psycopg.Connection) -> None:
    db.execute("select pgrelay.prune(%s)", (30 * DAY,))


def count(db: psycopg.Connection, table: str, condition: str = "true") -> int:
    return int(value(db, f"select count(*) from pgrelay.{table} where {condition}"))


def test_old_feed_positions_go_and_the_feed_goes_on(db: psycopg.Connection) -> None:
    add_webhook(db)
    daemon = sign_on(db)
    db.execute(
        "insert into pgrelay.feed_windows (from_snapshot, to_snapshot)"
        " select from_snapshot, to_snapshot from pgrelay.feed_windows, generate_series(1, 25000)"
    )
    prune(db)
    assert count(db, "feed_windows") == 5_001  # a bite at a time
    prune(db)
    assert count(db, "feed_windows") == 101
    add_events(db, 3)
    assert len(expand(db, daemon).leases) == 3
    assert expand(db, daemon).leases == []


def test_what_is_past_retention_goes_and_what_is_not_stays(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    for age in (10, 29, 31, 400):
        db.execute(
            "insert into pgrelay.metric_minutes select %(webhook)s, date_trunc('minute', now()) - %(age)s * interval '1 day',"
            " 1, 0, 1, 0, 5, array_fill(0, array[12])",
            {"webhook": webhook, "age": age},
        )
        db.execute(
            "insert into pgrelay.daemons (name, host, pid, version, lease_until, ended_at) select 'd', 'h', 1, '0', at, at"
            " from (select now() - %s * interval '1 day') as t (at)",
            (age,),
        )
        db.execute(
            "insert into pgrelay.deadline_fires select 's', 'a.b', %(age)s::text, at, at"
            " from (select now() - %(age)s * interval '1 day') as t (at)",
            {"age": age},
        )
        db.execute(
            "insert into pgrelay.capture_errors (recaptured_at, occurred_at) values (now() - %s * interval '1 day', now())",
            (age,),
        )
    db.execute("insert into pgrelay.capture_errors (occurred_at) values ('epoch')")
    living = sign_on(db)
    prune(db)
    assert [count(db, table) for table in ("metric_minutes", "deadline_fires")] == [2, 2]
    assert count(db, "daemons", f"id <> {living}") == 2
    assert count(db, "daemons", f"id = {living}") == 1
    assert count(db, "capture_errors", "recaptured_at is null") == 1
    assert count(db, "capture_errors", "recaptured_at is not null") == 2


def test_what_is_kept_is_not_read_to_find_what_goes(db: psycopg.Connection) -> None:
    db.execute("insert into pgrelay.capture_errors (source) select 's' from generate_series(1, 5000)")
    db.execute(
        "insert into pgrelay.deadline_fires (source, event_type, resource_id, fire_at)"
        " select 's', 'a.b', n::text, now() from generate_series(1, 5000) as n"
    )
    db.execute(
        "insert into pgrelay.metric_minutes select n, now(), 1, 0, 1, 0, 5, array_fill(0, array[12])"
        " from generate_series(1, 5000) as n"
    )
    db.execute(
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot) select 1, 1, 0 from generate_series(1, 5000)"
    )
    with reads(db) as done:
        prune(db)
    assert sum(read.rows for read in done) < 100, done
    with reads(db) as done:
        db.execute("select pgrelay.sweep()")
    assert [read.scans for read in done if read.name == "delivery_queue"] == [1], (
        "once, and only by the sweep"
    )


def test_figures_are_folded_by_one_daemon_at_a_time_and_none_waits(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    add_events(db, 4)
    daemon = sign_on(db)
    for lease in expand(db, daemon).leases:
        record(db, daemon, succeeded(lease))
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as first:
        assert value(first, "select pgrelay.fold_metrics(3)") == 3
        assert value(db, "select pgrelay.fold_metrics()") == 0
        first.rollback()
    assert value(db, "select pgrelay.fold_metrics()") == 4
    assert value(db, "select pgrelay.fold_metrics()") == 0
    assert value(db, "select attempts from pgrelay.webhook_stats") == 4
