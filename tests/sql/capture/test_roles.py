"""Whoever writes, with whatever in their way, the change is captured as the source's owner says."""

import json
from collections.abc import Callable

import pytest

from support.database import Role
from support.watched import MADE, Shop

PAID = {
    "event": "order.paid",
    "becomes": {"status": "paid"},
    "when": "new.total > 0 and lower(new.status) = 'paid'",
    "payload": {"extra": {"customer": "(select c.name from shop.customers c where c.id = new.customer)"}},
}
Clerks = Callable[..., Role]


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(customer="int")
    shop.table("customers", "id int primary key, name text, owner text")
    shop.run("insert into customers values (1, 'Ada', 'ada')")
    return shop


def test_a_role_without_any_grant_on_the_schema_pgrelay_writes_and_is_captured(
    orders: Shop, clerk: Clerks
) -> None:
    orders.watch("orders", PAID, record="subscribed")
    orders.subscribe()
    someone = clerk()
    orders.run(f"grant insert, update, delete, select on shop.orders to {someone.name}")
    with someone.connect() as connection:
        connection.execute("insert into shop.orders values (1, '1', 'paid', 3, 1)")
        with orders.refused("42501"):
            connection.execute("select * from pgrelay.outbox")
        with orders.refused("42501"):
            connection.execute("select pgrelay.body_orders(1, 'INSERT', null, null, '', now())")
        with orders.refused("42501"):
            connection.execute("select pgrelay.fire_deadlines()")
    (event,) = orders.events()
    assert event.resource["customer"] == "Ada", "read as the source's owner: the clerk may not"


def test_generated_functions_may_be_called_by_nobody_else(orders: Shop) -> None:
    orders.run("alter table orders add due timestamptz")
    orders.watch("orders", PAID, {"event": "order.due", "at": "due"})
    open_to_all = orders.run(
        "select proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) as a"
        " where pronamespace = 'pgrelay'::regnamespace and a.grantee = 0"
    )
    assert open_to_all == []


def test_what_a_hostile_session_puts_before_the_real_things_is_not_used(orders: Shop, clerk: Clerks) -> None:
    orders.watch("orders", PAID)
    someone = clerk()
    orders.run(
        f"grant insert, update on shop.orders to {someone.name}; create schema evil authorization {someone.name}"
    )
    try:
        with someone.connect() as connection:
            connection.execute(
                """
                create function evil.lower(text) returns text language sql as $$ select 'EVIL' $$;
                create function evil.clock_timestamp() returns timestamptz language sql
                    as $$ select timestamptz 'epoch' $$;
                create function evil.to_json(anyelement) returns json language sql as $$ select '"evil"'::json $$;
                create function evil.never(numeric, integer) returns boolean language sql as $$ select false $$;
                create function evil.join(text, text) returns text language sql as $$ select 'evil' $$;
                create operator evil.> (leftarg = numeric, rightarg = integer, function = evil.never);
                create operator evil.|| (leftarg = text, rightarg = text, function = evil.join);
                create temp table customers (id int, name text);
                insert into customers values (1, 'evil');
                create temp table outbox (id int);
                create temp table subscriptions (company_id text, pattern text);
                create type pg_temp.text as enum ('evil');
                set search_path = evil, pg_temp, pg_catalog, shop;
                set pgrelay.moved_orders = '{"evil": 1';
                insert into shop.orders values (1, '1', 'paid', 3, 1);
                """
            )
    finally:
        orders.run("drop schema evil cascade")
    (event,) = orders.events()
    assert (event.type, event.resource["customer"], event.body["event"]) == (
        "order.paid",
        "Ada",
        "order.paid",
    )
    assert not event.body["timestamp"].startswith("1970")
    assert orders.errors() == []


