"""What one look of an idle daemon tells: whether anything waits, and nothing when nothing does."""

import psycopg

from support.database import Database
from support.plans import reads
from support.queue import add_event, add_webhook, expand, sign_on, value

NOTHING = (False, None, False, False, False, False, 1)


def glance(db: psycopg.Connection) -> tuple[object, ...]:
    row = db.execute("select * from pgrelay.glance()").fetchone()
    assert row is not None
    return row


def test_nothing_waits_in_a_database_where_all_is_done(db: psycopg.Connection) -> None:
    daemon = sign_on(db)
    expand(db, daemon)
    assert glance(db) == NOTHING


def test_an_event_waits_until_it_is_expanded(db: psycopg.Connection) -> None:
    daemon = sign_on(db)
    expand(db, daemon)
    add_webhook(db)
    add_event(db)
    assert glance(db)[0] is True
    expand(db, daemon)
    assert glance(db)[0] is False


def test_an_event_of_a_transaction_that_was_open_during_the_last_look_waits_when_it_is_committed(
    database: Database, db: psycopg.Connection
) -> None:
    daemon = sign_on(db)
    add_webhook(db)
    with database.connect(autocommit=False) as slow:
        add_event(slow)
        add_event(db)  # a later one is expanded meanwhile
        expand(db, daemon)
        assert glance(db)[0] is False
        slow.commit()
    assert glance(db)[0] is True
    expand(db, daemon)
    assert glance(db)[0] is False


def test_deadlines_dead_daemons_and_counts_are_told(db: psycopg.Connection) -> None:
    db.execute(
        "insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)"
        " values ('s', 'e', '1', clock_timestamp() + interval '1 hour'), ('s', 'e', '2', clock_timestamp() - interval '1 minute')"
    )
    found = glance(db)
    assert isinstance(found[1], float) and -65 < found[1] < -55
    value(db, "select pgrelay.sign_on('dead', '', 1, '', 0)")
    db.execute(
        "insert into pgrelay.metric_deltas (webhook_id, minute, attempts, attempts_failed, deliveries_succeeded,"
        " deliveries_failed, duration_ms_sum, duration_buckets, last_attempt_at)"
        " values (1, now(), 1, 0, 1, 0, 5, array_fill(0, array[12]), now())"
    )
    assert glance(db)[3:5] == (True, True)


def test_what_has_just_outlived_its_time_is_told_and_what_did_long_ago_is_not_walked_over(
    db: psycopg.Connection,
) -> None:
    queued = (
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot, expires_at)"
        " select 1, n, 0, clock_timestamp() + %s::interval from generate_series(1, %s) as n"
    )
    db.execute(queued, ("-1 hour", 1000))  # the chore takes these, which need not be called
    db.execute(queued, ("1 hour", 1000))
    with reads(db) as found:
        assert glance(db)[2] is False
    assert sum(read.rows for read in found if read.name.startswith("delivery_queue")) < 10
    db.execute(queued, ("-1 second", 1))
    assert glance(db)[2] is True
    assert value(db, "select pgrelay.expire_deliveries(5000)") == 1001
    assert glance(db)[2] is False
