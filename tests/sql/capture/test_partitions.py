"""Partitioned tables: rows are captured wherever they are written, and one that moves is neither new nor gone."""

import pytest

from support.watched import Shop

RULES = [
    {"event": "order.created", "on": "insert"},
    {"event": "order.changed", "on": "update", "payload": {"extra": {"region_before": "old.region"}}},
    {"event": "order.paid", "becomes": {"status": "paid"}},
    {"event": "order.deleted", "on": "delete"},
]


@pytest.fixture
def orders(shop: Shop) -> Shop:
    columns = "id int, region text, status text, due timestamptz, primary key (id, region)"
    shop.table("orders", columns, "partition by list (region)")
    shop.run("create table shop.north partition of shop.orders for values in ('n', 'm')")
    # the same columns in another order, and some that were dropped
    shop.table("south", "status text, dropped int, due timestamptz, region text not null, id int not null")
    shop.run(
        "alter table south drop column dropped; alter table orders attach partition south for values in ('s')"
    )
    shop.watch("orders", *RULES, key="id")
    return shop


def seen(shop: Shop) -> list[tuple[str, str | None]]:
    assert shop.errors() == []
    return [(event.type.removeprefix("order."), event.resource_id) for event in shop.taken()]


def test_rows_inserted_through_the_root_or_into_a_partition_are_captured_once(orders: Shop) -> None:
    orders.run("insert into orders values (1, 'n'), (2, 's')")
    orders.run("insert into north values (3, 'n'); insert into south (id, region) values (4, 's')")
    assert seen(orders) == [("created", str(number)) for number in (1, 2, 3, 4)]


def test_rows_changed_or_deleted_in_a_partition_are_captured_once(orders: Shop) -> None:
    orders.run("insert into orders values (1, 'n'), (2, 's')")
    orders.taken()
    orders.run(
        "update south set status = 'paid'; update orders set status = 'open' where id = 1; update"
        " north set region = 'm'"
    )
    assert seen(orders) == [("changed", "2"), ("paid", "2"), ("changed", "1"), ("changed", "1")]
    orders.run("delete from south; delete from orders")
    assert seen(orders) == [("deleted", "2"), ("deleted", "1")]


def test_a_row_that_moves_to_another_partition_is_changed_and_neither_created_nor_deleted(
    orders: Shop,
) -> None:
    orders.run("insert into orders (id, region, status) values (1, 'n', 'open'), (2, 'n', 'open')")
    orders.taken()
    event = orders.made("update orders set region = 's' where id = 1")
    assert event.type == "order.changed"
    assert (event.resource["region"], event.resource["region_before"]) == ("s", "n")
    orders.run("update orders set region = case region when 's' then 'n' else 's' end, status = 'paid'")
    assert sorted(seen(orders)) == [("changed", "1"), ("changed", "2"), ("paid", "1"), ("paid", "2")]


def test_moving_many_rows_at_once_pairs_each_with_itself(orders: Shop) -> None:
    orders.run("insert into orders select g, 'n', 'open' from generate_series(1, 500) as g")
    orders.taken()
    orders.run("update orders set region = 's'")
    assert seen(orders) == [("changed", str(number)) for number in range(1, 501)]


def test_an_insert_and_a_move_in_one_upsert_are_told_apart(orders: Shop) -> None:
    orders.run("insert into orders values (1, 'n')")
    orders.taken()
    orders.run(
        "with moved as (update orders set region = 's' where id = 1 returning 1) insert into orders values (2, 'n')"
    )
    assert sorted(seen(orders)) == [("changed", "1"), ("created", "2")]


def test_a_row_that_moves_may_hold_anything(orders: Shop) -> None:
    orders.run("alter table orders add doc json, add note text")
    orders.run(
        "insert into orders (id, region, doc, note) values (1, 'n', %s, %s)",
        '{"a": "\\u0000"}',
        "\\u0000 \"'",
    )
    orders.taken()
    event = orders.made("update orders set region = 's'")
    assert (event.type, event.resource["note"]) == ("order.changed", "\\u0000 \"'")


def test_a_row_deleted_and_inserted_again_is_deleted_and_created(orders: Shop) -> None:
    orders.run("insert into orders values (1, 'n'), (2, 'n')")
    orders.taken()
    with orders.db.transaction():
        orders.run("delete from orders")
        orders.run("insert into orders values (1, 'n'), (3, 's')")
    assert seen(orders) == [("deleted", "1"), ("deleted", "2"), ("created", "1"), ("created", "3")]


