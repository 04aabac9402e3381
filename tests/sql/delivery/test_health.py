"""Circuits, holds and disabling: what all daemons know of a webhook that fails."""

from typing import Any

import psycopg
import pytest

from pgrelay.db.arrays import doubles
from support.database import Database
from support.queue import add_events, add_webhook, claim, expand, failed, pend, record, sign_on, value


def note(
    db: psycopg.Connection,
    webhook: int,
    failures: int = 0,
    *,
    succeeded: bool = False,
    given_up: int = 0,
    hold: float | None = None,
    gone: bool = False,
    open_after: int = 3,
    disable_after: float = 0.0,
) -> list[tuple[Any, ...]]:
    """Report attempts of one webhook; (state, rounded seconds it is held) of those that come back."""
    rows = db.execute(
        "select * from pgrelay.note_results(array[%s::bigint], array[%s], array[%s], array[%s], %s::float8[], array[%s], %s, 10, 60, %s, 2)",
        (webhook, succeeded, failures, given_up, doubles([hold]), gone, open_after, disable_after),
    ).fetchall()
    assert all(row[0] == webhook for row in rows)
    return [(row[1], None if row[2] is None else round(row[2])) for row in rows]


def probe_now(db: psycopg.Connection) -> None:
    """The wait of every hold is over."""
    db.execute("update pgrelay.webhook_health set held_until = now()")


@pytest.fixture
def webhook(db: psycopg.Connection) -> int:
    return add_webhook(db)


@pytest.fixture
def daemon(db: psycopg.Connection, webhook: int) -> int:
    daemon = sign_on(db)
    add_events(db, 10)
    pend(db, daemon)
    return daemon


