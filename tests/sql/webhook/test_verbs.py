"""What is done with a webhook as a whole: test, rotate, activate, pause, delete."""

import json

import psycopg
import pytest

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
    retried,
    sign_on,
    status,
    succeeded,
    value,
)


def subscriptions(db: psycopg.Connection) -> set[tuple[str, str, int]]:
    return {
        (row[0], row[1], row[2])
        for row in db.execute("select company_id, pattern, webhook_id from pgrelay.subscriptions")
    }


def refused(db: psycopg.Connection, query: str, *parameters: object) -> tuple[str | None, str | None, bool]:
    with pytest.raises(psycopg.Error) as refusal:
        db.execute(query.encode(), parameters)
    said = refusal.value.diag
    return said.sqlstate, said.message_primary, bool(said.message_hint)


def test_a_test_event_goes_to_one_webhook_and_says_that_it_is_a_test(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, "7", ["order.paid"], name='My "hook"')
    add_webhook(db, "7")
    event = value(db, "select pgrelay.test_webhook(%s)", webhook)
    (lease,) = expand(db, sign_on(db)).leases
    assert (lease.event_id, lease.webhook_id, lease.event_type) == (event, webhook, "webhook.test")
    body = json.loads(lease.body)
    assert set(body) == {"test", "message", "webhook_name", "timestamp"}
    assert (body["test"], body["webhook_name"]) == (True, 'My "hook"')
    assert body["timestamp"].endswith("+00:00")
    assert lease.idempotency_key.startswith(f"webhook_{webhook}_test_")
    assert lease.idempotency_key.removeprefix(f"webhook_{webhook}_test_").isdigit()


