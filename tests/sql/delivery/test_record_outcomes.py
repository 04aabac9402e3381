"""Outcomes: the fence, the history, the attempts, the figures."""

import json
import random

import psycopg
import pytest

from pgrelay.delivery import ErrorKind, Status
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
    status,
    succeeded,
    value,
)


def attempts(db: psycopg.Connection) -> list[tuple[object, ...]]:
    return db.execute(
        "select delivery_id, attempt, late from pgrelay.delivery_attempts order by id"
    ).fetchall()


def test_a_success_ends_in_the_history_with_its_attempt(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    event = add_event(db)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    outcome = succeeded(
        lease,
        duration=0.1234,
        request_headers='{"A": "1", "B": "***"}',
        response_headers='{"Server": "x"}',
        response_body="thank you",
    )._replace(started=2.5)
    assert record(db, daemon, outcome) == []
    assert db.execute(
        "select id, webhook_id, event_id, status, attempts, last_status_code, last_error from pgrelay.delivery_history"
    ).fetchall() == [(lease.delivery_id, webhook, event, "succeeded", 1, 200, None)]
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 0
    assert db.execute(
        "select delivery_id, event_id, webhook_id, attempt, duration_ms, status_code, error_kind, error_message,"
        " request_headers::text, response_headers, response_body, daemon, late,"
        " extract(epoch from clock_timestamp() - started_at) between 2.5 and 60 from pgrelay.delivery_attempts"
    ).fetchall() == [
        (lease.delivery_id, event, webhook, 1, 123, 200, None, None, '{"A": "1", "B": "***"}', {"Server": "x"},
         "thank you", f"daemon {daemon}", False, True)
    ]  # fmt: skip


def test_a_request_that_went_out_twice_says_so(db: psycopg.Connection) -> None:
    add_webhook(db)
    for _ in range(3):
        add_event(db)
    daemon = sign_on(db)
    leases = expand(db, daemon).leases
    record(db, daemon, *(succeeded(lease, requests=1 + (lease is leases[1])) for lease in leases))
    said = "select requests from pgrelay.webhook_logs order by delivery_id"
    assert [row[0] for row in db.execute(said)] == [1, 2, 1]


def test_a_failure_that_is_tried_again_is_pending_after_its_wait_and_says_why(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    record(
        db,
        daemon,
        retried(lease, 60.0, error_kind=ErrorKind.STATUS, error_message="HTTP 503", status_code=503),
    )
    row = db.execute(
        "select status, attempts, last_status_code, last_error, leased_by,"
        " extract(epoch from next_attempt_at - clock_timestamp()) between 50 and 60 from pgrelay.delivery_queue"
    ).fetchone()
    assert row == ("pending", 1, 503, "status: HTTP 503", None, True)
    assert claim(db, daemon, webhook) == []


def test_the_last_failure_ends_in_the_history_and_says_why(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    record(db, daemon, failed(lease))
    row = db.execute("select status, last_status_code, last_error from pgrelay.delivery_history").fetchone()
    assert row == ("failed", None, "timeout: no answer within 10 s")


def test_an_outcome_under_another_daemons_lease_is_kept_as_late_and_changes_nothing(
    db: psycopg.Connection,
) -> None:
    add_webhook(db)
    add_event(db)
    one, two = sign_on(db, "one"), sign_on(db, "two")
    (lease,) = expand(db, one).leases
    assert record(db, two, succeeded(lease)) == [lease.delivery_id]
    assert status(db, lease.delivery_id) is Status.IN_FLIGHT
    assert attempts(db) == [(lease.delivery_id, 1, True)]
    assert value(db, "select count(*) from pgrelay.metric_deltas") == 0


def test_an_outcome_of_an_older_lease_of_the_same_daemon_is_refused(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    (old,) = expand(db, daemon).leases
    db.execute("select pgrelay.give_back(%s, array[%s]::bigint[])", (daemon, old.delivery_id))
    (new,) = claim(db, daemon, webhook)
    assert record(db, daemon, succeeded(old)) == [old.delivery_id]
    assert status(db, old.delivery_id) is Status.IN_FLIGHT
    assert record(db, daemon, succeeded(new)) == []
    assert status(db, old.delivery_id) is Status.SUCCEEDED
    assert attempts(db) == [(old.delivery_id, 1, True), (old.delivery_id, 1, False)]


@pytest.mark.parametrize("current_first", [True, False])
def test_one_batch_may_hold_an_outdated_and_the_current_lease_of_a_delivery(
    db: psycopg.Connection, current_first: bool
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    (old,) = expand(db, daemon).leases
    db.execute("select pgrelay.give_back(%s, array[%s]::bigint[])", (daemon, old.delivery_id))
    (new,) = claim(db, daemon, webhook)
    batch = [succeeded(new), failed(old)] if current_first else [failed(old), succeeded(new)]
    assert record(db, daemon, *batch) == [old.delivery_id]
    assert status(db, old.delivery_id) is Status.SUCCEEDED
    assert sorted(row[2] for row in attempts(db)) == [False, True]
    assert value(db, "select sum(attempts) from pgrelay.metric_deltas") == 1


def test_a_batch_that_is_sent_again_is_not_recorded_again(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 4)
    daemon = sign_on(db)
    leases = expand(db, daemon).leases
    batch = [succeeded(leases[0]), retried(leases[1], 60.0), failed(leases[2])]
    assert record(db, daemon, *batch) == []
    # the answer was lost; one more outcome has been added by now
    assert record(db, daemon, *batch, succeeded(leases[3]), resent=True) == []
    assert [row[2] for row in attempts(db)] == [False] * 4
    assert value(db, "select sum(attempts) from pgrelay.metric_deltas") == 4
    assert value(db, "select count(*) from pgrelay.delivery_history") == 3
    assert status(db, leases[1].delivery_id) is Status.PENDING


def test_the_same_batch_twice_without_saying_so_is_kept_as_late(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 2)
    daemon = sign_on(db)
    leases = expand(db, daemon).leases
    batch = [succeeded(leases[0]), retried(leases[1], 60.0)]
    assert record(db, daemon, *batch) == []
    assert sorted(record(db, daemon, *batch)) == sorted(lease.delivery_id for lease in leases)
    assert [row[2] for row in attempts(db)] == [False, False, True, True]
    assert value(db, "select sum(attempts) from pgrelay.metric_deltas") == 2


def figures(db: psycopg.Connection) -> object:
    """What people read of the figures: they must not change by folding."""
    stats = db.execute(
        "select webhook_id, total_deliveries, successful_deliveries, failed_deliveries, success_rate, attempts,"
        " last_triggered_at, pending_deliveries from pgrelay.webhook_stats order by 1"
    ).fetchall()
    minutes = db.execute("select * from pgrelay.metrics order by 1, 2").fetchall()
    return stats, minutes


def test_figures_are_exact_before_and_after_folding(db: psycopg.Connection) -> None:
    chance = random.Random(11)
    webhooks = [add_webhook(db) for _ in range(3)]
    daemon = sign_on(db)
    expected = {
        webhook: [0, 0, 0, 0, 0] for webhook in webhooks
    }  # attempts, failed ones, succeeded, failed, ms
    buckets = {webhook: [0] * 12 for webhook in webhooks}
    bounds = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
    for _ in range(6):
        add_events(db, 7)
        outcomes = []
        for lease in expand(db, daemon).leases:
            milliseconds = chance.choice([0, 5, 6, 10, 11, 25, 26, 100, 101, 9_999, 10_000, 10_001, 120_000])
            kind = chance.choice([succeeded, succeeded, failed, retried])
            outcomes.append(kind(lease, duration=milliseconds / 1000))
            counted = expected[lease.webhook_id]
            counted[0] += 1
            counted[1] += kind is not succeeded
            counted[2] += kind is succeeded
            counted[3] += kind is failed
            counted[4] += milliseconds
            buckets[lease.webhook_id][sum(milliseconds > bound for bound in bounds)] += 1
        record(db, daemon, *outcomes)
        before = figures(db)
        if chance.random() < 0.5:
            assert value(db, "select pgrelay.fold_metrics(%s)", chance.choice([1, 2, 20_000])) > 0
        assert figures(db) == before
    while value(db, "select pgrelay.fold_metrics()"):
        pass
    assert value(db, "select count(*) from pgrelay.metric_deltas") == 0
    assert figures(db) == before
    for webhook in webhooks:
        attempts_made, attempts_failed, ended_well, ended_badly, milliseconds = expected[webhook]
        row = db.execute("select * from pgrelay.webhook_stats where webhook_id = %s", (webhook,)).fetchone()
        assert row is not None
        assert row[5:8] == (ended_well + ended_badly, ended_well, ended_badly)
        assert (row[8], row[9]) == (round(row[8], 2), attempts_made)
        assert abs(float(row[8]) - 100 * ended_well / (ended_well + ended_badly)) <= 0.005
        sums = db.execute(
            "select sum(attempts), sum(attempts_failed), sum(deliveries_succeeded), sum(deliveries_failed), sum(duration_ms_sum),"
            " array[sum(le_5_ms), sum(le_10_ms), sum(le_25_ms), sum(le_50_ms), sum(le_100_ms), sum(le_250_ms), sum(le_500_ms),"
            " sum(le_1000_ms), sum(le_2500_ms), sum(le_5000_ms), sum(le_10000_ms), sum(gt_10000_ms)]::bigint[]"
            " from pgrelay.metrics where webhook_id = %s",
            (webhook,),
        ).fetchone()
        assert sums == (
            attempts_made,
            attempts_failed,
            ended_well,
            ended_badly,
            milliseconds,
            buckets[webhook],
        )


def test_odd_texts_are_recorded_as_they_came(db: psycopg.Connection) -> None:
    add_webhook(db)
    odd = [
        "",
        "NULL",
        '"',
        "\\",
        '\\"',
        "'",
        "{}",
        "{,}",
        "a\nb\tc\r",
        "🚀 Ω \u2028",
        "\x01\x7f",
        "x" * 16_384,
        "%s %",
        "$1",
        "\0",
        "a\0b",
    ]
    add_events(db, len(odd))
    daemon = sign_on(db)
    leases = expand(db, daemon).leases
    outcomes = [
        failed(lease, error_message=text, response_body=text, response_headers=json.dumps({"X": text}))
        for lease, text in zip(leases, odd, strict=True)
    ]
    assert record(db, daemon, *outcomes) == []
    rows = db.execute(
        "select a.error_message, a.response_body, a.response_headers, h.last_error from pgrelay.delivery_attempts a"
        " join pgrelay.delivery_history h on h.id = a.delivery_id order by a.delivery_id"
    ).fetchall()
    for text, (message, body, headers, last_error) in zip(odd, rows, strict=True):
        stored = text.replace("\0", "\ufffd")
        assert (message, body, headers, last_error) == (stored, stored, {"X": text}, f"timeout: {stored}")


def test_making_a_webhook_inactive_does_not_wait_for_a_claim_and_what_was_claimed_ends_afterwards(
    database: Database, db: psycopg.Connection
) -> None:
    # waiting here, with thousands of rows locked already, could deadlock with the recorder, which locks others first
    webhook = add_webhook(db)
    add_events(db, 6)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as claimer:
        leases = claim(claimer, daemon, {webhook: 4})
        db.execute("select pgrelay.set_active(%s, false)", (webhook,))
        claimer.commit()
    record(db, daemon, succeeded(leases[3]), retried(leases[0], 0.0))
    states = db.execute("select status from pgrelay.deliveries order by id").fetchall()
    assert [row[0] for row in states] == [
        "pending",
        "in_flight",
        "in_flight",
        "succeeded",
        "cancelled",
        "cancelled",
    ]
    assert value(db, "select pgrelay.cancel_orphans()") == 1