def test_after_so_many_failures_in_a_row_nothing_is_leased(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    assert note(db, webhook, 2) == []
    assert note(db, webhook, 1) == [("opened", 10)]
    assert claim(db, daemon, webhook) == []
    add_events(db, 1)
    assert expand(db, daemon).leases == []


def test_a_success_in_between_starts_the_count_anew(db: psycopg.Connection, webhook: int) -> None:
    assert note(db, webhook, 2) == []
    assert note(db, webhook, 2, succeeded=True) == []
    assert note(db, webhook, 1) == [("opened", 10)]


def test_each_probe_is_one_delivery_and_the_waits_between_them_double(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    note(db, webhook, 3)
    waits = []
    for _ in range(5):
        probe_now(db)
        (probe,) = claim(db, daemon, webhook)
        assert claim(db, daemon, webhook) == []
        waits.append(
            round(value(db, "select extract(epoch from held_until - now()) from pgrelay.webhook_health"))
        )
        record(db, daemon, failed(probe))
        note(db, webhook, 1)
    assert waits == [20, 40, 60, 60, 60]


def test_two_daemons_do_not_both_probe(db: psycopg.Connection, webhook: int, daemon: int) -> None:
    other = sign_on(db, "two")
    note(db, webhook, 3)
    probe_now(db)
    assert len(claim(db, daemon, webhook)) == 1 and claim(db, other, webhook) == []


def test_a_probe_is_not_spent_on_a_webhook_that_has_nothing_due(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    note(db, webhook, 3)
    probe_now(db)
    db.execute("update pgrelay.delivery_queue set next_attempt_at = now() + interval '1 hour'")
    assert claim(db, daemon, webhook) == []
    db.execute("update pgrelay.delivery_queue set next_attempt_at = now()")
    assert len(claim(db, daemon, webhook)) == 1


def test_no_probe_is_spent_by_a_daemon_that_does_not_serve_the_webhook_nor_on_a_paused_one(
    db: psycopg.Connection, daemon: int, webhook: int
) -> None:
    db.execute("update pgrelay.webhook_configurations set max_concurrency = 2")
    other = sign_on(db, "two")
    assert len(claim(db, other, {webhook: 1})) == 1
    note(db, webhook, 3)
    probe_now(db)
    assert claim(db, daemon, webhook) == []
    db.execute("update pgrelay.webhook_configurations set paused = true")
    assert claim(db, other, webhook) == []
    db.execute("update pgrelay.webhook_configurations set paused = false")
    assert len(claim(db, other, webhook)) == 1


def test_the_first_success_closes_it_and_all_is_leased_again(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    note(db, webhook, 3)
    assert note(db, webhook, succeeded=True) == [("closed", None)]
    assert len(claim(db, daemon, webhook)) == 10
    assert value(db, "select count(*) from pgrelay.webhook_health") == 0


def test_a_receiver_that_asks_for_it_is_left_alone_for_so_long_and_no_longer(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    assert note(db, webhook, 1, hold=30.0) == [("held", 30)]
    assert note(db, webhook, 1, hold=5.0) == [("held", 30)]
    assert claim(db, daemon, webhook) == []
    pending = db.execute("select round(due_in) from pgrelay.pending_webhooks()").fetchall()
    assert pending == [(30,)]
    probe_now(db)
    assert len(claim(db, daemon, webhook)) == 10


def test_what_it_asked_for_holds_although_a_request_that_was_under_way_succeeds(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    assert note(db, webhook, 2, hold=30.0) == [("held", 30)]
    assert note(db, webhook, succeeded=True) == []
    assert claim(db, daemon, webhook) == []
    probe_now(db)
    assert len(claim(db, daemon, webhook)) == 10
    assert note(db, webhook, succeeded=True) == []
    assert value(db, "select count(*) from pgrelay.webhook_health") == 0


def test_asked_for_and_taken_back_by_nothing_in_one_report(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    assert note(db, webhook, 0, succeeded=True, hold=30.0) == [("held", 30)]
    assert claim(db, daemon, webhook) == []
    assert value(db, "select failures_in_row from pgrelay.webhook_health") == 0
    assert note(db, webhook, 0, succeeded=True, gone=True) == [("disabled", None)]


def test_a_probe_that_succeeds_ends_the_wait_for_the_next_also_when_another_request_fails_meanwhile(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    note(db, webhook, 3)
    assert note(db, webhook, 1, succeeded=True) == []
    assert len(claim(db, daemon, webhook)) == 10


def test_a_probe_is_not_spent_on_what_is_too_old_to_be_sent(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    note(db, webhook, 3)
    probe_now(db)
    db.execute("update pgrelay.delivery_queue set expires_at = now()")
    assert claim(db, daemon, webhook) == []
    db.execute("update pgrelay.delivery_queue set expires_at = null")
    assert len(claim(db, daemon, webhook)) == 1


def test_gone_means_inactive_at_once_and_what_was_pending_is_cancelled(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    assert note(db, webhook, 1, given_up=1, gone=True) == [("disabled", None)]
    row = db.execute(
        "select is_active, disabled_at is not null, disabled_reason from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == (False, True, "the receiver answered 410 Gone")
    assert db.execute("select status, count(*) from pgrelay.deliveries group by 1").fetchall() == [
        ("cancelled", 10)
    ]


def test_of_very_many_that_are_pending_a_daemon_cancels_some_as_it_disables_the_webhook_and_a_person_all(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    more = b"""insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot)
              select webhook_id, event_id, event_slot from pgrelay.delivery_queue, generate_series(1, 1001) limit 10005"""
    db.execute(more)
    assert note(db, webhook, 1, given_up=1, gone=True) == [("disabled", None)]
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 15
    assert value(db, "select pgrelay.cancel_orphans()") == 15
    assert value(db, "select pgrelay.cancel_orphans()") == 0
    db.execute("select pgrelay.set_active(%s, true)", (webhook,))
    db.execute(
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot)"
        " select webhook_id, event_id, event_slot from pgrelay.delivery_history"
    )
    db.execute("select pgrelay.set_active(%s, false)", (webhook,))
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 0


def test_what_failed_for_long_enough_and_often_enough_is_disabled(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    long_ago = "update pgrelay.webhook_health set failing_since = now() - interval '6 days'"
    note(db, webhook, 5, given_up=1, disable_after=5 * 86400.0)
    db.execute(long_ago)
    assert note(db, webhook, 1, disable_after=5 * 86400.0)[0][0] != "disabled"
    assert note(db, webhook, 1, given_up=1, disable_after=5 * 86400.0) == [("disabled", None)]
    reason = value(db, "select disabled_reason from pgrelay.webhook_configurations")
    assert reason.startswith("every attempt failed since ") and "7 attempts, 2 deliveries given up" in reason


@pytest.mark.parametrize("change", ["is_active = true", "url = 'https://example.com/new'"])
def test_made_active_again_or_led_elsewhere_it_starts_afresh(
    db: psycopg.Connection, webhook: int, change: str
) -> None:
    note(db, webhook, 3)
    if "active" in change:
        note(db, webhook, 1, gone=True)
    db.execute(f"update pgrelay.webhook_configurations set {change}".encode())
    row = db.execute("select disabled_at, disabled_reason from pgrelay.webhook_configurations").fetchone()
    assert row == (None, None) and value(db, "select count(*) from pgrelay.webhook_health") == 0


def test_the_operator_hears_of_a_disabled_webhook_and_of_a_delivery_given_up(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    operator = add_webhook(db, "pgrelay", ["webhook.disabled", "delivery.failed"])
    db.execute(
        "update pgrelay.webhook_configurations set url = url || '/aB3dE5fG7hI9jK1lM3nO?key=s3cret#s3cret' where id = %s",
        (webhook,),
    )
    (lease,) = claim(db, daemon, {webhook: 1})
    record(db, daemon, failed(lease))
    note(db, webhook, 1, gone=True)
    leases = {lease.event_type: lease for lease in expand(db, daemon).leases}
    assert {lease.webhook_id for lease in leases.values()} == {operator}
    told = {
        kind: value(db, "select %s::json -> 'data'", lease.body.decode()) for kind, lease in leases.items()
    }
    assert told["webhook.disabled"]["webhook"]["id"] == webhook
    assert told["webhook.disabled"]["webhook"]["url"] == "https://example.com/hook/***?key=***#***"
    assert told["webhook.disabled"]["reason"] == "the receiver answered 410 Gone"
    assert told["delivery.failed"]["delivery"]["id"] == lease.delivery_id
    assert told["delivery.failed"]["delivery"]["last_error"] == "timeout: no answer within 10 s"
    # what cannot be delivered to the operator makes no further events
    record(db, daemon, *(failed(lease) for lease in leases.values()))
    assert expand(db, daemon).leases == []


def test_the_operator_hears_once_of_a_delivery_whose_failure_is_recorded_twice_or_late(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    add_webhook(db, "pgrelay", ["delivery.failed"])
    (lease,) = claim(db, daemon, {webhook: 1})
    record(db, daemon, failed(lease))
    record(db, daemon, failed(lease), resent=True)
    record(db, daemon, failed(lease))
    assert value(db, "select count(*) from pgrelay.outbox where event_type = 'delivery.failed'") == 1


def test_no_event_is_made_for_an_operator_who_does_not_listen(
    db: psycopg.Connection, webhook: int, daemon: int
) -> None:
    before = value(db, "select count(*) from pgrelay.outbox")
    (lease,) = claim(db, daemon, {webhook: 1})
    record(db, daemon, failed(lease))
    note(db, webhook, 1, gone=True)
    assert value(db, "select count(*) from pgrelay.outbox") == before


def test_the_daemons_own_role_may_disable_and_nothing_else_of_a_webhook(
    database: Database, db: psycopg.Connection, role, webhook: int
) -> None:
    made = role()
    db.execute(f"grant pgrelay_daemon to {made.name}".encode())
    with made.connect() as daemon:
        assert note(daemon, webhook, 1, gone=True) == [("disabled", None)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            daemon.execute("update pgrelay.webhook_configurations set is_active = true")