@pytest.mark.parametrize("record", ["always", "subscribed"])
@pytest.mark.parametrize("capture", ["on", "off"])
def test_an_update_is_judged_by_the_real_operators_and_leaves_the_session_as_it_was(
    orders: Shop, clerk: Clerks, capture: str, record: str
) -> None:
    orders.run("alter table orders add due timestamptz")
    orders.subscribe()
    orders.watch(
        "orders",
        PAID,
        {"event": "order.due", "at": "due"},
        {"event": "order.dear", "on": "update", "changes": "total"},
        tenant="company_id",
        record=record,
    )
    orders.run("insert into orders values (1, '1', 'open', 3, 1)")
    someone = clerk()
    orders.run(
        f"grant select, update on shop.orders to {someone.name}; create schema evil authorization {someone.name}"
    )
    try:
        with someone.connect() as connection:
            connection.execute(
                """
                create function evil.spy(text) returns void language plpgsql as $$
                begin perform pg_catalog.set_config('evil.seen', pg_catalog.concat(pg_catalog.current_setting('evil.seen', true), $1, ' '), false); end $$;
                create function evil.isfinite(timestamptz) returns boolean language plpgsql as $$
                begin perform evil.spy('isfinite'); return true; end $$;
                create function evil.record_image_ne(record, record) returns boolean language plpgsql as $$
                begin perform evil.spy('record_image_ne'); return false; end $$;
                create function evil.clock_timestamp() returns timestamptz language plpgsql as $$
                begin perform evil.spy('clock_timestamp'); return 'epoch'; end $$;
                create function evil.set_config(text, text, boolean) returns text language plpgsql as $$
                begin perform evil.spy('set_config'); return ''; end $$;
                create function evil.same(text, text) returns boolean language plpgsql as $$
                begin perform evil.spy('='); return true; end $$;
                create operator evil.= (leftarg = text, rightarg = text, function = evil.same);
                create operator evil.*<> (leftarg = record, rightarg = record, function = evil.record_image_ne);
                create domain evil.bool as pg_catalog.bool check (value is null);
                create domain evil.text as pg_catalog.text check (value is null);
                create domain evil.json as pg_catalog.json check (value is null);
                """
            )
            connection.execute(f"set pgrelay.capture = {capture}")
            connection.execute("set search_path = evil, pg_temp, pg_catalog, shop")
            with connection.transaction():
                connection.execute(
                    "update shop.orders set status = 'paid', total = 120, due = pg_catalog.now()"
                )
                assert connection.execute("show search_path").fetchone() == (
                    "evil, pg_temp, pg_catalog, shop",
                )
            connection.execute("update shop.orders set customer = 2")
            seen = connection.execute("select pg_catalog.current_setting('evil.seen', true)").fetchone()
            assert seen in ((None,), ("",))
            assert connection.execute("show search_path").fetchone() == ("evil, pg_temp, pg_catalog, shop",)
            assert connection.execute("show row_security").fetchone() == ("on",)
    finally:
        orders.run("drop schema evil cascade")
    types = [event.type for event in orders.events()]
    assert types == (["order.paid", "order.dear"] if capture == "on" else [])
    assert orders.errors() == []


def test_a_writer_under_a_policy_is_captured_in_full(orders: Shop, clerk: Clerks) -> None:
    orders.watch("orders", PAID)
    someone = clerk()
    orders.run(
        f"grant insert, update, select on orders to {someone.name}; alter table orders enable row level security;"
        f" create policy own on orders to {someone.name} using (company_id = '1') with check (company_id = '1')"
    )
    with someone.connect() as connection:
        connection.execute("insert into shop.orders values (1, '1', 'open', 3, 1)")
        connection.execute("update shop.orders set status = 'paid'")
        with orders.refused("42501"):
            connection.execute("insert into shop.orders values (2, '2', 'paid', 3, 1)")
    assert [event.resource["customer"] for event in orders.events()] == ["Ada"]


def owned_by(orders: Shop, owner: Role) -> None:
    """The application's tables, and what pgrelay needs of its own schema, belong to an ordinary role."""
    orders.run(
        f"alter table orders owner to {owner.name}; alter table customers owner to {owner.name};"
        f" grant all on schema pgrelay to {owner.name}; grant all on all tables in schema pgrelay to {owner.name};"
        f" grant all on all sequences in schema pgrelay to {owner.name};"
        f" grant execute on all functions in schema pgrelay to {owner.name}"
    )


