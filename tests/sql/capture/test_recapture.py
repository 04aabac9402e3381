"""Once its cause is mended, a capture error becomes the event it should have been, once."""

import json

import pytest

from support.watched import MADE, Shop

BROKEN = {**MADE, "event": "order.made", "payload": {"extra": {"share": "1 / new.total"}}}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders()
    shop.watch("orders", BROKEN)
    return shop


def recapture(shop: Shop, *arguments: object) -> list[tuple[bool, str | None]]:
    places = ", ".join(["%s"] * len(arguments))
    return [
        (made, message)
        for made, message in shop.run(
            f"select event_made, message from pgrelay.recapture({places})", *arguments
        )
    ]


def test_the_event_is_made_with_the_time_and_the_row_of_the_change(orders: Shop) -> None:
    orders.run("insert into orders values (1, '1', 'new', 0)")
    orders.run("update orders set status = 'later', total = 7")
    orders.taken()
    captured = orders.value("select to_json(occurred_at) from pgrelay.capture_errors")
    orders.watch("orders", MADE)
    assert recapture(orders) == [(True, None)]
    (event,) = orders.events()
    assert (event.resource["status"], event.resource["total"], event.resource_id) == ("new", 0, "1")
    assert event.occurred_at == json.dumps(captured)
    assert event.body["idempotency_key"] == event.key
    assert [error.recaptured for error in orders.errors()] == [True]