def test_a_row_that_leaves_one_table_is_not_mistaken_for_one_that_enters_another(orders: Shop) -> None:
    orders.table("bills", "id int, region text", "partition by list (region)")
    orders.run("create table shop.bills_all partition of shop.bills default")
    orders.watch("bills", {"event": "bill.created", "on": "insert"}, name="bills", key="id")
    orders.run("insert into orders values (1, 'n')")
    orders.taken()
    with orders.db.transaction():
        orders.run("delete from orders; insert into bills values (1, 'n')")
    assert [event.type for event in orders.events()] == ["order.deleted", "bill.created"]


def test_a_move_that_is_rolled_back_leaves_no_trace_for_the_next_insert(orders: Shop) -> None:
    orders.run("insert into orders values (1, 'n')")
    with orders.db.transaction(force_rollback=True):
        orders.run("delete from orders")
    orders.taken()
    orders.run("delete from orders where id = 1")
    orders.run("insert into orders values (1, 's')")
    assert seen(orders) == [("deleted", "1"), ("created", "1")]


def test_a_partition_that_is_made_or_attached_later_is_captured(orders: Shop) -> None:
    orders.run("create table shop.east partition of shop.orders for values in ('e')")
    orders.run(
        "create table shop.west (like shop.orders); alter table orders attach partition west for values in ('w')"
    )
    orders.run("insert into orders values (1, 'e'); insert into west values (2, 'w')")
    assert seen(orders) == [("created", "1"), ("created", "2")]


def test_a_partition_that_is_detached_is_captured_no_more(orders: Shop) -> None:
    orders.run("alter table orders detach partition south; insert into south (id, region) values (1, 's')")
    assert seen(orders) == []


def test_a_partitioned_table_is_captured_below_a_partition_that_is_partitioned_itself(orders: Shop) -> None:
    orders.run(
        "create table shop.world partition of shop.orders for values in ('x', 'y') partition by list (region)"
    )
    orders.run(
        "create table shop.x partition of shop.world for values in ('x');"
        " create table shop.y partition of shop.world for values in ('y')"
    )
    orders.run("insert into world values (1, 'x')")
    orders.run("update orders set region = 'y'")
    orders.run("update orders set region = 's'")
    assert seen(orders) == [("created", "1"), ("changed", "1"), ("changed", "1")]


def test_a_move_arms_no_deadline_again_and_a_moved_row_is_found_when_it_passes(orders: Shop) -> None:
    orders.watch("orders", {"event": "order.overdue", "at": "due"}, key="id")
    orders.run("insert into orders (id, region, due) values (1, 'n', now() + interval '1 h')")
    orders.run("update orders set region = 's'")
    assert orders.armed() == 1
    orders.run("update orders set due = now()")
    orders.run("update orders set region = 'n'")
    assert orders.fire() == ["order.overdue"]


def test_a_table_that_is_watched_for_inserts_alone_knows_moved_rows_too(orders: Shop) -> None:
    orders.watch("orders", RULES[0], key="id")
    orders.run("insert into orders values (1, 'n')")
    orders.run("update orders set region = 's'")
    orders.run("delete from orders")
    assert seen(orders) == [("created", "1")]


def test_unwatching_a_partitioned_table_frees_its_partitions(orders: Shop) -> None:
    orders.run("select pgrelay.unwatch('orders')")
    assert orders.value("select count(*) from pg_trigger where tgname like 'zz_pgrelay%'") == 0
    assert orders.fired("insert into north values (1, 'n')") == []


def test_deletes_from_a_partitioned_table_without_an_index_on_the_key_are_refused(orders: Shop) -> None:
    orders.table("logs", "id int, region text", "partition by list (region)")
    with orders.refused("PGR10") as said:
        orders.watch("logs", RULES[3], name="logs", key="id")
    assert said[0].message_primary == "source logs, order.deleted: no index of shop.logs begins with the key"
    assert "create index on shop.logs (id);" in str(said[0].message_hint)
    orders.run("create index on logs (id)")
    orders.watch("logs", RULES[3], name="logs", key="id")
