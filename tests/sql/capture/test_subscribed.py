"""Where nobody of the row's tenant subscribes, a capture ends early: what it must not end, and what it leaves alone."""

import pytest

from support.plans import reads
from support.watched import Shop

MADE = {"event": "order.made", "on": "insert"}
PAID = {"event": "order.paid", "becomes": {"status": "paid"}}
CHANGED = {"event": "order.changed", "on": "update"}
GONE = {"event": "order.gone", "on": "delete"}
DUE = {"event": "order.overdue", "at": "due"}
SETTINGS = (
    "search_path",
    "row_security",
    "timezone",
    "datestyle",
    "intervalstyle",
    "extra_float_digits",
    "bytea_output",
)


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    shop.watch("orders", MADE, CHANGED, GONE, DUE, tenant="company_id", record="subscribed")
    return shop


def test_a_deadline_is_armed_before_anybody_subscribes(orders: Shop) -> None:
    orders.run("insert into orders (id, due) values (1, now() + '1 hour'), (2, null), (3, null)")
    orders.run("update orders set due = now() where id < 3")
    orders.subscribe()
    assert orders.fire() == ["order.overdue", "order.overdue"]


def test_a_change_is_told_to_the_tenant_that_has_the_row_then(orders: Shop) -> None:
    orders.subscribe(company_id="2")
    assert orders.fired("insert into orders values (1, '1'), (2, '2')") == ["order.made"]
    assert orders.fired("update orders set company_id = '3' where id = 2") == []
    assert orders.made("update orders set company_id = '2' where id = 1").company_id == "2"
    assert orders.made("delete from orders").resource_id == "1"


def test_each_of_several_rules_asks_for_its_own_subscribers(orders: Shop) -> None:
    orders.watch("orders", MADE, PAID, tenant="company_id", record="subscribed")
    orders.subscribe("order.made")
    orders.subscribe("order.paid", company_id="2")
    assert orders.fired("insert into orders values (1, '1', 'paid'), (2, '2', 'paid'), (3, '3', 'paid')") == [
        "order.made",
        "order.paid",
    ]


def test_who_subscribes_is_asked_for_each_row_and_each_statement(orders: Shop) -> None:
    webhook = orders.subscribe()
    assert orders.fired("insert into orders values (1, '2'), (2, '1'), (3, '2')") == ["order.made"]
    orders.run("select pgrelay.set_active(%s, false)", webhook)
    assert orders.fired("insert into orders values (4, '1')") == []


def test_a_tenant_of_many_webhooks_is_not_read_as_a_whole_for_each_row(orders: Shop) -> None:
    orders.run(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " select '1', 'w' || n, 'https://example.com/', array['a' || n % 30 || '.b'] from generate_series(1, 3000) as n"
    )
    assert orders.fired("insert into orders values (1, '1'); update orders set status = 'paid'") == []
    orders.subscribe("order.changed")
    orders.run("analyze")
    with reads(orders.db) as done:
        assert orders.fired("update orders set status = 'open'") == ["order.changed"]
    assert sum(read.rows for read in done if read.name.startswith("subscriptions")) < 50


def test_a_tenant_found_by_sql_is_asked_for_too(orders: Shop) -> None:
    orders.watch("orders", MADE, tenant={"sql": "'c' || new.company_id"}, record="subscribed")
    orders.subscribe(company_id="c1")
    assert orders.made("insert into orders values (1, '1'), (2, '2')").company_id == "c1"


def test_a_row_that_moves_from_a_tenant_nobody_listens_to_is_no_new_one(shop: Shop) -> None:
    shop.table(
        "orders", "id int, company_id text, primary key (id, company_id)", "partition by list (company_id)"
    )
    for company in "12":
        shop.run(f"create table shop.orders_{company} partition of shop.orders for values in ('{company}')")
    shop.watch("orders", MADE, CHANGED, key="id", tenant="company_id", record="subscribed")
    shop.subscribe(company_id="2")
    shop.run("insert into orders values (1, '1')")
    assert shop.fired("update orders set company_id = '2'") == ["order.changed"]


def test_a_tenants_column_that_is_gone_is_a_capture_error_for_each_event(orders: Shop) -> None:
    orders.subscribe()
    orders.run("insert into orders values (1, '1')")
    orders.run("alter table orders rename column company_id to company")
    assert orders.fired("update orders set status = 'x'") == []
    (error,) = orders.errors()
    assert (error.event_type, error.sqlstate) == ("order.changed", "42703")


@pytest.mark.parametrize("heard", [False, True], ids=["nobody listens", "somebody listens"])
def test_a_transaction_has_its_own_settings_after_a_capture(orders: Shop, heard: bool) -> None:
    if heard:
        orders.subscribe()

    def settings() -> list[str]:
        return [orders.value(f"show {name}") for name in SETTINGS]

    orders.run(
        "set timezone = 'Asia/Kathmandu'; set datestyle = 'German, DMY'; set intervalstyle = 'iso_8601';"
        " set extra_float_digits = -10; set bytea_output = 'escape'"
    )
    before = settings()
    with orders.db.transaction():
        orders.run("set local timezone = 'Asia/Tokyo'; set local search_path = public, shop")
        within = settings()
        orders.run("insert into orders values (1, '1')")
        assert settings() == within
    assert settings() == before
    assert len(orders.events()) == heard
    assert all(event.body["timestamp"].endswith("+00:00") for event in orders.events())