def test_recapturing_twice_makes_it_once(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.watch("orders", MADE)
    assert recapture(orders) == [(True, None)]
    assert recapture(orders) == []
    assert len(orders.events()) == 1


def test_two_who_recapture_at_once_make_it_once(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.watch("orders", MADE)
    with orders.connect() as other, other.transaction():
        other.execute("select pgrelay.recapture()")
        orders.run("set statement_timeout = '10s'")
        assert recapture(orders) == []
    assert len(orders.events()) == 1


def test_what_fails_again_stays_open_and_says_why_and_holds_up_nothing_else(orders: Shop) -> None:
    orders.run("insert into orders (id, status, total) values (1, 'x', 0), (2, 'y', 0)")
    orders.watch("orders", {**MADE, "payload": {"extra": {"share": "1 / (new.id - 1)"}}})
    assert recapture(orders) == [(False, "division by zero"), (True, None)]
    assert [error.recaptured for error in orders.errors()] == [False, True]
    assert len(orders.errors()) == 2


def test_all_kinds_of_writes_are_made_again(orders: Shop) -> None:
    share = {"payload": {"extra": {"share": "1 / coalesce(new.total, old.total)"}}}
    orders.watch("orders", {"event": "order.any", "on": ["insert", "update", "delete"], **share})
    orders.run(
        "insert into orders (id, total) values (1, 0); update orders set status = 'b'; delete from orders"
    )
    assert orders.taken() == []
    after = {
        "payload": {"extra": {"was": "old.status", "is": "new.status", "had": "old.id", "has": "new.id"}}
    }
    orders.watch("orders", {"event": "order.any", "on": ["insert", "update", "delete"], **after})
    assert recapture(orders) == [(True, None)] * 3
    seen = [
        {key: event.resource[key] for key in ("was", "is", "had", "has", "id")} for event in orders.events()
    ]
    assert seen == [
        {"was": None, "is": None, "had": None, "has": 1, "id": 1},
        {"was": None, "is": "b", "had": 1, "has": 1, "id": 1},
        {"was": "b", "is": None, "had": 1, "has": None, "id": 1},
    ]


def test_a_rule_that_asks_for_a_change_is_asked_again_about_that_change(shop: Shop) -> None:
    shop.orders()
    paid = {"event": "order.paid", "becomes": {"status": "paid"}}
    shop.watch("orders", {"event": "order.paid", "on": ["insert", "update"], "when": "1 / new.total > 0"})
    shop.run("insert into orders (id, status, total) values (1, 'paid', 0), (2, 'new', 0)")
    shop.run(
        "update orders set status = 'paid' where id = 2; update orders set company_id = '2' where id = 2"
    )
    assert len(shop.errors()) == 4
    shop.watch("orders", paid)
    assert recapture(shop) == [(True, None), (False, None), (True, None), (False, None)]
    assert [event.resource_id for event in shop.events()] == ["1", "2"]
    assert recapture(shop) == []


def test_one_source_or_one_error_can_be_recaptured(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0), (2, 0)")
    orders.watch("orders", MADE)
    assert recapture(orders, "bills") == []
    first, _ = orders.errors()
    assert recapture(orders, None, first.id) == [(True, None)]
    assert recapture(orders, "orders") == [(True, None)]
    assert [event.resource_id for event in orders.events()] == ["1", "2"]


def test_an_error_of_a_source_that_is_gone_stays_and_says_so(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.run("select pgrelay.unwatch('orders')")
    assert recapture(orders) == [(False, "source orders is not watched any more")]
    assert [error.recaptured for error in orders.errors()] == [False]


def test_an_error_of_a_rule_that_is_gone_is_closed_without_an_event(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.watch("orders", {"event": "order.other", "on": "insert"})
    assert recapture(orders) == [(False, None)]
    assert (orders.events(), [error.recaptured for error in orders.errors()]) == ([], [True])


def test_nobodys_event_is_not_made(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.watch("orders", record="subscribed")
    assert recapture(orders) == [(False, None)]
    assert orders.events() == []


def test_every_value_comes_back_as_it_was(shop: Shop) -> None:
    shop.orders(
        big="bigint", part="float8", raw="bytea", doc="json", tags="text[]", at="timestamptz", span="interval"
    )
    shop.watch("orders", BROKEN)
    shop.run(
        "set extra_float_digits = -5; set intervalstyle = 'sql_standard'; set bytea_output ="
        " 'escape'; set timezone = 'Asia/Tokyo'"
    )
    shop.run(
        "insert into orders values (1, '1', %s, 0.00, 9223372036854775807, 0.1::float4, '\\x00ff',"
        " %s, '{a,NULL}', now(), '-1 day 2:00')",
        'é"\\\n',
        '{"b":  "\\u2028", "a": 1.500, "b": 2}',
    )
    shop.watch("orders", MADE)
    assert recapture(shop) == [(True, None)]
    again = shop.taken()[0].text
    kept = shop.value("select new_row from pgrelay.capture_errors")
    assert again.endswith(f'"data":{{"orders":{kept}}}}}')
    assert '"b":  "\\u2028", "a": 1.500, "b": 2' in kept
    assert '"total":0.00,"big":9223372036854775807,"part":0.10000000149011612,"raw":"\\\\x00ff"' in kept


def test_a_nul_in_a_json_column_cannot_be_read_back_and_the_error_stays_open(shop: Shop) -> None:
    shop.orders(doc="json")
    shop.watch("orders", BROKEN)
    shop.run("insert into orders (id, total, doc) values (1, 0, %s)", '{"a": "\\u0000"}')
    shop.watch("orders", MADE)
    assert recapture(shop) == [(False, "unsupported Unicode escape sequence")]
    assert [error.recaptured for error in shop.errors()] == [False]


def test_a_row_kept_under_a_columns_other_name_is_not_sent_with_a_null_in_its_place(orders: Shop) -> None:
    orders.run(
        "alter table orders rename column status to state; insert into orders values (1, '1', 'new', 0)"
    )
    orders.run("alter table orders rename column state to status")
    orders.watch("orders", MADE)
    ((made, message),) = recapture(orders)
    assert (made, orders.events()) == (False, [])
    assert str(message).startswith("the row was kept with state and without status.")
    orders.run("update pgrelay.capture_errors set new_row = replace(new_row, '\"state\"', '\"status\"')")
    assert recapture(orders) == [(True, None)]
    assert orders.events()[0].resource["status"] == "new"


def test_a_column_that_was_added_since_is_null_in_what_is_made_again(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0); alter table orders add note text")
    orders.watch("orders", MADE)
    assert recapture(orders) == [(True, None)]
    assert orders.events()[0].resource["note"] is None


def test_it_is_made_in_the_role_that_watches_and_rings_the_bell(orders: Shop) -> None:
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.watch("orders", MADE)
    orders.run("select setval('pgrelay.wake', 2)")
    with orders.connect() as listener:
        listener.execute("listen pgrelay")
        recapture(orders)
        assert [note.channel for note in listener.notifies(timeout=5, stop_after=1)] == ["pgrelay"]
