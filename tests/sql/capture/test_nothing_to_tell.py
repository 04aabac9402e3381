"""What makes no event: changes that did not happen, changes of nothing, events that nobody wants."""

import pytest

from support.watched import MADE, Shop

PAID = {"event": "order.paid", "becomes": {"status": "paid"}}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders()
    shop.watch("orders", MADE, PAID)
    shop.run("insert into orders values (1, '1', 'new', 10), (2, '1', 'new', 20)")
    shop.taken()
    return shop


def test_an_update_that_leaves_the_row_as_it_was_is_no_event(orders: Shop) -> None:
    assert orders.fired("update orders set status = status, total = 10 where id = 1") == []


def test_a_rule_that_asks_for_a_change_fires_with_the_change_alone(orders: Shop) -> None:
    assert orders.fired("update orders set status = 'paid' where id = 1") == ["order.made", "order.paid"]
    assert orders.fired("update orders set total = 11 where id = 1") == ["order.made"]
    assert orders.fired("update orders set status = 'paid', total = 12 where id = 1") == ["order.made"]


def test_a_change_that_is_rolled_back_is_no_event(orders: Shop) -> None:
    with orders.db.transaction(force_rollback=True):
        orders.run("update orders set status = 'paid'")
        assert len(orders.events()) == 4
    assert orders.events() == []


def test_a_change_rolled_back_to_a_savepoint_is_no_event_and_those_around_it_are(orders: Shop) -> None:
    with orders.db.transaction():
        orders.run("update orders set total = 1 where id = 1")
        with orders.db.transaction(force_rollback=True):
            orders.run("update orders set status = 'paid'")
        orders.run("update orders set total = 2 where id = 2")
    assert [(event.type, event.resource_id) for event in orders.events()] == [
        ("order.made", "1"),
        ("order.made", "2"),
    ]


def test_a_statement_that_fails_after_some_rows_makes_none_of_their_events(orders: Shop) -> None:
    orders.run("alter table orders add check (total < 100)")
    with orders.refused("23514"):
        orders.run("update orders set total = total * 6")
    assert orders.events() == []


def test_truncating_is_no_event(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "on": ["insert", "update", "delete"]})
    assert orders.fired("truncate orders") == []


def test_a_session_that_turned_capturing_off_makes_no_events_until_it_turns_it_on(orders: Shop) -> None:
    orders.run("set pgrelay.capture = off")
    assert orders.fired("insert into orders (id) values (3)") == []
    orders.run("set pgrelay.capture = on")
    assert orders.fired("insert into orders (id) values (4)") == ["order.made"]
    orders.run("reset pgrelay.capture")
    assert orders.fired("insert into orders (id) values (5)") == ["order.made"]


def test_turning_capturing_off_for_one_transaction_lasts_as_long(orders: Shop) -> None:
    with orders.db.transaction():
        orders.run("set local pgrelay.capture = off")
        orders.run("insert into orders (id) values (3)")
    orders.run("insert into orders (id) values (4)")
    assert [event.resource_id for event in orders.events()] == ["4"]


def test_a_replica_that_applies_changes_makes_no_events(orders: Shop) -> None:
    assert orders.fired("set session_replication_role = replica; update orders set status = 'paid'") == []


@pytest.mark.parametrize(
    ("pattern", "company_id", "wanted"),
    [
        ("order.paid", "1", True),
        ("order.*", "1", True),
        ("*", "1", True),
        ("order.paid", "2", False),
        ("order.made", "1", False),
        ("orders.*", "1", False),
    ],
)
def test_an_event_is_written_only_if_a_webhook_of_its_tenant_wants_it(
    shop: Shop, pattern: str, company_id: str, wanted: bool
) -> None:
    shop.orders()
    shop.watch("orders", PAID, tenant="company_id", record="subscribed")
    shop.subscribe(pattern, company_id=company_id)
    assert shop.fired("insert into orders values (1, '1', 'paid', 1)") == (["order.paid"] if wanted else [])


def test_an_event_that_is_always_recorded_is_written_though_nobody_subscribes(shop: Shop) -> None:
    shop.orders()
    rules = [{**PAID, "record": "always"}, {**MADE, "record": "subscribed"}]
    shop.watch("orders", *rules, tenant="company_id", record="subscribed")
    assert shop.fired("insert into orders values (1, '1', 'paid', 1)") == ["order.paid"]
    shop.watch("orders", PAID, {**MADE, "record": "subscribed"}, tenant="company_id", record="always")
    assert shop.fired("insert into orders values (2, '1', 'paid', 1)") == ["order.paid"]


def test_a_webhook_that_is_made_inactive_is_captured_for_no_more(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", record="subscribed")
    webhook = shop.subscribe()
    assert shop.fired("insert into orders (id) values (1)") == ["order.made"]
    shop.run("select pgrelay.set_active(%s, false)", webhook)
    assert shop.fired("insert into orders (id) values (2)") == []


def test_a_row_of_no_tenant_is_nobodys(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", tenant="company_id", record="subscribed")
    shop.subscribe("*", company_id="1")
    assert shop.fired("insert into orders (id, company_id) values (1, null)") == []
    shop.watch("orders", tenant="company_id", record="always")
    assert shop.made("insert into orders (id, company_id) values (2, null)").company_id == ""


def test_no_event_takes_no_transaction_id_where_nobody_subscribes(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", record="subscribed")
    before = shop.value("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    shop.run("insert into orders select g from generate_series(1, 200) as g")
    assert shop.value("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint") == before + 1
