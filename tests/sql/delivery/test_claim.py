"""What is due is leased: to one daemon at a time, within limits, longest due first, with the body to send."""

import psycopg
import pytest

from support.database import Database
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    failed,
    pend,
    record,
    retried,
    sign_on,
    succeeded,
    value,
)


def test_two_claimers_at_once_get_different_deliveries_and_neither_waits(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    add_events(db, 10)
    one, two = sign_on(db, "one"), sign_on(db, "two")
    pend(db, one)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as other:
        first = claim(other, one, {webhook: 6})
        second = claim(db, two, {webhook: 6})
        other.commit()
    assert [lease.event_id for lease in first] == [1, 2, 3, 4, 5, 6]
    assert [lease.event_id for lease in second] == [7, 8, 9, 10]
    held = db.execute(
        "select leased_by, count(*) from pgrelay.delivery_queue group by 1 order by 1"
    ).fetchall()
    assert held == [(one, 6), (two, 4)]


def test_each_webhook_gives_at_most_its_limit_whatever_the_planner_thinks(db: psycopg.Connection) -> None:
    webhooks = [add_webhook(db) for _ in range(3)]
    add_events(db, 300)
    daemon = sign_on(db)
    pend(db, daemon)
    for analysed in (False, True):
        if analysed:
            db.execute("analyze pgrelay.delivery_queue")
        leases = claim(db, daemon, dict(zip(webhooks, (5, 0, 17), strict=True)))
        counts = [sum(lease.webhook_id == webhook for lease in leases) for webhook in webhooks]
        assert counts == [5, 0, 17]
    assert value(db, "select count(*) from pgrelay.delivery_queue where status = 'in_flight'") == 44


def test_the_longest_due_go_first_and_what_is_not_due_stays(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_events(db, 5)
    daemon = sign_on(db)
    pend(db, daemon)
    for event, seconds in ((4, 30), (2, 20), (5, 10), (1, -60)):
        db.execute(
            "update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() - %s * interval '1 second'"
            " where event_id = %s",
            (seconds, event),
        )
    assert [lease.event_id for lease in claim(db, daemon, {webhook: 2})] == [2, 4]
    assert [lease.event_id for lease in claim(db, daemon, {webhook: 1})] == [5]
    assert [lease.event_id for lease in claim(db, daemon, webhook)] == [3]
    assert claim(db, daemon, webhook) == []


def test_nothing_due_before_the_floor_is_looked_at_and_the_due_of_a_lease_serves_as_floor(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    add_events(db, 6)
    daemon = sign_on(db)
    pend(db, daemon)
    (second,) = db.execute(
        "select extract(epoch from next_attempt_at)::float8 from pgrelay.delivery_queue where event_id = 2"
    ).fetchall()
    (lease,) = claim(db, daemon, {webhook: 1}, {webhook: second[0]})
    assert lease.event_id == 2
    assert lease.due == second[0]
    assert [each.event_id for each in claim(db, daemon, {webhook: 1}, {webhook: lease.due})] == [3]
    # given back, it is due now: not below a floor that a claim before gave
    db.execute("select pgrelay.give_back(%s, array[%s]::bigint[])", (daemon, lease.delivery_id))
    assert [each.event_id for each in claim(db, daemon, webhook, {webhook: lease.due})] == [2, 4, 5, 6]
    assert [each.event_id for each in claim(db, daemon, webhook)] == [1]


@pytest.mark.parametrize("resting", ["paused = true", "is_active = false"])
def test_deliveries_of_a_paused_or_inactive_webhook_are_not_leased(
    db: psycopg.Connection, resting: str
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("alter table pgrelay.webhook_configurations disable trigger user")
    db.execute(f"update pgrelay.webhook_configurations set {resting}".encode())
    assert claim(db, daemon, webhook) == []
    assert db.execute("select * from pgrelay.pending_webhooks()").fetchall() == []
    db.execute("update pgrelay.webhook_configurations set paused = false, is_active = true")
    assert len(claim(db, daemon, webhook)) == 1


def test_a_lease_counts_the_attempt_and_raises_the_fence(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    event = add_event(db, body='{"n": 1.10}')
    daemon = sign_on(db)
    pend(db, daemon)
    (first,) = claim(db, daemon, webhook)
    record(db, daemon, retried(first, 0.0))
    db.execute("update pgrelay.webhook_configurations set name = 'renamed'")
    (second,) = claim(db, daemon, webhook)
    assert (first.attempt, first.lease_no) == (1, 1)
    assert (second.attempt, second.lease_no) == (2, 2)
    assert second.webhook_version == first.webhook_version + 1
    assert (second.delivery_id, second.event_id, second.body) == (first.delivery_id, event, b'{"n": 1.10}')
    assert second.idempotency_key == first.idempotency_key


def test_the_body_of_an_event_that_was_kept_aside_is_found(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_event(db, body="kept")
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("update pgrelay.outbox set slot = -1")
    (lease,) = claim(db, daemon, webhook)
    assert lease.body == b"kept"


def test_a_delivery_whose_event_is_lost_is_leased_without_a_body_so_that_it_can_be_ended(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("truncate pgrelay.outbox")
    (lease,) = claim(db, daemon, webhook)
    assert lease.body is None
    assert record(db, daemon, failed(lease)) == []
    assert value(db, "select status from pgrelay.delivery_history") == "failed"


def test_pending_webhooks_tells_each_webhook_once_with_its_first_due_moment(db: psycopg.Connection) -> None:
    webhooks = [add_webhook(db) for _ in range(5)]
    add_webhook(db, paused=True)
    idle = add_webhook(db, events=["order.paid"])
    add_events(db, 3)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute(
        "update pgrelay.delivery_queue set next_attempt_at = clock_timestamp() + interval '50 s' where webhook_id = %s",
        (webhooks[2],),
    )
    rows = db.execute("select webhook_id, due_in, due from pgrelay.pending_webhooks()").fetchall()
    assert [row[0] for row in rows] == webhooks
    assert idle not in webhooks
    for webhook, due_in, due in rows:
        first = value(
            db,
            "select extract(epoch from min(next_attempt_at))::float8 from pgrelay.delivery_queue where webhook_id = %s",
            webhook,
        )
        assert due == first
        assert (due_in > 0) is (webhook == webhooks[2])
    page = db.execute("select webhook_id from pgrelay.pending_webhooks(%s, 2)", (webhooks[0],)).fetchall()
    assert page == [(webhooks[1],), (webhooks[2],)]


def test_a_delivery_given_back_is_pending_at_once_and_its_attempt_is_not_counted(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    add_events(db, 3)
    daemon, other = sign_on(db, "one"), sign_on(db, "two")
    pend(db, daemon)
    leases = claim(db, daemon, {webhook: 2})
    record(db, daemon, succeeded(leases[0]))
    ids = [lease.delivery_id for lease in leases]
    assert value(db, "select pgrelay.give_back(%s, %s)", other, ids) == 0
    with database.connect() as listener:
        listener.execute("listen pgrelay")
        db.execute("select setval('pgrelay.wake', 2)")
        assert value(db, "select pgrelay.give_back(%s, %s)", daemon, ids) == 1
        assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == ["pgrelay"]
    again, _ = claim(db, other, webhook, {webhook: leases[1].due or 0.0})
    assert (again.delivery_id, again.attempt, again.lease_no) == (ids[1], 1, 2)
    # what the first daemon still says of it does not count
    assert record(db, daemon, succeeded(leases[1])) == [ids[1]]


def test_what_a_daemon_leased_without_hearing_of_it_goes_back(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_events(db, 4)
    daemon, other = sign_on(db, "one"), sign_on(db, "two")
    pend(db, daemon)
    known = claim(db, daemon, {webhook: 1})
    lost = claim(db, daemon, {webhook: 2})
    theirs = claim(db, other, webhook)
    ids = [lease.delivery_id for lease in known]
    assert value(db, "select pgrelay.give_back_unknown(%s, %s)", daemon, ids) == len(lost)
    again = claim(db, other, webhook)
    assert [(lease.delivery_id, lease.attempt) for lease in again] == [
        (lease.delivery_id, 1) for lease in lost
    ]
    assert record(db, daemon, *map(succeeded, known)) == []
    assert record(db, other, *map(succeeded, theirs)) == []
