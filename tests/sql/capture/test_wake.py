"""A capture wakes the daemon when it sleeps, once a transaction, and never where that would be an error."""

from collections.abc import Iterator

import psycopg
import pytest

from support.database import Database
from support.watched import MADE, Shop

ASLEEP = "select setval('pgrelay.wake', 2)"
DUE = {"event": "order.due", "at": "due"}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    shop.watch("orders")
    return shop


@pytest.fixture
def listener(orders: Shop) -> Iterator[psycopg.Connection]:
    with orders.connect() as connection:
        connection.execute("listen pgrelay")
        yield connection


def heard(orders: Shop, listener: psycopg.Connection) -> list[str]:
    """What the listener was told until now: a last word of our own ends the waiting."""
    orders.run("select pg_notify('pgrelay', 'end')")
    found = []
    for note in listener.notifies(timeout=10):
        if note.payload == "end":
            return found
        found.append(note.payload)
    raise AssertionError("nothing arrives")


def test_a_capture_is_silent_while_no_daemon_sleeps(orders: Shop, listener: psycopg.Connection) -> None:
    orders.run("insert into orders (id) values (1)")
    assert heard(orders, listener) == []


def test_a_capture_wakes_a_daemon_that_sleeps_once_a_transaction(
    orders: Shop, listener: psycopg.Connection
) -> None:
    orders.run(ASLEEP)
    with orders.db.transaction():
        orders.run("insert into orders (id) select g from generate_series(1, 100) as g")
        with orders.db.transaction():
            orders.run("update orders set total = 1")
        with orders.db.transaction(force_rollback=True):
            orders.run("update orders set total = 2")
        orders.run("select pgrelay.emit('order.paid', '{}', '1')")
    assert heard(orders, listener) == [""]
    orders.run("update orders set total = 3")
    assert heard(orders, listener) == [""]


def test_a_change_that_is_no_event_wakes_nobody(orders: Shop, listener: psycopg.Connection) -> None:
    orders.watch("orders", {"event": "order.paid", "becomes": {"status": "paid"}}, DUE, record="subscribed")
    orders.run(ASLEEP)
    orders.run("insert into orders (id, status, due) values (1, 'paid', now() + interval '1 h')")
    orders.run("update orders set total = 3")
    assert heard(orders, listener) == []


def test_a_change_that_is_rolled_back_wakes_nobody(orders: Shop, listener: psycopg.Connection) -> None:
    orders.run(ASLEEP)
    with orders.db.transaction(force_rollback=True):
        orders.run("insert into orders (id) values (1)")
    assert heard(orders, listener) == []


@pytest.fixture
def prepared(database_with_prepared: Database) -> Iterator[Shop]:
    """A shop on the server that allows prepared transactions."""
    with database_with_prepared.connect() as connection:
        connection.execute("create schema shop")
    made = Shop(database_with_prepared)
    yield made
    made.db.close()


def test_a_transaction_with_events_can_be_prepared_and_they_appear_when_it_is_committed(
    prepared: Shop,
) -> None:
    prepared.orders(due="timestamptz")
    prepared.watch("orders", MADE, DUE)
    prepared.subscribe()
    prepared.run(ASLEEP)
    with prepared.connect() as listener:
        listener.execute("listen pgrelay")
        for number, end in ((1, "commit"), (2, "rollback")):
            prepared.run("begin; insert into orders (id, due) values (%s, now())".replace("%s", str(number)))
            prepared.run("select pgrelay.emit('order.paid', '{}', '1')")
            prepared.run(f"prepare transaction 'two phases {number}'")
            assert (prepared.events(), prepared.armed()) == ([], 0)
            prepared.run(f"{end} prepared 'two phases {number}'")
            assert [event.type for event in prepared.taken()] == (
                ["order.made", "order.paid"] if end == "commit" else []
            )
            prepared.run("delete from pgrelay.deadlines")
        assert heard(prepared, listener) == []
