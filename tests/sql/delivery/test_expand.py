"""Events become deliveries: who is owed what, what is leased at once, and what a failure in between leaves."""

import json

import psycopg
import pytest

from support.database import Database
from support.queue import Step, add_event, add_events, add_webhook, expand, pend, sign_on, value


def owed(db: psycopg.Connection) -> list[tuple[int, int]]:
    """(event, webhook) of all unfinished deliveries, by delivery id."""
    rows = db.execute("select event_id, webhook_id from pgrelay.delivery_queue order by id").fetchall()
    return [(row[0], row[1]) for row in rows]


def test_every_subscribed_webhook_of_the_tenant_is_owed_an_event_once(db: psycopg.Connection) -> None:
    both = [add_webhook(db, "1", ["callback.created"]), add_webhook(db, "1", ["*"])]
    add_webhook(db, "1", ["callback.assigned"])
    add_webhook(db, "2", ["*"])
    event = add_event(db, "callback.created", "1")
    pend(db, sign_on(db))
    assert owed(db) == [(event, webhook) for webhook in both]


def test_a_pattern_takes_in_what_it_says_and_no_more(db: psycopg.Connection) -> None:
    types = [
        "callback.created",
        "callback.request.created",
        "callback.requests.created",
        "callbacks.created",
        "order.paid",
    ]
    matches = {
        "*": types,
        "callback.*": types[:3],
        "callback.request.*": ["callback.request.created"],
        "callback.created": ["callback.created"],
        "callback.request.created": ["callback.request.created"],
        "created.*": [],
    }
    webhooks = {add_webhook(db, events=[pattern]): pattern for pattern in matches}
    events = {add_event(db, event_type): event_type for event_type in types}
    pend(db, sign_on(db))
    found: dict[str, list[str]] = {pattern: [] for pattern in matches}
    for event, webhook in owed(db):
        found[webhooks[webhook]].append(events[event])
    assert found == matches


def test_patterns_that_overlap_give_one_delivery(db: psycopg.Connection) -> None:
    patterns = [
        "callback.created",
        "callback.*",
        "callback.created.*",
        "callback.request.*",
        "*",
        "callback.created",
    ]
    webhook = add_webhook(db, events=patterns)
    narrow = add_webhook(db, events=["callback.created", "callback.created.*"])
    event = add_event(db)
    pend(db, sign_on(db))
    assert owed(db) == [(event, webhook), (event, narrow)]


def test_an_event_captured_before_the_subscription_is_not_owed(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, events=["callback.created"])
    add_event(db)
    db.execute("update pgrelay.subscriptions set since = clock_timestamp()")
    event = add_event(db)
    pend(db, sign_on(db))
    assert owed(db) == [(event, webhook)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["callback.created"], ["callback.*"]),
        (["callback.created"], ["*"]),
        (["callback.*"], ["callback.created"]),
        (["*"], ["callback.*", "order.paid"]),
        (["callback.created"], ["callback.created", "order.paid"]),
    ],
)
def test_changed_patterns_leave_owed_what_was_captured_under_the_old_and_matches_the_new(
    db: psycopg.Connection, before: list[str], after: list[str]
) -> None:
    webhook = add_webhook(db, events=before)
    event = add_event(db)
    db.execute("update pgrelay.webhook_configurations set subscribed_events = %s", (after,))
    pend(db, sign_on(db))
    assert owed(db) == [(event, webhook)]


def test_an_event_for_one_webhook_reaches_it_whatever_it_subscribes_to(db: psycopg.Connection) -> None:
    add_webhook(db)
    webhook = add_webhook(db, events=["order.paid"])
    resting = add_webhook(db, is_active=False)
    event = add_event(db, "webhook.test", only_webhook=webhook)
    add_event(db, "webhook.test", only_webhook=resting)
    pend(db, sign_on(db))
    assert owed(db) == [(event, webhook)]


def test_an_inactive_webhook_is_owed_nothing_and_a_paused_one_waits(db: psycopg.Connection) -> None:
    add_webhook(db, is_active=False)
    paused = add_webhook(db, paused=True)
    event = add_event(db)
    step = expand(db, sign_on(db))
    assert owed(db) == [(event, paused)]
    assert (step.leases, step.backlog) == ([], {})
    assert value(db, "select status from pgrelay.delivery_queue") == "pending"


