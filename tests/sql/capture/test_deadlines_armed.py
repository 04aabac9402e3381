"""Deadlines of rows that were there before the rule, and deadlines whose row cannot be looked at."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.watched import MADE, Shop

DUE = {"event": "order.overdue", "at": "due", "when": "new.status = 'open'"}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz", closes="timestamptz")
    return shop


def let_them_pass(shop: Shop) -> None:
    """All deadlines move into the past, with what is armed, as if time had."""
    shop.run(
        "alter table orders disable trigger all; update orders set due = due - interval '1 day';"
        " alter table orders enable trigger all; update pgrelay.deadlines set fire_at = fire_at - interval '1 day'"
    )


def test_rows_that_exist_are_armed_when_the_table_is_watched(orders: Shop) -> None:
    orders.run(
        "insert into orders (id, status, due) values (1, 'open', now() + interval '1 h'),"
        " (2, 'open', now() - interval '1 h'), (3, 'open', null), (4, 'open', 'infinity')"
    )
    orders.watch("orders", DUE)
    assert orders.run("select resource_id from pgrelay.deadlines") == [("1",)]
    let_them_pass(orders)
    assert orders.fire() == ["order.overdue"]


def test_a_row_closed_when_the_table_was_watched_and_opened_later_is_overdue(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'done', now() + interval '1 h')")
    orders.watch("orders", DUE)
    orders.run("update orders set status = 'open'")
    let_them_pass(orders)
    assert orders.fire() == ["order.overdue"]


def test_watching_again_arms_nothing_again(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')")
    orders.watch("orders", DUE)
    orders.watch("orders", DUE)
    orders.watch("orders", DUE, MADE)
    assert orders.armed() == 1


def test_a_deadline_rule_that_is_added_arms_the_rows_there_are(orders: Shop) -> None:
    orders.watch("orders", MADE)
    orders.run("insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')")
    assert orders.armed() == 0
    orders.watch("orders", MADE, DUE)
    assert orders.armed() == 1


def test_a_deadline_rule_that_takes_another_column_arms_the_rows_there_are(orders: Shop) -> None:
    orders.watch("orders", DUE)
    orders.run(
        "insert into orders (id, status, due, closes) values (1, 'open', null, now() + interval '1 h')"
    )
    orders.watch("orders", {**DUE, "at": "closes"})
    assert orders.armed() == 1


@pytest.mark.parametrize("watched", [True, False], ids=["another rule was there", "nothing was there"])
def test_a_row_that_is_being_written_while_the_rule_is_added_is_armed(orders: Shop, watched: bool) -> None:
    if watched:
        orders.watch("orders", MADE)
    definition = {"name": "orders", "table": "shop.orders", "tenant": {"value": "1"}, "events": [MADE, DUE]}
    with orders.connect() as writer, orders.connect() as admin, ThreadPoolExecutor(1) as thread:
        writer.execute(
            "begin; insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')"
        )
        watching = thread.submit(admin.execute, "select pgrelay.watch(%s)", (json.dumps(definition),))
        waits = "select exists (select from pg_locks where pid = %s and not granted)"
        while not orders.value(waits, admin.info.backend_pid):
            assert not watching.done(), "it waits for the writer, who knows of no deadline yet"
        assert orders.armed() == 0
        writer.execute("commit")
        watching.result(60)
    assert orders.armed() == 1


def test_a_deadline_rule_with_an_expression_over_old_can_be_watched(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')")
    orders.watch("orders", {**DUE, "when": "old.status is null and new.status = 'open'"})
    let_them_pass(orders)
    assert orders.fire() == ["order.overdue"]


def test_unwatching_disarms(orders: Shop) -> None:
    orders.watch("orders", DUE)
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    orders.run("select pgrelay.unwatch('orders')")
    assert orders.armed() == 0
    assert orders.fire() == []


def test_a_deadline_that_fired_is_not_fired_again_by_unwatching_and_watching(orders: Shop) -> None:
    orders.watch("orders", DUE)
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    assert orders.fire() == ["order.overdue"]
    orders.run("select pgrelay.unwatch('orders')")
    orders.watch("orders", DUE)
    orders.run("update orders set total = 1")
    assert orders.fire() == []


@pytest.mark.parametrize(
    ("change", "sqlstate"),
    [
        ("alter table orders rename to old_orders", "42P01"),
        ("alter table orders rename column due to due_at", "42703"),
        ("alter table orders rename column status to state", "42703"),
        ("drop table orders", "42P01"),
    ],
)
def test_a_row_that_cannot_be_looked_at_is_recorded_and_stops_no_other_sources_deadlines(
    orders: Shop, change: str, sqlstate: str
) -> None:
    orders.table("bills", "id int primary key, due timestamptz")
    orders.watch("orders", DUE)
    orders.watch("bills", {"event": "bill.overdue", "at": "due"}, name="bills")
    orders.run("insert into orders (id, status, due) values (1, 'open', now() - interval '1 h')")
    orders.run("insert into bills values (1, now())")
    orders.run(change)
    assert orders.fire() == ["bill.overdue"]
    (error,) = orders.errors()
    assert (error.event_type, error.operation, error.resource_id, error.sqlstate) == (
        "order.overdue",
        "DEADLINE",
        "1",
        sqlstate,
    )


def test_a_deadline_that_could_not_be_looked_at_fires_after_it_is_mended_and_recaptured(orders: Shop) -> None:
    orders.run("set timezone = 'Asia/Tokyo'")
    orders.run("alter table orders alter due type timestamp")
    orders.watch("orders", DUE, timezone="America/New_York")
    orders.run("insert into orders (id, status, due) values (1, 'open', '2026-01-01 12:00')")
    orders.run("alter table orders rename to old_orders")
    assert orders.fire() == []
    orders.run("alter table old_orders rename to orders")
    assert orders.run("select event_made, message, stays_open from pgrelay.recapture()") == [
        (False, "its deadline is armed again", False)
    ]
    assert orders.run("select event_made from pgrelay.recapture()") == []
    assert orders.fire() == ["order.overdue"]


def test_a_deadline_whose_condition_failed_is_recorded_with_the_row_and_recaptured(orders: Shop) -> None:
    orders.watch("orders", {**DUE, "when": "1 / new.total > 0"})
    orders.run(
        "insert into orders (id, status, total, due) values (1, 'open', 0, now()), (2, 'open', 1, now())"
    )
    assert orders.fire() == ["order.overdue"]
    (error,) = orders.errors()
    assert (error.operation, error.resource_id, error.sqlstate) == ("DEADLINE", "1", "22012")
    assert json.loads(error.new_row or "")["status"] == "open"
    orders.watch("orders", DUE)
    orders.run("select pgrelay.recapture()")
    assert orders.fire() == ["order.overdue"]


def test_a_deadline_that_could_not_be_armed_is_recorded_and_armed_by_recapturing(orders: Shop) -> None:
    orders.watch("orders", DUE)
    orders.run("alter table orders rename column id to number")
    orders.run("insert into orders (number, status, due) values (1, 'open', now() + interval '1 h')")
    assert (orders.armed(), [error.sqlstate for error in orders.errors()]) == (0, ["42703"])
    orders.watch("orders", DUE, key="number")
    orders.run("delete from pgrelay.deadlines")  # what watching with another key armed
    orders.run("select pgrelay.recapture()")
    assert orders.run("select resource_id from pgrelay.deadlines") == [("1",)]


def test_a_deadline_of_a_row_without_a_key_is_let_go(shop: Shop) -> None:
    shop.table("orders", "id int, status text, due timestamptz")
    shop.watch("orders", DUE, key="id")
    shop.run("insert into orders values (null, 'open', now())")
    assert (shop.armed(), shop.errors()) == (0, [])


def test_of_rows_with_the_same_key_the_one_with_the_deadline_is_looked_at(shop: Shop) -> None:
    shop.table("orders", "id int, status text, due timestamptz")
    shop.watch("orders", DUE, key="id")
    shop.run(
        "insert into orders values (1, 'done', now() - interval '1 h'), (1, 'open', now() - interval '2 h')"
    )
    assert shop.fire() == ["order.overdue"]


def test_a_session_that_fires_survives_a_column_that_changes_its_type(orders: Shop) -> None:
    orders.watch("orders", DUE)
    for kind in ("bigint", "numeric", "int"):
        orders.run("update orders set due = now()")
        orders.run(
            "insert into orders (id, status, due) values ((select count(*) from orders), 'open', now())"
        )
        assert "order.overdue" in orders.fire()
        orders.run(f"alter table orders alter id type {kind}, alter total type text")
        orders.run("alter table orders alter total type numeric using total::numeric")
    assert orders.errors() == []
