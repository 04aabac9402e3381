"""Deliveries of one resource, for a webhook that wants them in order: the next is due when the one before has ended."""

import random
from collections import defaultdict

import psycopg
import pytest

from pgrelay.delivery import Claim, Status
from support.database import Database
from support.queue import (
    add_event,
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

WAITING = "select count(*) from pgrelay.delivery_queue where next_attempt_at = 'infinity'"


@pytest.fixture
def ordered(db: psycopg.Connection) -> int:
    return add_webhook(db, ordering="resource")


@pytest.fixture
def daemon(db: psycopg.Connection) -> int:
    return sign_on(db)


def resource_of(db: psycopg.Connection, lease: Claim) -> str:
    return str(value(db, "select resource_id from pgrelay.outbox where id = %s", lease.event_id))


def test_of_each_resource_only_the_first_is_leased_and_events_of_none_flow(
    db: psycopg.Connection, ordered: int, daemon: int
) -> None:
    for resource in ("a", "a", "b", None, None, "a"):
        add_event(db, resource_id=resource)
    step = expand(db, daemon)
    assert [lease.event_id for lease in step.leases] == [1, 3, 4, 5]
    assert value(db, WAITING) == 2 and step.backlog == {}
    assert claim(db, daemon, ordered) == []


@pytest.mark.parametrize("outcome", [succeeded, failed])
def test_the_next_is_due_once_the_one_before_has_ended_well_or_not(
    db: psycopg.Connection, ordered: int, daemon: int, outcome
) -> None:
    add_event(db, resource_id="a")
    add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    record(db, daemon, outcome(first))
    (second,) = claim(db, daemon, ordered)
    assert second.event_id == 2


def test_order_counts_for_what_is_expanded_from_then_on_and_what_waits_in_line_keeps_its_turn_without_it(
    db: psycopg.Connection, daemon: int
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    expand(db, daemon, room=0)
    db.execute("update pgrelay.webhook_configurations set ordering = 'resource' where id = %s", (webhook,))
    for _ in range(3):
        add_event(db)
    (first,) = expand(db, daemon).leases
    db.execute("update pgrelay.webhook_configurations set ordering = 'none' where id = %s", (webhook,))
    assert [lease.event_id for lease in claim(db, daemon, webhook)] == [first.event_id - 1]
    record(db, daemon, succeeded(first))
    assert [lease.event_id for lease in claim(db, daemon, webhook)] == [first.event_id + 1]


def test_one_that_is_tried_again_is_waited_for(db: psycopg.Connection, ordered: int, daemon: int) -> None:
    for _ in range(2):
        add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    record(db, daemon, retried(first, 60.0))
    assert claim(db, daemon, ordered) == [] and value(db, WAITING) == 1
    db.execute("update pgrelay.delivery_queue set next_attempt_at = now() where next_attempt_at < 'infinity'")
    (again,) = claim(db, daemon, ordered)
    assert (again.event_id, again.attempt) == (1, 2)


def test_one_that_is_cancelled_or_lapses_for_good_lets_the_next_go(
    db: psycopg.Connection, daemon: int
) -> None:
    webhook = add_webhook(db, ordering="resource", max_retry_attempts=1)
    for _ in range(3):
        add_event(db, resource_id="a")
    pend(db, daemon)
    db.execute("select pgrelay.cancel_delivery(1)")
    expand(db, daemon)
    dead = sign_on(db, "dead", lease=-1.0)
    (second,) = claim(db, dead, webhook)
    assert second.event_id == 2
    db.execute("select pgrelay.release_lapsed()")
    expand(db, daemon)
    assert status(db, 2) == Status.FAILED
    (third,) = claim(db, daemon, webhook)
    assert third.event_id == 3


def test_what_is_replayed_or_retried_by_hand_waits_its_turn(
    db: psycopg.Connection, ordered: int, daemon: int
) -> None:
    add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    record(db, daemon, failed(first))
    add_event(db, resource_id="a")
    (second,) = expand(db, daemon).leases
    assert value(db, "select pgrelay.retry_delivery(1)") is True
    assert value(db, "select pgrelay.replay(%s, '-infinity')", ordered) == 2
    expand(db, daemon)
    assert claim(db, daemon, ordered) == [] and value(db, WAITING) == 3
    record(db, daemon, succeeded(second))
    order = []
    while leases := claim(db, daemon, ordered):
        (lease,) = leases
        order.append((lease.delivery_id, lease.event_id))
        record(db, daemon, succeeded(lease))
    assert order == [(1, 1), (3, 1), (4, 2)]


def test_asking_for_one_that_waits_does_not_make_it_jump_the_queue(
    db: psycopg.Connection, ordered: int, daemon: int
) -> None:
    for _ in range(2):
        add_event(db, resource_id="a")
    expand(db, daemon)
    assert value(db, "select pgrelay.retry_delivery(2)") is True
    assert value(db, WAITING) == 1


def test_a_person_who_leaves_a_transaction_open_stops_nobody(
    db: psycopg.Connection, database, ordered: int, daemon: int
) -> None:
    for resource in ("a", "a", "b"):
        add_event(db, resource_id=resource)
    pend(db, daemon)
    with database.connect(autocommit=False) as person:
        person.execute("select pgrelay.cancel_delivery(1)")
        person.execute("select pgrelay.replay(%s, '-infinity')", (ordered,))
        add_event(db, resource_id="c")
        db.execute("set lock_timeout = '5s'")
        assert [lease.event_id for lease in expand(db, daemon).leases] == [4]
        assert [lease.event_id for lease in claim(db, daemon, ordered)] == [3]
        person.commit()
    expand(db, daemon)
    assert [lease.event_id for lease in claim(db, daemon, ordered)] == [2]


def test_what_a_person_did_is_seen_however_much_was_expanded_before_they_committed(
    database: Database, db: psycopg.Connection, ordered: int, daemon: int
) -> None:
    for resource in ("a", "a", "b", "b"):
        add_event(db, resource_id=resource)
    pend(db, daemon)
    cancel = "select pgrelay.cancel_delivery(%s)"
    with database.connect(autocommit=False) as early, database.connect(autocommit=False) as late:
        assert value(early, cancel, 1)
        for _ in range(3):
            add_event(db, resource_id=None)
            expand(db, daemon)
        assert value(late, cancel, 3)
        late.commit()
        for _ in range(3):
            add_event(db, resource_id=None)
            expand(db, daemon)
        assert value(db, WAITING) == 1
        early.commit()
    expand(db, daemon)
    assert value(db, WAITING) == 0
    assert value(db, "select count(*) from pgrelay.order_releases") == 0


def test_one_that_ends_while_its_successor_is_expanded_is_never_waited_for_in_vain(
    db: psycopg.Connection, database, ordered: int, daemon: int
) -> None:
    add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    add_event(db, resource_id="a")
    with database.connect(autocommit=False) as expanding, database.connect() as person:
        expand(expanding, daemon)  # sees the first under way: the second waits, and this is not committed yet
        person.execute("select pgrelay.cancel_delivery(1)")
        with database.connect() as recording:
            recording.execute("set lock_timeout = '200ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                record(recording, daemon, succeeded(first))
        expanding.commit()
    record(db, daemon, succeeded(first))
    (second,) = claim(db, daemon, ordered)
    assert second.event_id == 2


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_a_resource_is_sent_in_order_one_at_a_time_and_all_of_it(
    db: psycopg.Connection, ordered: int, seed: int
) -> None:
    chance = random.Random(seed)
    daemons = [sign_on(db, "one"), sign_on(db, "two")]
    under_way: list[tuple[int, Claim]] = []
    sent: dict[str, list[int]] = defaultdict(list)
    added, expected = 0, 0
    for step in range(120):
        act = chance.random() if step < 80 else 0.3 + chance.random() * 0.7
        daemon = chance.choice(daemons)
        if act < 0.3:
            for _ in range(chance.choice([1, 1, 4])):
                add_event(db, resource_id=chance.choice("abc"))
                added += 1
        elif act < 0.45:
            under_way += [
                (daemon, lease) for lease in expand(db, daemon, room=chance.choice([0, 2, 9])).leases
            ]
        elif act < 0.7:
            under_way += [(daemon, lease) for lease in claim(db, daemon, {ordered: chance.choice([1, 5])})]
        elif act < 0.75:
            pending = value(
                db,
                "select id from pgrelay.delivery_queue where status = 'pending' order by random() limit 1",
            )
            if pending is not None and value(db, "select pgrelay.cancel_delivery(%s)", pending):
                expected -= 1
        elif under_way:
            owner, lease = under_way.pop(chance.randrange(len(under_way)))
            outcome = chance.choice([succeeded, succeeded, failed, retried])
            if outcome is not retried:
                sent[resource_of(db, lease)].append(lease.event_id)
            record(db, owner, outcome(lease))
        resources = [resource_of(db, lease) for _, lease in under_way]
        assert len(resources) == len(set(resources)), "two of one resource are under way"
    expected += added
    while True:
        under_way += [(daemons[0], lease) for lease in expand(db, daemons[0]).leases]
        under_way += [(daemons[0], lease) for lease in claim(db, daemons[0], ordered)]
        if not under_way:
            break
        for owner, lease in under_way:
            sent[resource_of(db, lease)].append(lease.event_id)
            record(db, owner, succeeded(lease))
        under_way = []
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 0
    assert sum(map(len, sent.values())) == expected
    for order in sent.values():
        assert order == sorted(order)