def test_what_is_leased_keeps_within_the_room_and_within_what_each_webhook_has_free(
    db: psycopg.Connection,
) -> None:
    first, second, third = add_webhook(db), add_webhook(db), add_webhook(db)
    add_events(db, 5)
    daemon = sign_on(db)
    step = expand(db, daemon, room=6, free={second: 1, third: 0}, default_free=4)
    leased = [(claim.event_id, claim.webhook_id) for claim in step.leases]
    assert leased == [(1, first), (1, second), (2, first), (3, first), (4, first)]
    assert step.backlog == {first: 1, second: 4, third: 5}
    rows = db.execute(
        "select event_id, webhook_id from pgrelay.delivery_queue"
        " where status = 'in_flight' and leased_by = %s and attempts = 1 and lease_no = 1 order by id",
        (daemon,),
    ).fetchall()
    assert rows == leased


def test_the_room_is_shared_in_the_order_of_events(db: psycopg.Connection) -> None:
    webhooks = [add_webhook(db), add_webhook(db)]
    add_events(db, 3)
    step = expand(db, sign_on(db), room=3)
    assert [(c.event_id, c.webhook_id) for c in step.leases] == [
        (1, webhooks[0]),
        (1, webhooks[1]),
        (2, webhooks[0]),
    ]


def test_a_lease_carries_all_that_a_request_needs(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    body = json.dumps({"grüße": "Ω 🚀", "n": 1.10})
    event = add_event(db, "callback.created", body=body, idempotency_key="callback_7_created_1")
    (lease,) = expand(db, sign_on(db)).leases
    assert lease.body == body.encode()
    assert (lease.event_id, lease.webhook_id, lease.attempt, lease.lease_no) == (event, webhook, 1, 1)
    assert (lease.event_type, lease.idempotency_key) == ("callback.created", "callback_7_created_1")
    assert lease.webhook_version == value(db, "select version from pgrelay.webhook_configurations")
    assert 0 <= lease.age_seconds < 60
    assert lease.due is None


def test_a_step_that_is_rolled_back_loses_nothing(database: Database, db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    add_events(db, 25)
    daemon = sign_on(db)
    with database.connect(autocommit=False) as crashing:
        for _ in range(5):
            while expand(crashing, daemon, limit=10).more:
                pass
            crashing.rollback()
            expand(crashing, daemon, limit=10)
            crashing.rollback()
    pend(db, daemon, limit=10)
    assert owed(db) == [(event, webhook) for event in range(1, 26)]


def test_a_second_expander_gets_nothing_while_the_first_is_at_it(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    event = add_event(db)
    daemon = sign_on(db)
    with database.connect(autocommit=False) as first:
        assert len(expand(first, daemon).leases) == 1
        assert expand(db, daemon) == Step(busy=True)
        first.commit()
    assert expand(db, daemon) == Step()
    assert owed(db) == [(event, webhook)]


def test_an_event_that_commits_later_than_its_followers_is_not_missed(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    with database.connect(autocommit=False) as slow:
        late = add_event(slow)
        early = add_event(db)
        pend(db, daemon)
        assert owed(db) == [(early, webhook)]
        slow.commit()
    pend(db, daemon)
    assert owed(db) == [(early, webhook), (late, webhook)]


def test_events_that_nobody_is_owed_are_done_too(db: psycopg.Connection) -> None:
    add_event(db)
    assert value(db, "select events from pgrelay.unexpanded_events()") == 1
    pend(db, sign_on(db))
    assert value(db, "select events from pgrelay.unexpanded_events()") == 0
    add_webhook(db)
    pend(db, sign_on(db))
    assert owed(db) == []


def test_a_snapshot_older_than_the_lock_is_refused(database: Database) -> None:
    # it would read the position of before, and take a window twice
    with database.connect(autocommit=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(psycopg.Error, match="read committed") as refused:
            expand(connection, 1)
        assert refused.value.sqlstate == "PGR24"


def test_a_feed_without_a_position_is_an_error_and_not_silence(db: psycopg.Connection) -> None:
    db.execute("truncate pgrelay.feed_windows")
    with pytest.raises(psycopg.Error, match="feed_windows is empty") as refused:
        expand(db, 1)
    assert refused.value.diag.message_hint == "pgrelay adopt starts the feed anew."