def test_tests_in_the_same_moment_have_different_keys(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    db.execute("select pgrelay.test_webhook(%s) from generate_series(1, 50)", (webhook,))
    assert value(db, "select count(distinct idempotency_key) from pgrelay.outbox") == 50


def test_a_webhook_that_could_not_answer_is_not_tested(db: psycopg.Connection) -> None:
    paused, inactive = add_webhook(db, paused=True), add_webhook(db, is_active=False)
    ask = "select pgrelay.test_webhook(%s)"
    assert refused(db, ask, paused) == ("PGR20", f"webhook {paused} is paused", True)
    assert refused(db, ask, inactive) == ("PGR20", f"webhook {inactive} is inactive", True)
    assert refused(db, ask, 4711) == ("PGR20", "there is no webhook 4711", True)


def test_a_rotated_secret_is_returned_and_the_old_one_signs_until_the_overlap_ends(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    old = value(db, "select secret_key from pgrelay.webhook_configurations")
    new = value(db, "select pgrelay.rotate_secret(%s, interval '2 hours')", webhook)
    row = db.execute(
        "select secret_key, previous_secret_key, previous_secret_expires_at - clock_timestamp() between interval '1 h 59 min'"
        " and interval '2 h', version from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == (new, old, True, 2)
    assert new != old
    value(db, "select pgrelay.rotate_secret(%s, interval '0')", webhook)
    row = db.execute(
        "select previous_secret_key, previous_secret_expires_at from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == (None, None)


def test_a_second_rotation_does_not_end_the_old_secret_that_still_signs_unless_told_to(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    first = value(db, "select pgrelay.rotate_secret(%s)", webhook)
    kept = "select secret_key, previous_secret_key from pgrelay.webhook_configurations"
    before = db.execute(kept).fetchone()
    with pytest.raises(psycopg.Error, match="was rotated already") as refused:
        value(db, "select pgrelay.rotate_secret(%s)", webhook)
    assert refused.value.sqlstate == "PGR22"
    assert db.execute(kept).fetchone() == before
    value(db, "select pgrelay.end_overlap(%s)", webhook)
    second = value(db, "select pgrelay.rotate_secret(%s)", webhook)
    assert db.execute(kept).fetchone() == (second, first)
    third = value(db, "select pgrelay.rotate_secret(%s, interval '0')", webhook)
    assert db.execute(kept).fetchone() == (third, None)


def test_an_overlap_is_ended_before_its_time_once_and_only_at_the_version_that_was_meant(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    assert value(db, "select pgrelay.end_overlap(%s)", webhook) is False
    new = value(db, "select pgrelay.rotate_secret(%s)", webhook)
    assert value(db, "select pgrelay.end_overlap(%s, 1)", webhook) is False
    assert value(db, "select previous_secret_key is not null from pgrelay.webhook_configurations") is True
    assert value(db, "select pgrelay.end_overlap(%s, 2)", webhook) is True
    assert value(db, "select pgrelay.end_overlap(%s)", webhook) is False
    row = db.execute(
        "select secret_key, previous_secret_key, previous_secret_expires_at from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == (new, None, None)


def test_an_overlap_is_not_ended_for_nobody_or_while_the_old_secret_signs_alone(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    db.execute("select pgrelay.seal_with('0123abcd')")
    assert value(db, "select pgrelay.rotate_secret(%s)", webhook) is None
    assert refused(db, "select pgrelay.end_overlap(4711)") == ("PGR20", "there is no webhook 4711", True)
    assert refused(db, "select pgrelay.end_overlap(%s)", webhook) == (
        "PGR22",
        f"the new secret of webhook {webhook} is not made yet: the old one signs alone",
        True,
    )


def test_a_secret_is_not_rotated_for_nobody_or_into_the_past(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    assert refused(db, "select pgrelay.rotate_secret(4711)") == ("PGR20", "there is no webhook 4711", True)
    assert refused(db, "select pgrelay.rotate_secret(%s, interval '-1 s')", webhook) == (
        "PGR22",
        "the overlap is negative",
        True,
    )
    assert value(db, "select version from pgrelay.webhook_configurations") == 1


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("select pgrelay.set_active(%s, false)", "the webhook was made inactive"),
        ("delete from pgrelay.webhook_configurations where id = %s", "the webhook was deleted"),
    ],
)
def test_an_inactive_or_deleted_webhook_is_owed_nothing_more(
    db: psycopg.Connection, ending: str, reason: str
) -> None:
    webhook, other = add_webhook(db), add_webhook(db)
    add_events(db, 3)
    daemon = sign_on(db)
    pend(db, daemon)
    (flying,) = claim(db, daemon, {webhook: 1})
    db.execute(ending.encode(), (webhook,))
    late = add_event(db)
    pend(db, daemon)
    rows = db.execute(
        "select status, last_error, event_id from pgrelay.delivery_history where webhook_id = %s order by id",
        (webhook,),
    )
    assert rows.fetchall() == [("cancelled", reason, 2), ("cancelled", reason, 3)]
    assert value(db, "select count(*) from pgrelay.delivery_queue where webhook_id = %s", other) == 4
    assert (
        value(
            db,
            "select count(*) from pgrelay.delivery_queue where event_id = %s and webhook_id = %s",
            late,
            webhook,
        )
        == 0
    )
    assert subscriptions(db) == {("1", "*", other)}
    # the one in flight may still succeed; if it fails, it is not tried again
    assert status(db, flying.delivery_id) is Status.IN_FLIGHT
    record(db, daemon, retried(flying, 0.0))
    assert value(db, "select pgrelay.cancel_orphans()") == 1
    assert status(db, flying.delivery_id) is Status.CANCELLED
    assert value(db, "select pgrelay.cancel_orphans()") == 0


def test_cancelling_orphans_touches_no_webhook_that_is_there(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_webhook(db, paused=True)
    add_events(db, 2)
    pend(db, sign_on(db))
    assert value(db, "select pgrelay.cancel_orphans()") == 0
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 4


def test_set_active_says_whether_there_is_such_a_webhook(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    assert value(db, "select pgrelay.set_active(%s, false)", webhook) is True
    assert value(db, "select pgrelay.set_active(4711, false)") is False
    assert value(db, "select pgrelay.set_active(%s, true)", webhook) is True
    event = add_event(db)
    pend(db, sign_on(db))
    assert value(db, "select event_id from pgrelay.delivery_queue") == event


def test_deliveries_of_a_paused_webhook_wait_and_go_on_when_it_is_resumed(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    pend(db, daemon)
    db.execute("update pgrelay.webhook_configurations set paused = true")
    add_event(db)
    pend(db, daemon)
    assert claim(db, daemon, webhook) == []
    with database.connect() as listener:
        listener.execute("listen pgrelay")
        db.execute("select setval('pgrelay.wake', 2)")
        db.execute("update pgrelay.webhook_configurations set paused = false")
        assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == ["pgrelay"]
    assert [lease.event_id for lease in claim(db, daemon, webhook)] == [1, 2]
    record(db, daemon, *(succeeded(lease) for lease in claim(db, daemon, webhook)))


def test_subscriptions_follow_the_webhook(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, "1", ["a.b", "a.*", "b.c.d", "b.c.*", "a.b"])
    assert subscriptions(db) == {("1", "a.*", webhook), ("1", "b.c.*", webhook)}
    db.execute("update pgrelay.webhook_configurations set subscribed_events = '{a.b,c.d}'")
    assert subscriptions(db) == {("1", "a.b", webhook), ("1", "c.d", webhook)}
    db.execute("update pgrelay.webhook_configurations set subscribed_events = '{*,c.d}'")
    assert subscriptions(db) == {("1", "*", webhook)}
    db.execute("select pgrelay.set_active(%s, false)", (webhook,))
    assert subscriptions(db) == set()


def test_a_subscription_keeps_its_date_unless_it_is_a_new_one(db: psycopg.Connection) -> None:
    add_webhook(db, "1", ["a.b", "c.d"])
    db.execute("update pgrelay.subscriptions set since = '2026-01-01Z'")

    def fresh(patterns: str) -> dict[str, bool]:
        db.execute("update pgrelay.webhook_configurations set subscribed_events = %s", (patterns,))
        rows = db.execute("select pattern, since > '2026-01-01Z' from pgrelay.subscriptions").fetchall()
        return {row[0]: row[1] for row in rows}

    assert fresh("{a.b,c.d}") == {"a.b": False, "c.d": False}
    assert fresh("{a.*,x.y}") == {"a.*": False, "x.y": True}
    assert fresh("{a.b.c,a.q}") == {"a.b.c": False, "a.q": False}
    assert fresh("{z.*}") == {"z.*": True}
