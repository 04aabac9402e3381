"""What a person asks for: retry, cancel, replay. As the comments of the functions promise."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgrelay.delivery import Status
from support.database import Database
from support.queue import (
    PLENTY,
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    failed,
    pend,
    record,
    sign_on,
    status,
    succeeded,
    until_it_waits,
    value,
)


@pytest.fixture
def dead_letter(db: psycopg.Connection) -> int:
    """A delivery that failed at its second attempt."""
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("update pgrelay.delivery_queue set attempts = 1")
    (lease,) = claim(db, daemon, webhook)
    record(db, daemon, failed(lease))
    return lease.delivery_id


def refusal(
    db: psycopg.Connection, query: str, *parameters: object
) -> tuple[str | None, str | None, str | None]:
    """SQLSTATE, message and hint."""
    with pytest.raises(psycopg.Error) as refused:
        db.execute(query.encode(), parameters)
    said = refused.value.diag
    return said.sqlstate, said.message_primary, said.message_hint


def test_a_failed_delivery_gets_another_round_under_its_old_id(
    db: psycopg.Connection, dead_letter: int
) -> None:
    created = value(db, "select created_at from pgrelay.delivery_history")
    assert value(db, "select pgrelay.retry_delivery(%s)", dead_letter) is True
    row = db.execute(
        "select id, status, attempts, lease_no, created_at from pgrelay.delivery_queue"
    ).fetchone()
    assert row == (dead_letter, "pending", 0, 1, created)
    assert value(db, "select count(*) from pgrelay.delivery_history") == 0
    daemon = sign_on(db)
    (lease,) = claim(db, daemon, value(db, "select id from pgrelay.webhook_configurations"))
    assert (lease.delivery_id, lease.attempt, lease.lease_no) == (dead_letter, 1, 2)
    record(db, daemon, succeeded(lease))
    rounds = db.execute("select attempt, error_kind from pgrelay.delivery_attempts order by id").fetchall()
    assert rounds == [(2, "timeout"), (1, None)]


def test_two_people_who_retry_the_same_delivery_both_hear_that_it_will_be_tried(
    database: Database, db: psycopg.Connection, dead_letter: int
) -> None:
    ask = "select pgrelay.retry_delivery(%s)"
    with (
        database.connect(autocommit=False) as first,
        database.connect() as second,
        ThreadPoolExecutor() as pool,
    ):
        assert value(first, ask, dead_letter) is True
        answer = pool.submit(value, second, ask, dead_letter)
        until_it_waits(db, second)
        first.commit()
        assert answer.result() is True
    assert status(db, dead_letter) is Status.PENDING


def test_retrying_makes_a_pending_delivery_due_now(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute(
        "update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() + interval '1 hour', attempts = 2"
    )
    assert claim(db, daemon, webhook) == []
    assert value(db, "select pgrelay.retry_delivery(id) from pgrelay.delivery_queue") is True
    (lease,) = claim(db, daemon, webhook)
    assert lease.attempt == 3


def test_what_is_in_flight_succeeded_or_unknown_is_not_retried(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 2)
    daemon = sign_on(db)
    first, second = expand(db, daemon).leases
    record(db, daemon, succeeded(first))
    for delivery in (first.delivery_id, second.delivery_id, 4711):
        assert value(db, "select pgrelay.retry_delivery(%s)", delivery) is False
    assert status(db, second.delivery_id) is Status.IN_FLIGHT


def test_retrying_for_an_inactive_or_deleted_webhook_is_refused_and_says_what_to_do(
    db: psycopg.Connection, dead_letter: int
) -> None:
    webhook = value(db, "select id from pgrelay.webhook_configurations")
    db.execute("select pgrelay.set_active(%s, false)", (webhook,))
    expected = (
        "PGR20",
        f"webhook {webhook} of delivery {dead_letter} is deleted or inactive",
        f"If it is there: select pgrelay.set_active({webhook}, true), then retry.",
    )
    assert refusal(db, "select pgrelay.retry_delivery(%s)", dead_letter) == expected
    db.execute("select pgrelay.set_active(%s, true)", (webhook,))
    assert value(db, "select pgrelay.retry_delivery(%s)", dead_letter) is True


def test_retrying_after_the_event_is_gone_is_refused_and_says_why(
    db: psycopg.Connection, dead_letter: int
) -> None:
    db.execute("truncate pgrelay.outbox_0")
    sqlstate, message, hint = refusal(db, "select pgrelay.retry_delivery(%s)", dead_letter)
    assert (sqlstate, message) == ("PGR21", f"event 1 of delivery {dead_letter} is older than its retention")
    assert hint == "Its body is gone; raise retention.events to keep events longer."
    assert status(db, dead_letter) is Status.FAILED


def test_cancelling_ends_a_pending_delivery_and_names_who_did_it(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 3)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon, room=1).leases
    pending = value(db, "select min(id) from pgrelay.delivery_queue where status = 'pending'")
    assert value(db, "select pgrelay.cancel_delivery(%s)", pending) is True
    assert status(db, pending) is Status.CANCELLED
    assert value(db, "select last_error from pgrelay.delivery_history") == "cancelled by postgres"
    for other in (pending, lease.delivery_id, 4711):
        assert value(db, "select pgrelay.cancel_delivery(%s)", other) is False


def test_cancelling_what_is_being_leased_this_moment_does_not_wait_and_does_not_cancel(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as claimer:
        (lease,) = claim(claimer, daemon, webhook)
        assert value(db, "select pgrelay.cancel_delivery(%s)", lease.delivery_id) is False
        claimer.commit()
    assert status(db, lease.delivery_id) is Status.IN_FLIGHT


def test_a_replay_sends_one_days_events_to_one_webhook_again(db: psycopg.Connection) -> None:
    webhook, other = add_webhook(db, events=["callback.*"]), add_webhook(db, events=["callback.*"])
    for day, event_type, company in (
        ("2026-01-01 23:59:59.999Z", "callback.created", "1"),
        ("2026-01-02 00:00:00Z", "callback.created", "1"),
        ("2026-01-02 12:00:00Z", "callback.created", "1"),
        ("2026-01-02 12:00:00Z", "order.paid", "1"),
        ("2026-01-02 12:00:00Z", "callback.created", "2"),
        ("2026-01-03 00:00:00Z", "callback.created", "1"),
    ):
        add_event(db, event_type, company, occurred_at=day)
    add_event(db, "webhook.test", occurred_at="2026-01-02 13:00:00Z", only_webhook=other)
    daemon = sign_on(db)
    db.execute("update pgrelay.subscriptions set since = '2025-01-01'")
    record(db, daemon, *(succeeded(lease) for lease in expand(db, daemon).leases))
    day = "'2026-01-02Z', '2026-01-03Z'"
    counted = db.execute(f"select event_id from pgrelay.replay_events({webhook}, {day})".encode()).fetchall()
    assert counted == [(2,), (3,)]
    assert value(db, f"select pgrelay.replay({webhook}, {day})") == 2
    leases = claim(db, daemon, {webhook: PLENTY, other: PLENTY})
    assert [(lease.event_id, lease.webhook_id, lease.attempt) for lease in leases] == [
        (2, webhook, 1),
        (3, webhook, 1),
    ]
    keys = db.execute(
        "select idempotency_key, body from pgrelay.outbox where id in (2, 3) order by id"
    ).fetchall()
    assert [(lease.idempotency_key, lease.body.decode()) for lease in leases] == keys
    assert value(db, f"select pgrelay.replay({webhook}, '2025-01-01')") == 4


@pytest.mark.parametrize(
    "how",
    ["select pgrelay.set_active(%s, false)", "delete from pgrelay.webhook_configurations where id = %s"],
)
def test_a_replay_for_an_inactive_or_deleted_webhook_is_refused(db: psycopg.Connection, how: str) -> None:
    webhook = add_webhook(db)
    db.execute(how.encode(), (webhook,))
    assert refusal(db, "select pgrelay.replay(%s, '2026-01-01')", webhook) == (
        "PGR20",
        f"webhook {webhook} does not exist or is inactive",
        f"If it is there: select pgrelay.set_active({webhook}, true), then replay.",
    )


@pytest.mark.parametrize(
    "verb",
    [
        "select pgrelay.retry_delivery(id) from pgrelay.delivery_history",
        "select pgrelay.replay(1, '2026-01-01')",
    ],
)
def test_a_sleeping_daemon_is_woken_for_what_a_person_asks(
    database: Database, db: psycopg.Connection, dead_letter: int, verb: str
) -> None:
    with database.connect() as listener:
        listener.execute("listen pgrelay")
        db.execute("select setval('pgrelay.wake', 2)")
        db.execute(verb.encode())
        assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == ["pgrelay"]