def watch_as(orders: Shop, owner: Role, *rules: object, **keys: object) -> None:
    definition = {
        "name": "orders",
        "table": "shop.orders",
        "tenant": {"value": "1"},
        "record": "always",
        "events": rules,
    }
    with owner.connect() as connection:
        connection.execute("select pgrelay.watch(%s)", (json.dumps(definition | keys),))


def test_a_joined_table_that_a_policy_hides_later_is_a_capture_error_and_no_silent_null(
    orders: Shop, clerk: Clerks
) -> None:
    owner = clerk()
    owned_by(orders, owner)
    watch_as(orders, owner, PAID, MADE)
    orders.run(
        "alter table customers enable row level security; insert into orders values (1, '1', 'paid', 3, 1)"
    )
    assert [event.type for event in orders.taken()] == ["order.paid", "order.made"], (
        "policies do not hold for the owner"
    )
    orders.run(
        "alter table customers force row level security; insert into orders values (2, '1', 'paid', 3, 1)"
    )
    assert [event.type for event in orders.taken()] == ["order.made"]
    (error,) = orders.errors()
    assert (error.event_type, error.sqlstate, error.resource_id) == ("order.paid", "42501", "2")
    assert "row-level security" in error.message


def test_a_table_read_by_a_condition_or_for_the_tenant_is_not_silently_empty_either(
    orders: Shop, clerk: Clerks
) -> None:
    owner = clerk()
    owned_by(orders, owner)
    exists = "exists (select from shop.customers c where c.id = new.customer)"
    tenant = {"sql": "(select c.owner from shop.customers c where c.id = new.customer)"}
    watch_as(orders, owner, {**MADE, "when": exists})
    orders.run("alter table customers enable row level security, force row level security")
    orders.run("insert into orders values (1, '1', 'paid', 3, 1)")
    orders.run("alter table customers no force row level security")
    watch_as(orders, owner, MADE, tenant=tenant)
    orders.run("alter table customers force row level security")
    orders.run("insert into orders values (2, '1', 'paid', 3, 1)")
    assert orders.events() == []
    assert [error.sqlstate for error in orders.errors()] == ["42501", "42501"]


def test_watching_what_a_policy_hides_from_the_watcher_is_refused(orders: Shop, clerk: Clerks) -> None:
    owner = clerk()
    owned_by(orders, owner)
    orders.run("alter table customers enable row level security, force row level security")
    with orders.refused("PGR10") as said:
        watch_as(orders, owner, PAID)
    assert "row-level security" in str(said[0].message_primary)
    assert "BYPASSRLS" in str(said[0].message_hint)


def test_deadlines_are_looked_at_as_the_watcher_and_past_any_policy(orders: Shop, clerk: Clerks) -> None:
    owner = clerk()
    owned_by(orders, owner)
    orders.run("alter table orders add due timestamptz")
    watch_as(orders, owner, {"event": "order.due", "at": "due"})
    orders.run("insert into orders (id, due) values (1, now())")
    orders.run("alter table orders enable row level security")
    assert orders.fire() == ["order.due"]
    orders.run("alter table orders force row level security; insert into orders (id, due) values (2, now())")
    assert orders.fire() == []
    assert [error.sqlstate for error in orders.errors()] == ["42501"]


def test_a_row_that_counts_only_for_those_who_see_it_is_armed_all_the_same(
    orders: Shop, clerk: Clerks
) -> None:
    owner = clerk()
    owned_by(orders, owner)
    orders.run(
        "alter table orders add due timestamptz; insert into orders (id, due) values (1, now() + interval '1 h')"
    )
    orders.run("alter table orders enable row level security, force row level security")
    with orders.refused("42501"):
        watch_as(orders, owner, {"event": "order.due", "at": "due"})
    orders.run("alter table orders no force row level security")
    watch_as(orders, owner, {"event": "order.due", "at": "due"})
    assert orders.armed() == 1
