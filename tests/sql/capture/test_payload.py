"""What is sent of a row: columns in or out, another row instead, and what is added."""

from typing import Any

import pytest

from support.watched import MADE, Shop


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders()
    shop.table("customers", "id int primary key, name text, nick json")
    shop.run("insert into customers values (1, 'Ada', '{ \"a\" : 1 }')")
    return shop


def sent(shop: Shop, payload: dict[str, Any], own: dict[str, Any] | None = None) -> Any:
    """The resource object of an order."""
    shop.watch("orders", {**MADE, **({"payload": own} if own is not None else {})}, payload=payload)
    return shop.made("insert into orders values ((select count(*) from orders), '1', 'new', 1.50)").resource


ROW = {"id": 0, "company_id": "1", "status": "new", "total": 1.5}


@pytest.mark.parametrize(
    ("payload", "own", "found"),
    [
        ({}, None, ROW),
        ({"include": ["total", "id"]}, None, {"id": 0, "total": 1.5}),
        ({"exclude": ["total", "company_id"]}, None, {"id": 0, "status": "new"}),
        ({"exclude": list(ROW)}, None, {}),
        ({"exclude": list(ROW), "extra": {"a": "1"}}, None, {"a": 1}),
        ({"include": []}, None, {}),
        ({"extra": {"b": "new.total * 2", "a": "null::text"}}, None, {**ROW, "a": None, "b": 3.0}),
        ({"extra": {"status": "upper(new.status)"}}, None, {**ROW, "status": "NEW"}),
        (
            {"row": "(select c from shop.customers c where c.id = 1)"},
            None,
            {"id": 1, "name": "Ada", "nick": {"a": 1}},
        ),
        ({"row": "(select c.nick from shop.customers c)"}, None, {"a": 1}),
        ({"row": "(select c.nick from shop.customers c)", "extra": {"b": "2"}}, None, {"a": 1, "b": 2}),
        (
            {"row": "jsonb_build_object('z', 1, 'a', new.id)", "extra": {"b": "2"}},
            None,
            {"a": 0, "z": 1, "b": 2},
        ),
        ({"row": "(select c from shop.customers c where c.id = 9)"}, None, None),
        ({"row": "(select c from shop.customers c where c.id = 9)", "extra": {"b": "2"}}, None, {"b": 2}),
        (
            {"include": ["id"], "extra": {"a": "1", "b": "2"}},
            {"extra": {"b": "3", "c": "4"}},
            {"id": 0, "a": 1, "b": 3, "c": 4},
        ),
        ({"include": ["id"]}, {"exclude": ["status"]}, {"id": 0, "company_id": "1", "total": 1.5}),
        ({"exclude": ["id"]}, {"include": ["id"]}, {"id": 0}),
        ({"row": "json_build_object('a', 1)"}, {"include": ["id"]}, {"id": 0}),
        ({"include": ["id"]}, {"row": "json_build_object('a', 1)"}, {"a": 1}),
        ({"row": "json_build_object('a', 1)"}, {"row": "json_build_object('b', 2)"}, {"b": 2}),
    ],
)
def test_the_object_is_what_source_and_rule_say_together(
    orders: Shop, payload: dict[str, Any], own: dict[str, Any] | None, found: Any
) -> None:
    assert sent(orders, payload, own) == found


def test_rules_of_one_source_send_each_their_own(orders: Shop) -> None:
    made = {**MADE, "payload": {"include": ["id"]}}
    paid = {
        "event": "order.paid",
        "becomes": {"status": "paid"},
        "payload": {"extra": {"by": "'card'::text"}},
    }
    orders.watch("orders", made, paid, payload={"extra": {"shop": "7"}})
    orders.run("insert into orders values (1, '1', 'paid', 2)")
    assert [event.resource for event in orders.events()] == [
        {"id": 1, "shop": 7},
        {"id": 1, "company_id": "1", "status": "paid", "total": 2, "shop": 7, "by": "card"},
    ]


def test_names_of_extras_are_any_text(orders: Shop) -> None:
    names = ['say "hi"', "it's", "back\\slash", "100% %s", "a.b", "日本", "line\nbreak", ""]
    found = sent(orders, {"include": ["id"], "extra": {name: f"{n}" for n, name in enumerate(names)}})
    assert found == {"id": 0} | {name: n for n, name in enumerate(names)}


def test_an_extra_takes_the_place_of_the_column_of_its_name_only_once(orders: Shop) -> None:
    orders.watch("orders", payload={"extra": {"status": "'x'::text"}})
    assert orders.made("insert into orders (id) values (1)").text.count('"status"') == 1


def test_the_row_of_a_delete_is_the_one_that_went(orders: Shop) -> None:
    any_write = {
        "event": "order.any",
        "on": ["insert", "update", "delete"],
        "payload": {"include": ["id", "status"]},
    }
    gone = {"event": "order.gone", "on": ["delete"], "payload": {"extra": {"last": "old.status"}}}
    orders.watch("orders", any_write, gone, tenant="company_id")
    orders.run(
        "insert into orders values (1, '1', 'new', 1); update orders set status = 'old'; delete from orders"
    )
    events = orders.events()
    assert [event.resource.get("status") for event in events] == ["new", "old", "old", "old"]
    assert [event.company_id for event in events] == ["1"] * 4
    assert events[3].resource["last"] == "old"
    assert {event.resource_id for event in events} == {"1"}


def test_the_row_before_is_there_in_an_update_and_null_in_an_insert(orders: Shop) -> None:
    orders.watch(
        "orders", {**MADE, "payload": {"include": ["id"], "extra": {"was": "old.status", "all": "old"}}}
    )
    assert orders.made("insert into orders (id, status) values (1, 'a')").resource == {
        "id": 1,
        "was": None,
        "all": None,
    }
    assert orders.made("update orders set status = 'b'").resource["was"] == "a"


def test_resource_and_prefix_name_the_object_and_the_key(orders: Shop) -> None:
    orders.watch("orders")
    event = orders.made("insert into orders (id) values (1)")
    assert (list(event.body["data"]), event.key.split("_")[0]) == (["orders"], "orders")
    orders.watch("orders", resource="purchase")
    event = orders.made("insert into orders (id) values (2)")
    assert (list(event.body["data"]), event.key.split("_")[0]) == (["purchase"], "purchase")
    orders.watch("orders", resource="purchase", prefix="p")
    event = orders.made("insert into orders (id) values (3)")
    assert (list(event.body["data"]), event.key.split("_")[0]) == (["purchase"], "p")


@pytest.mark.parametrize(
    ("tenant", "company_id"),
    [
        ("company_id", "1"),
        ({"value": "it's"}, "it's"),
        ({"sql": "(select c.name from shop.customers c where c.id = new.id)"}, "Ada"),
        ({"sql": "new.id + 1"}, "2"),
        ({"sql": "'everyone'"}, "everyone"),
        ({"sql": "(select c.name from shop.customers c where c.id = -1)"}, ""),
    ],
)
def test_the_tenant_is_a_column_an_expression_or_a_value(orders: Shop, tenant: Any, company_id: str) -> None:
    orders.watch("orders", tenant=tenant)
    assert orders.made("insert into orders values (1, '1')").company_id == company_id
