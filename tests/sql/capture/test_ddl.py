"""The application's own migrations of a watched table work as if nobody watched, in sessions of before too."""

import pytest

from support.watched import MADE, Shop

RULES = [
    MADE,
    {
        "event": "order.paid",
        "becomes": {"status": "paid"},
        "payload": {"exclude": ["total"], "extra": {"was": "old.status"}},
    },
    {"event": "order.moved", "changes": ["status", "total"]},
    {"event": "order.gone", "on": "delete"},
    {"event": "order.due", "at": "due"},
]

#: One or more statements each.
MIGRATIONS = [
    "alter table orders add column note text",
    "alter table orders add column note text not null default 'x'",
    "alter table orders add column at timestamptz default clock_timestamp()",
    "alter table orders add column twice numeric generated always as (total * 2) stored",
    "alter table orders drop column company_id",
    "alter table orders drop column total",
    "alter table orders drop column status",
    "alter table orders drop column status cascade",
    "alter table orders drop column due",
    "alter table orders rename column total to amount",
    "alter table orders rename column status to state",
    "alter table orders rename column id to number",
    "alter table orders alter column id type bigint",
    "alter table orders alter column total type text using total::text",
    "alter table orders alter column status type varchar(20)",
    "alter table orders alter column status type int using null, alter column status set default 3",
    "alter table orders alter column due type date",
    "alter table orders alter column due type timestamp",
    "alter table orders alter column due type text",
    "alter table orders alter column status set not null",
    "alter table orders alter column status set default 'new', alter column status set statistics 50",
    "alter table orders add constraint positive check (total >= 0) not valid; alter table orders"
    " validate constraint positive",
    "alter table orders drop constraint orders_pkey",
    "alter table orders drop constraint orders_pkey; alter table orders drop column id",
    "alter table orders rename to bestellungen",
    "create schema archive; alter table orders set schema archive; alter table archive.orders set"
    " schema shop; drop schema archive",
    "alter table orders owner to current_user",
    "alter table orders disable trigger user; alter table orders enable trigger user",
    "alter table orders disable trigger all",
    "alter table orders set (fillfactor = 70); alter table orders replica identity full; alter table"
    " orders set unlogged",
    "create index on orders (status); reindex table orders; cluster orders using orders_pkey",
    "create table shop.copy (like orders including all); insert into copy select * from orders; drop table orders;"
    " alter table copy rename to orders",
    "truncate orders restart identity cascade",
    "vacuum full orders",
    "drop table orders",
]


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    shop.watch("orders", *RULES, record="subscribed", tenant="company_id")
    shop.subscribe()
    return shop


@pytest.mark.parametrize("migration", MIGRATIONS)
def test_a_migration_and_the_writes_after_it_succeed_in_old_sessions_and_new(
    orders: Shop, migration: str
) -> None:
    def write(table: str, key: str, number: int) -> None:
        orders.run(f"insert into {table} ({key}) values (%s)", number)
        orders.run(f"update {table} set {key} = {key} + 10 where {key} = %s", number)

    write("orders", "id", 1)
    orders.run("update orders set status = 'paid', total = 3, due = now()")
    orders.run("delete from orders")
    orders.run("insert into orders values (20, '1', 'new', 1, now())")
    orders.taken()
    for statement in migration.split("; "):
        orders.run(statement)
    found = orders.run(
        "select c.oid::regclass::text, array_agg(attname order by attnum) from pg_class c join"
        " pg_attribute on attrelid = c.oid"
        " where relnamespace = 'shop'::regnamespace and relkind = 'r' and attnum > 0 and not"
        " attisdropped group by c.oid"
    )
    for table, columns in found:
        key = next(name for name in ("id", "number", "total") if name in columns)
        if "not null" in migration:
            orders.run(f"alter table {table} alter column status set default 'x'")
        write(table, key, 2)
        for column in set(columns) - {key}:
            orders.run(f"update {table} set {column} = default")
        orders.run(f"delete from {table}")
    orders.fire()


@pytest.mark.parametrize("kind", ["bigint", "numeric(10)", "text"])
def test_no_event_is_lost_to_a_column_that_changes_its_type_while_sessions_live(
    orders: Shop, kind: str
) -> None:
    with orders.connect() as other:
        connections = (orders.db, other)
        for number, connection in enumerate(connections):
            connection.execute(f"insert into orders values ({number}, '1', 'new', 1, now() - interval '1 h')")
            connection.execute("update orders set status = 'paid', due = now()")
            connection.execute(f"delete from orders where id = {number}")
        orders.taken()
        orders.run(
            f"alter table orders alter id type {kind}, alter total type text, alter status type varchar(9)"
        )
        for number, connection in enumerate(connections):
            connection.execute(
                f"insert into orders values ('{number}', '1', 'new', '1', now() - interval '1 h')"
            )
            connection.execute("update orders set status = 'paid', due = now()")
            connection.execute(f"delete from orders where id = '{number}'")
    assert orders.errors() == []
    assert [event.type for event in orders.taken()] == [
        "order.made", "order.moved", "order.made", "order.paid", "order.moved", "order.gone"
    ] * 2  # fmt: skip


def test_columns_that_are_added_are_sent_at_once(orders: Shop) -> None:
    orders.run("alter table orders add note text default 'hello'")
    orders.run("insert into orders (id) values (1)")
    assert orders.events()[0].resource["note"] == "hello"


def test_a_disabled_trigger_captures_nothing_until_it_is_enabled(orders: Shop) -> None:
    orders.run("alter table orders disable trigger all")
    assert orders.fired("insert into orders (id) values (1)") == []
    orders.run("alter table orders enable trigger all")
    assert orders.fired("insert into orders (id) values (2)") == ["order.made"]


def test_a_renamed_table_is_captured_and_can_be_watched_under_its_new_name_or_unwatched(orders: Shop) -> None:
    orders.run("alter table orders rename to bestellungen")
    assert orders.fired("insert into bestellungen (id) values (1)") == ["order.made"]
    orders.watch("bestellungen", *RULES)
    assert orders.fired("insert into bestellungen (id) values (2)") == ["order.made"]
    orders.run("alter table bestellungen rename to orders")
    assert orders.value("select pgrelay.unwatch('orders')")
    assert orders.fired("insert into orders (id) values (3)") == []


def test_a_table_that_took_the_watched_ones_place_is_watched_alone_after_applying_again(orders: Shop) -> None:
    orders.run(
        "alter table orders rename to old_orders; create table shop.orders (like old_orders including all)"
    )
    assert orders.fired("insert into orders (id) values (1)") == []
    orders.watch("orders", *RULES)
    assert orders.fired("insert into orders (id) values (2)") == ["order.made"]
    assert orders.fired("insert into old_orders (id) values (3)") == []


def test_a_dropped_table_can_be_unwatched_and_a_new_one_watched_in_its_name(orders: Shop) -> None:
    orders.run("drop table orders")
    orders.orders(due="timestamptz")
    orders.watch("orders", *RULES)
    assert orders.fired("insert into orders (id) values (1)") == ["order.made"]
    orders.run("drop table orders")
    assert orders.value("select pgrelay.unwatch('orders')")


def test_a_watched_table_can_become_a_partition(orders: Shop) -> None:
    orders.run(
        "create table shop.all_orders (like orders including defaults) partition by list (id);"
        " alter table all_orders attach partition orders default"
    )
    assert orders.fired("insert into all_orders (id) values (1)") == ["order.made"]
