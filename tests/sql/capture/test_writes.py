"""Every way to write rows, in every kind of transaction: each change once."""

import pytest

from support.watched import MADE, Shop

RULES = [
    {"event": "order.created", "on": "insert"},
    {"event": "order.changed", "on": "update"},
    {"event": "order.deleted", "on": "delete"},
]


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders()
    shop.watch("orders", *RULES)
    return shop


def seen(shop: Shop) -> list[tuple[str, str | None]]:
    return [(event.type.removeprefix("order."), event.resource_id) for event in shop.taken()]


def test_rows_that_are_copied_in_are_captured(orders: Shop) -> None:
    with orders.db.cursor() as cursor, cursor.copy("copy orders (id, status) from stdin") as copy:
        for number in range(1, 51):
            copy.write_row((number, "new"))
    assert seen(orders) == [("created", str(number)) for number in range(1, 51)]


def test_an_upsert_is_the_insert_or_the_update_that_it_became(orders: Shop) -> None:
    upsert = "insert into orders (id, status) values (1, %s) on conflict (id) do update set status = excluded.status"
    orders.run(upsert, "new")
    orders.run(upsert, "paid")
    orders.run(upsert, "paid")
    orders.run("insert into orders (id) values (1), (2) on conflict do nothing")
    assert seen(orders) == [("created", "1"), ("changed", "1"), ("created", "2")]


def test_a_merge_is_what_it_did_to_each_row(orders: Shop) -> None:
    if orders.db.info.server_version < 150000:
        pytest.skip("MERGE came with PostgreSQL 15")
    orders.run("insert into orders (id, status) values (1, 'new'), (2, 'old')")
    orders.taken()
    orders.run(
        "merge into orders o using (values (1), (2), (3)) as n (id) on o.id = n.id"
        " when matched and o.status = 'old' then delete when matched then update set status = 'merged'"
        " when not matched then insert (id) values (n.id)"
    )
    assert sorted(seen(orders)) == [("changed", "1"), ("created", "3"), ("deleted", "2")]


def test_writes_inside_one_statements_common_table_expressions_are_all_captured(orders: Shop) -> None:
    orders.run("insert into orders (id, status) values (1, 'new'), (2, 'new')")
    orders.taken()
    orders.run(
        "with paid as (update orders set status = 'paid' where id = 1 returning id),"
        " gone as (delete from orders where id = 2 returning id)"
        " insert into orders (id) select id + 10 from paid union all select id + 10 from gone"
    )
    assert sorted(seen(orders)) == [("changed", "1"), ("created", "11"), ("created", "12"), ("deleted", "2")]


def test_what_a_trigger_of_the_application_changed_on_the_way_is_what_is_sent(orders: Shop) -> None:
    orders.run(
        "create function shop.shout() returns trigger language plpgsql as"
        " $$ begin new.status := upper(new.status); return new; end $$;"
        "create trigger shout before insert or update on orders for each row execute function shop.shout()"
    )
    assert orders.made("insert into orders (id, status) values (1, 'new')").resource["status"] == "NEW"


def test_what_a_trigger_of_the_application_writes_in_turn_is_captured(orders: Shop) -> None:
    orders.run(
        "create function shop.follow() returns trigger language plpgsql as $$ begin"
        " if new.id < 3 then insert into shop.orders (id) values (new.id + 1); end if; return null; end $$;"
        "create trigger follow after insert on orders for each row execute function shop.follow()"
    )
    orders.run("insert into orders (id) values (1)")
    assert sorted(seen(orders)) == [("created", "1"), ("created", "2"), ("created", "3")]


def test_rows_that_a_foreign_key_deletes_or_changes_are_captured(shop: Shop) -> None:
    shop.table("carts", "id int primary key")
    shop.orders(cart="int references shop.carts on delete cascade on update cascade")
    shop.watch("orders", *RULES)
    shop.run("insert into carts values (1), (2); insert into orders (id, cart) values (1, 1), (2, 2)")
    shop.taken()
    shop.run("update carts set id = 7 where id = 1; delete from carts where id = 2")
    assert seen(shop) == [("changed", "1"), ("deleted", "2")]


@pytest.mark.slow
def test_an_update_of_a_hundred_thousand_rows_takes_one_transaction_id_and_makes_each_event(
    shop: Shop,
) -> None:
    shop.table("orders", "id int primary key, status text")
    shop.run("insert into orders select g, 'new' from generate_series(1, 100000) as g")
    shop.watch(
        "orders", {"event": "order.paid", "becomes": {"status": "paid"}, "payload": {"include": ["id"]}}
    )
    shop.run("update orders set status = 'paid'")
    # xmin too: a subtransaction has an id of its own
    counts = (
        "select count(*), count(distinct idempotency_key), count(distinct xid), count(distinct xmin::text)"
        " from pgrelay.outbox"
    )
    assert shop.run(counts) == [(100000, 100000, 1, 1)]
    shop.run("truncate pgrelay.outbox")


def test_savepoints_that_are_kept_leave_all_events_in_one_transaction(orders: Shop) -> None:
    with orders.db.transaction():
        for number in range(1, 101):
            with orders.db.transaction():
                orders.run("insert into orders (id) values (%s)", number)
    assert orders.run("select count(*), count(distinct xid) from pgrelay.outbox") == [(100, 1)]
    assert seen(orders) == [("created", str(number)) for number in range(1, 101)]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_every_isolation_level_captures(orders: Shop, level: str) -> None:
    orders.run("insert into orders (id, status) values (1, 'new')")
    orders.taken()
    with orders.connect() as other:
        orders.run(f"begin isolation level {level}")
        orders.run("select count(*) from orders")
        # writes and a subscription that this snapshot cannot see
        other.execute("insert into orders (id) values (2)")
        orders.run("update orders set status = 'paid' where id = 1; insert into orders (id) values (3)")
        orders.run("commit")
    assert seen(orders) == [("created", "2"), ("changed", "1"), ("created", "3")]


def test_a_transaction_that_saw_no_subscription_when_it_began_sees_it_at_the_write(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", record="subscribed")
    with shop.connect() as other:
        other.execute("begin; select 1 from orders")
        shop.subscribe()
        other.execute("insert into orders (id) values (1); commit")
    assert [event.type for event in shop.events()] == ["order.made"]


def test_the_events_of_two_sources_on_one_table_are_both_made(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", MADE, name="first")
    shop.watch("orders", {"event": "invoice.due", "on": "insert"}, name="second", resource="invoice")
    assert shop.fired("insert into orders (id) values (1)") == ["order.made", "invoice.due"]
