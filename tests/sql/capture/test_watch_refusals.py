"""A definition that could not work is refused before anything is made of it, with what is wrong and how to mend it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from support.database import Role
from support.watched import MADE, Shop

PAID = {"event": "order.paid", "becomes": {"status": "paid"}}
DUE = {"event": "order.due", "at": "due"}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    shop.run("create view shop.seen as select * from orders")
    return shop


def refused(orders: Shop, *rules: Mapping[str, Any], **keys: Any) -> tuple[str, str]:
    """The message and the hint."""
    with orders.refused("PGR10") as said:
        orders.watch("orders", *rules, **keys)
    assert orders.run("select from pgrelay.sources") == []
    return str(said[0].message_primary), str(said[0].message_hint or "")


SOURCES: list[tuple[dict[str, Any], str, str]] = [
    ({"name": "Orders"}, "source Orders, name: a name is 1 to 40 of a-z, 0-9 and _", "nothing was changed"),
    ({"name": "o" * 41}, "a name is 1 to 40", ""),
    ({"name": None}, "source (none), name: a name is 1 to 40", ""),
    ({"name": "x'); drop table y; --"}, "a name is 1 to 40", ""),
    ({"nmae": "x"}, 'definition: there is no key "nmae"', "The keys here are name, table, key"),
    ({"table": "orders"}, "table: there is no table orders", "Write it with its schema (public.orders)"),
    ({"table": "shop.nothing"}, "there is no table shop.nothing", ""),
    ({"table": "shop.seen"}, "shop.seen is not a table", ""),
    ({"table": "pgrelay.sources"}, "pgrelay.sources is not a table of an application", ""),
    ({"tenant": None}, "tenant: it is a column", "tenant: {value: main}"),
    ({"tenant": "nobody"}, "tenant: table shop.orders has no column nobody", "tenant: {value: main}"),
    ({"tenant": {"value": ""}}, "tenant: it is a column", ""),
    ({"tenant": {"value": "1", "sql": "1"}}, "tenant: it is a column", ""),
    ({"tenant": {"sql": "1", "column": "x"}}, 'tenant: there is no key "column"', "sql, value"),
    ({"tenant": {"sql": "new.nobody"}}, "tenant.sql: column new.nobody does not exist", "compare the name"),
    ({"key": "nothing"}, "key: table shop.orders has no column nothing", ""),
    ({"resource": "Big Order"}, "resource: use 1 to 40 of a-z", ""),
    ({"prefix": "o.x"}, "prefix: use 1 to 40 of a-z", ""),
    ({"timezone": "Mars/Olympus"}, 'timezone: time zone "Mars/Olympus" not recognized', ""),
    ({"record": "sometimes"}, "record: it is always or subscribed", ""),
    ({"events": []}, "events: a source needs at least one rule", ""),
    ({"events": {"event": "order.made"}}, "events: a source needs at least one rule", ""),
    ({"events": ["order.made"]}, "this must be a mapping", ""),
    ({"payload": ["id"]}, "payload: this must be a mapping", ""),
    ({"payload": {"exclud": ["id"]}}, 'payload: there is no key "exclud"', "row, include, exclude, extra"),
    ({"payload": {"include": ["id"], "exclude": ["id"]}}, "exclude each other", ""),
    ({"payload": {"include": ["id"], "row": "new"}}, "exclude each other", ""),
    ({"payload": {"include": "id"}}, "include and exclude are lists of columns", ""),
    ({"payload": {"include": ["nothing"]}}, "table shop.orders has no column nothing", ""),
    ({"payload": {"extra": ["x"]}}, "extra is a mapping of names to SQL expressions", ""),
    ({"payload": {"extra": {"x": 1}}}, "extra is a mapping of names to SQL expressions", ""),
    ({"payload": {"extra": {"x": "new.nothing"}}}, "order.made payload.extra.x: column new.nothing"
                                                   " does not exist", "new and old are rows"),
    ({"payload": {"row": "new."}}, "order.made payload.row: syntax error", "It is SQL over new and old"),
]  # fmt: skip

RULES: list[tuple[list[dict[str, Any]], str, str]] = [
    ([{"event": "made", "on": "insert"}], "source orders, made: an event type is two or three words", ""),
    ([{"event": "Order.Made", "on": "insert"}], "an event type is two or three words", ""),
    ([{"on": "insert"}], "(no event): an event type is two or three words", ""),
    ([{"event": "order.made"}], "order.made: nothing says when it fires", "Give it on, becomes, changes or at."),
    ([{"event": "order.made", "when": "true"}], "nothing says when it fires", ""),
    ([{"event": "order.made", "on": "upsert"}], 'on: "upsert"', "Use insert, update, delete"),
    ([{"event": "order.made", "on": []}], "on: []", "Use insert, update, delete"),
    ([{**MADE, "wen": "false"}], 'order.made: there is no key "wen"', "event, on, when, becomes, changes, at"),
    ([MADE, PAID, MADE], "order.made: two rules of one source make the same event", "Join their conditions with or"),
    ([{**MADE, "record": "no"}], "order.made: record is always or subscribed", ""),
    ([{"event": "order.paid", "becomes": "paid"}], "becomes is a mapping of columns to values", ""),
    ([{"event": "order.paid", "becomes": {"state": "paid"}}], "fails: table shop.orders has no column state", ""),
    ([{"event": "order.paid", "becomes": {"total": "much"}}], "fails: invalid input syntax for type numeric", ""),
    ([{"event": "order.paid", "changes": ["status", "state"]}], "table shop.orders has no column state", ""),
    ([{**MADE, "when": "new.state = 'x'"}], "its condition fails: column new.state does not exist", "compare the name"),
    ([{**MADE, "when": "new.status ="}], "its condition fails: syntax error", "It is SQL over new and old"),
    ([{**MADE, "when": "new.status = 'a', true"}], "its condition fails: ", ""),
    ([{**MADE, "when": "true) or (true"}], "when: syntax error", ""),
    ([{**MADE, "payload": {"extra": {"x": "1)), ((2"}}}], "payload.extra.x: syntax error", ""),
    ([{**MADE, "when": "'x'"}], "invalid input syntax for type boolean", ""),
    ([{**MADE, "when": "new.total"}], "cannot cast type numeric to boolean", ""),
    ([{**MADE, "when": "exists (select from customers)"}], 'relation "customers" does not exist', "public.branches"),
    ([{**MADE, "when": "is_big(new.total)"}], "function is_big(numeric) does not exist", "function with its schema"),
    ([{**MADE, "when": "new.status = 3"}], "operator does not exist: text = integer", "Cast one side"),
    ([{**MADE, "payload": {"extra": {"x": "'high'"}}}], "could not determine polymorphic type", "'high'::text"),
    ([{**MADE, "payload": {"exclude": ["nothing"]}}], "has no column nothing", ""),
    ([{**MADE, "payload": {"colour": "red"}}], 'order.made payload: there is no key "colour"', ""),
    ([{**DUE, "on": "insert"}], "at stands alone with when", ""),
    ([{**DUE, "at": "status"}], "order.due: at: status is a text, not a time", "timestamptz, timestamp or date"),
    ([{**DUE, "at": "nothing"}], "order.due: table shop.orders has no stored column nothing", ""),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message", "hint"), SOURCES, ids=[message for _, message, _ in SOURCES])
def test_a_source_that_could_not_work_is_refused(
    orders: Shop, keys: dict[str, Any], message: str, hint: str
) -> None:
    said = refused(orders, **keys)
    assert message in said[0]
    assert hint in said[1]
    assert said[1]


@pytest.mark.parametrize(("rules", "message", "hint"), RULES, ids=[message for _, message, _ in RULES])
def test_a_rule_that_could_not_work_is_refused(
    orders: Shop, rules: list[dict[str, Any]], message: str, hint: str
) -> None:
    said = refused(orders, *rules)
    assert said[0].startswith("source orders, ")
    assert message in said[0]
    assert hint in said[1]
    assert said[1]


def test_a_table_without_a_key_of_one_column_is_refused_until_a_key_is_named(orders: Shop) -> None:
    orders.table("lines", "order_id int, number int, primary key (order_id, number)")
    assert refused(orders, table="shop.lines") == (
        "source orders, key: table shop.lines has no primary key of one column",
        "Name the column that identifies a row: key: id",
    )
    orders.watch("lines", key="order_id")


def test_a_primary_key_that_includes_other_columns_is_one_of_one_column(orders: Shop) -> None:
    orders.table("lines", "number int, note text, primary key (number) include (note)")
    orders.watch("lines")
    assert orders.made("insert into lines values (7, 'x')").resource_id == "7"


def test_a_table_without_the_trigger_privilege_is_refused_with_the_grant(
    orders: Shop, clerk: Callable[..., Role]
) -> None:
    someone = clerk()
    orders.run(
        f"grant usage on schema pgrelay to {someone.name}; grant execute on all functions in schema"
        f" pgrelay to {someone.name}"
    )
    definition = (
        '{"name": "orders", "table": "shop.orders", "tenant": {"value": "1"}, "events": [{"event":'
        ' "a.b", "on": "insert"}]}'
    )
    with someone.connect() as connection, orders.refused("PGR12") as said:
        connection.execute("select pgrelay.watch(%s)", (definition,))
    assert said[0].message_primary == "source orders: no TRIGGER privilege on shop.orders"
    assert said[0].message_hint == f"grant trigger on shop.orders to {someone.name};"


def test_a_joined_table_that_may_not_be_read_is_refused(orders: Shop, clerk: Callable[..., Role]) -> None:
    orders.table("customers", "id int primary key")
    someone = clerk()
    orders.run(
        f"grant trigger on orders to {someone.name}; grant usage on schema pgrelay to {someone.name};"
        f" grant execute on all functions in schema pgrelay to {someone.name}"
    )
    definition = ('{"name": "orders", "table": "shop.orders", "tenant": {"value": "1"},'
                  ' "events": [{"event": "a.b", "on": "insert", "when": "exists (select from'
                  ' shop.customers)"}]}')  # fmt: skip
    with someone.connect() as connection, orders.refused("PGR10") as said:
        connection.execute("select pgrelay.watch(%s)", (definition,))
    assert (
        said[0].message_primary
        == "source orders, a.b: its condition fails: permission denied for table customers"
    )
    assert "needs this privilege" in str(said[0].message_hint)


def test_nothing_is_refused_for_what_would_fail_with_a_row_of_nulls_only(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "when": "coalesce(new.status, 'none')::int > 0"})
    assert orders.fired("insert into orders (id, status) values (1, '1')") == ["order.made"]


@pytest.mark.parametrize(
    "expression",
    ["new.total > 1 -- big ones", "new.total > 1 /* big */ --", "-- big ones\nnew.total > 1\n--"],
)
def test_a_comment_in_an_expression_harms_nothing_around_it(orders: Shop, expression: str) -> None:
    rules = [
        {**MADE, "when": expression, "payload": {"extra": {"x": "new.total -- x", "y": "new.id -- y"}}},
        {"event": "order.row", "on": "insert", "when": expression, "payload": {"row": "new -- all of it"}},
        {**DUE, "when": expression},
    ]
    orders.watch("orders", *rules, tenant={"sql": "new.company_id -- whose"})
    assert orders.fired("insert into orders (id, total, due) values (1, 3, now()), (2, 0, now())") == [
        "order.made",
        "order.row",
    ]
    assert orders.fire() == ["order.due"]
    assert orders.errors() == []
