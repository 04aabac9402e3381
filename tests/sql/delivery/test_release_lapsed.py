"""What a daemon leaves behind: taken back once, noted as an attempt of unknown end, never stuck."""

import psycopg

from pgrelay.delivery import Status
from support.database import Database
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    pend,
    record,
    sign_on,
    status,
    succeeded,
    value,
)


def let_lapse(db: psycopg.Connection, *daemons: int) -> None:
    db.execute(
        "update pgrelay.daemons set lease_until = clock_timestamp() - interval '1 second' where id = any (%s)",
        (list(daemons),),
    )


def release(db: psycopg.Connection) -> list[tuple[int, int, int]]:
    return [
        (row[0], row[1], row[2]) for row in db.execute("select * from pgrelay.release_lapsed()").fetchall()
    ]


def test_what_a_dead_daemon_held_is_pending_again_failed_or_cancelled(db: psycopg.Connection) -> None:
    more, last, gone, resting = (
        add_webhook(db),
        add_webhook(db, max_retry_attempts=1),
        add_webhook(db),
        add_webhook(db),
    )
    event = add_event(db)
    dead = sign_on(db, "dead")
    leases = {lease.webhook_id: lease for lease in expand(db, dead).leases}
    db.execute("delete from pgrelay.webhook_configurations where id = %s", (gone,))
    db.execute("select pgrelay.set_active(%s, false)", (resting,))
    let_lapse(db, dead)
    assert release(db) == [(dead, 1, 3)]
    found = {webhook: status(db, lease.delivery_id) for webhook, lease in leases.items()}
    assert found == {
        more: Status.PENDING,
        last: Status.FAILED,
        gone: Status.CANCELLED,
        resting: Status.CANCELLED,
    }
    rows = db.execute(
        "select webhook_id, event_id, attempt, error_kind, daemon, late, status_code from pgrelay.delivery_attempts order by 1"
    ).fetchall()
    assert rows == [(webhook, event, 1, "lapsed", "dead", False, None) for webhook in sorted(found)]
    assert value(db, "select last_error like 'lapsed: %%' from pgrelay.delivery_queue") is True
    assert (
        value(db, "select note from pgrelay.daemons where ended_at is not null")
        == "died: no heartbeat within its lease"
    )
    totals = db.execute(
        "select webhook_id, attempts, attempts_failed, deliveries_failed from pgrelay.metric_deltas order by 1"
    ).fetchall()
    assert totals == [(webhook, 1, 1, int(webhook == last)) for webhook in sorted(found)]
    assert release(db) == []


def test_a_living_daemons_deliveries_are_left_alone(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 4)
    living, dead = sign_on(db, "living"), sign_on(db, "dead")
    mine = expand(db, living, room=2).leases
    theirs = claim(db, dead, mine[0].webhook_id)
    let_lapse(db, dead)
    assert release(db) == [(dead, 2, 0)]
    assert [status(db, lease.delivery_id) for lease in mine] == [Status.IN_FLIGHT] * 2
    assert [status(db, lease.delivery_id) for lease in theirs] == [Status.PENDING] * 2
    assert record(db, living, *map(succeeded, mine)) == []


def test_a_dead_daemon_that_held_nothing_is_reported_too(db: psycopg.Connection) -> None:
    dead = [sign_on(db), sign_on(db)]
    let_lapse(db, *dead)
    assert release(db) == [(dead[0], 0, 0), (dead[1], 0, 0)]


def test_the_late_outcome_of_a_dead_daemon_is_refused(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_event(db)
    dead, other = sign_on(db), sign_on(db)
    (lease,) = expand(db, dead).leases
    let_lapse(db, dead)
    release(db)
    assert record(db, dead, succeeded(lease)) == [lease.delivery_id]
    (again,) = claim(db, other, webhook)
    assert (again.attempt, again.lease_no) == (2, 3)
    assert record(db, dead, succeeded(lease)) == [lease.delivery_id]
    assert record(db, other, succeeded(again)) == []
    kinds = db.execute(
        "select attempt, error_kind, late from pgrelay.delivery_attempts order by id"
    ).fetchall()
    assert kinds == [(1, "lapsed", False), (1, None, True), (1, None, True), (2, None, False)]


def test_two_callers_at_once_take_back_each_delivery_once_and_do_not_wait(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    add_events(db, 5)
    dead = sign_on(db)
    expand(db, dead)
    let_lapse(db, dead)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as first:
        assert release(first) == [(dead, 5, 0)]
        assert release(db) == []
        first.commit()
    assert release(db) == []
    assert value(db, "select count(*) from pgrelay.delivery_attempts") == 5


def test_the_heartbeat_of_a_daemon_that_was_declared_dead_says_so(db: psycopg.Connection) -> None:
    daemon = sign_on(db)
    beat = "select pgrelay.heartbeat(%s, 60, true, 'well')"
    assert value(db, beat, daemon) is True
    let_lapse(db, daemon)
    assert value(db, beat, daemon) is True  # late, but nobody had noticed
    let_lapse(db, daemon)
    release(db)
    assert value(db, beat, daemon) is False


def test_what_a_daemon_leases_after_its_death_is_taken_back_by_the_next_sweep(db: psycopg.Connection) -> None:
    # stopped for longer than its lease, woken up, and claiming before it hears that it is dead
    webhook = add_webhook(db)
    add_events(db, 2)
    ghost = sign_on(db)
    pend(db, ghost)
    let_lapse(db, ghost)
    release(db)
    leases = claim(db, ghost, webhook)
    assert len(leases) == 2
    assert release(db) == []
    db.execute("select pgrelay.sweep()")
    assert [status(db, lease.delivery_id) for lease in leases] == [Status.PENDING] * 2
    assert record(db, ghost, *map(succeeded, leases)) == [lease.delivery_id for lease in leases]


def test_a_delivery_of_a_daemon_that_nobody_knows_is_taken_back(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_event(db)
    (lease,) = expand(db, 4711).leases
    db.execute("select pgrelay.sweep()")
    assert status(db, lease.delivery_id) is Status.PENDING


def test_a_daemon_that_signs_off_with_deliveries_in_hand_leaves_none_behind(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    add_events(db, 2)
    one, two = sign_on(db, "one"), sign_on(db, "two")
    mine = expand(db, one, room=1).leases
    theirs = claim(db, two, mine[0].webhook_id)
    with database.connect() as listener:
        listener.execute("listen pgrelay")
        db.execute("select setval('pgrelay.wake', 2)")
        db.execute("select pgrelay.sign_off(%s)", (one,))
        assert {note.channel for note in listener.notifies(timeout=5, stop_after=1)} == {"pgrelay"}
    assert status(db, mine[0].delivery_id) is Status.PENDING
    assert status(db, theirs[0].delivery_id) is Status.IN_FLIGHT
    assert value(db, "select last_value from pgrelay.wake") == 2
    db.execute("select pgrelay.sign_off(%s)", (two,))
    assert value(db, "select last_value from pgrelay.wake") == 1


def test_a_delivery_being_recorded_this_moment_is_not_waited_for(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    add_events(db, 2)
    slow = sign_on(db)
    leases = expand(db, slow).leases
    let_lapse(db, slow)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as recorder:
        record(recorder, slow, succeeded(leases[0]))
        assert release(db) == [(slow, 1, 0)]
        recorder.rollback()
    db.execute("select pgrelay.sweep()")
    assert [status(db, lease.delivery_id) for lease in leases] == [Status.PENDING] * 2
