"""Watching and unwatching: what is made of a definition, what stays when it is applied again, what goes with it."""

import json
from collections.abc import Callable

import pytest

from support.database import Role
from support.watched import MADE, Shop

PAID = {"event": "order.paid", "becomes": {"status": "paid"}}
DUE = {"event": "order.due", "at": "due"}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    return shop


def triggers(shop: Shop) -> list[tuple[int, str, str]]:
    found = shop.run(
        "select oid, tgname, xmin::text from pg_trigger where tgrelid = to_regclass('shop.orders')"
        " and not tgisinternal order by tgname"
    )
    return [(oid, name, xmin) for oid, name, xmin in found]


def functions(shop: Shop) -> list[str]:
    return [
        name
        for (name,) in shop.run(
            "select proname from pg_proc where pronamespace = 'pgrelay'::regnamespace"
            " and proname ~ '^(capture|body|recapture|fire)_orders$' order by proname"
        )
    ]


def test_only_the_operations_that_rules_look_at_have_triggers(orders: Shop) -> None:
    orders.watch("orders", {"event": "order.made", "on": "insert"})
    assert [name for _, name, _ in triggers(orders)] == ["zz_pgrelay_orders_insert"]
    orders.watch("orders", {"event": "order.made", "on": "delete"}, DUE)
    assert [name for _, name, _ in triggers(orders)] == [
        f"zz_pgrelay_orders_{o}" for o in ("delete", "insert", "update")
    ]
    orders.watch("orders", {"event": "order.made", "on": "update"})
    assert [name for _, name, _ in triggers(orders)] == ["zz_pgrelay_orders_update"]


def test_applying_again_touches_no_trigger_and_takes_no_lock_on_the_table(orders: Shop) -> None:
    orders.watch("orders", MADE, PAID, DUE)
    before = triggers(orders)
    with orders.connect() as other, other.transaction():
        other.execute("insert into orders (id) values (1)")
        orders.run("set lock_timeout = '500 ms'")
        first = orders.value("select id from pgrelay.sources")
        assert orders.watch("orders", MADE, PAID, DUE) == first
        orders.watch("orders", PAID, {**MADE, "when": "new.total > 1"}, DUE)
    assert triggers(orders) == before


def test_changed_rules_hold_at_once_in_sessions_that_are_open(orders: Shop) -> None:
    orders.watch("orders", MADE)
    with orders.connect() as other:
        other.execute("insert into orders (id) values (1)")
        orders.watch("orders", PAID)
        orders.taken()
        other.execute("insert into orders (id) values (2)")
        other.execute("update orders set status = 'paid' where id = 2")
    assert [event.type for event in orders.events()] == ["order.paid"]


def test_what_is_watched_can_be_read_in_tables(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "when": "new.total > 1"}, PAID, DUE)
    found = orders.run(
        "select name, owner, watched_table, definition ->> 'record', columns, triggers from pgrelay.sources"
    )
    names = [f"zz_pgrelay_orders_{operation}" for operation in ("insert", "update")]
    assert found == [
        ("orders", "sql", "shop.orders", "always", ["id", "company_id", "status", "total", "due"], names)
    ]
    rules = orders.run(
        "select number, event_type, operations, condition, deadline from pgrelay.event_rules order by number"
    )
    assert [(number, event, deadline) for number, event, _, _, deadline in rules] == [
        (1, "order.made", None), (2, "order.paid", None), (3, "order.due", "due")
    ]  # fmt: skip
    assert rules[0][2:4] == (["INSERT", "UPDATE"], "(\nnew.total > 1\n)")
    assert rules[2][2] == []


def test_a_definition_that_is_refused_changes_nothing(orders: Shop) -> None:
    orders.watch("orders", MADE)
    before = (
        triggers(orders),
        orders.run("select * from pgrelay.sources"),
        orders.run("select oid, xmin from pg_proc"),
    )
    with orders.refused("PGR10"):
        orders.watch("orders", PAID, {**MADE, "when": "new.nothing"})
    assert (
        triggers(orders),
        orders.run("select * from pgrelay.sources"),
        orders.run("select oid, xmin from pg_proc"),
    ) == before


def test_the_statements_of_a_plan_are_those_that_watching_runs(orders: Shop) -> None:
    definition = {
        "name": "orders",
        "table": "shop.orders",
        "tenant": {"value": "1"},
        "record": "always",
        "events": [MADE, DUE],
    }
    statements = [row[0] for row in orders.run("select pgrelay.watch_sql(%s)", json.dumps(definition))]
    assert functions(orders) == []
    for statement in statements:
        orders.db.execute(statement.encode())
    assert functions(orders) == ["body_orders", "capture_orders", "fire_orders", "recapture_orders"]
    assert orders.fired("insert into orders (id) values (1)") == ["order.made"]


def test_a_source_that_moves_to_another_table_leaves_the_first(orders: Shop) -> None:
    orders.watch("orders", MADE, DUE)
    orders.run("insert into orders (id, due) values (1, now() + interval '1 h')")
    orders.table("carts", "id int primary key")
    orders.watch("carts", MADE)
    assert orders.fired("insert into orders (id) values (2); insert into carts values (3)") == ["order.made"]
    assert (triggers(orders), orders.armed()) == ([], 0)
    assert functions(orders) == ["body_orders", "capture_orders", "recapture_orders"]


def test_unwatching_leaves_nothing_but_what_was_captured(orders: Shop) -> None:
    orders.watch("orders", MADE, DUE)
    orders.run("insert into orders (id, due) values (1, now())")
    assert orders.value("select pgrelay.unwatch('orders')") is True
    assert (triggers(orders), functions(orders), orders.armed()) == ([], [], 0)
    assert orders.run("select from pgrelay.sources") == orders.run("select from pgrelay.event_rules") == []
    assert [event.type for event in orders.events()] == ["order.made"]
    assert orders.value("select pgrelay.unwatch('orders')") is False


def test_unwatching_one_source_of_a_table_leaves_the_other(orders: Shop) -> None:
    orders.watch("orders", MADE)
    orders.watch("orders", PAID, name="paid_orders")
    orders.run("select pgrelay.unwatch('orders')")
    assert orders.fired("insert into orders (id, status) values (1, 'paid')") == ["order.paid"]


def test_a_source_of_another_owner_is_neither_watched_nor_unwatched(orders: Shop) -> None:
    watch = "select pgrelay.watch(%s, %s)"
    definition = json.dumps(
        {"name": "orders", "table": "shop.orders", "tenant": {"value": "1"}, "events": [MADE]}
    )
    orders.run(watch, definition, "billing")
    with orders.refused("PGR14") as said:
        orders.run(watch, definition, "main")
    assert said[0].message_primary == "source orders belongs to billing, not to main"
    assert said[0].message_hint
    with orders.refused("PGR14") as said:
        orders.run("select pgrelay.unwatch('orders')")
    assert said[0].message_hint == "Say so: select pgrelay.unwatch('orders', 'billing');"
    assert orders.value("select pgrelay.unwatch('orders', 'billing')")


def ordinary(orders: Shop, clerk: Callable[..., Role]) -> Role:
    """A role that owns the schema pgrelay and all in it, and has TRIGGER on orders."""
    owner = clerk()
    with orders.connect() as connection:
        connection.execute("begin")
        for (statement,) in connection.execute(
            "select format('alter table %s owner to {0}', oid::regclass) from pg_class where"
            " relnamespace = 'pgrelay'::regnamespace"
            " and relkind in ('r', 'p') and not relispartition"
            " union all select format('alter table %s owner to {0}', oid::regclass) from pg_class where relnamespace ="
            " 'pgrelay'::regnamespace and relkind = 'r' and relispartition"
            " union all select format('alter sequence %s owner to {0}', s.oid::regclass) from"
            " pg_class s where relnamespace ="
            " 'pgrelay'::regnamespace and relkind = 'S' and not exists (select from pg_depend where"
            " objid = s.oid and deptype in ('a', 'i'))"
            " union all select format('alter function %s owner to {0}', oid::regprocedure) from"
            " pg_proc where pronamespace ="
            " 'pgrelay'::regnamespace union all select 'alter schema pgrelay owner to {0}'"
        ).fetchall():
            connection.execute(statement.replace("{0}", owner.name).encode())
        connection.execute("commit")
    orders.run(f"grant trigger on orders to {owner.name}")
    return owner


def given_back(orders: Shop, owner: Role) -> None:
    orders.run(f"reassign owned by {owner.name} to current_user")


def test_an_ordinary_role_that_owns_the_schema_watches_with_trigger_alone_and_unwatches(
    orders: Shop, clerk: Callable[..., Role]
) -> None:
    owner = ordinary(orders, clerk)
    try:
        definition = {
            "name": "orders",
            "table": "shop.orders",
            "tenant": "company_id",
            "events": [MADE, PAID],
            "record": "always",
        }
        writer = clerk()
        orders.run(f"grant insert, update, delete, select on orders to {writer.name}")
        with owner.connect() as connection, writer.connect() as application:
            connection.execute("select pgrelay.watch(%s)", (json.dumps(definition),))
            application.execute("insert into shop.orders (id, status) values (1, 'paid')")
            assert [event.type for event in orders.taken()] == ["order.made", "order.paid"]
            definition["events"] = [{"event": "order.gone", "on": "delete"}]
            connection.execute("select pgrelay.watch(%s)", (json.dumps(definition),))
            application.execute("update shop.orders set status = 'x'; delete from shop.orders")
            assert [event.type for event in orders.taken()] == ["order.gone"]
            with orders.refused("PGR12") as said:
                connection.execute(
                    "select pgrelay.watch(%s)", (json.dumps({**definition, "events": [MADE, DUE]}),)
                )
            assert said[0].message_primary == "source orders, order.due: no SELECT privilege on shop.orders"
            assert f"grant select on shop.orders to {owner.name};" in str(said[0].message_hint)
            connection.execute("set client_min_messages = error; select pgrelay.unwatch('orders')")
            application.execute("insert into shop.orders (id, status) values (2, 'paid')")
        assert (triggers(orders), functions(orders), orders.taken()) == ([], [], [])
    finally:
        given_back(orders, owner)


def test_what_a_superuser_watches_in_an_ordinary_roles_schema_fires_and_is_recaptured(
    orders: Shop, clerk: Callable[..., Role]
) -> None:
    owner = ordinary(orders, clerk)
    try:
        orders.watch("orders", {**MADE, "payload": {"extra": {"x": "1 / new.total"}}}, DUE)
        orders.run("insert into orders (id, total, due) values (1, 0, now())")
        orders.watch("orders", MADE, DUE)
        with owner.connect() as connection:
            assert connection.execute("select fired from pgrelay.fire_deadlines()").fetchall() == [(1,)]
            assert connection.execute("select event_made from pgrelay.recapture()").fetchall() == [(True,)]
        assert [event.type for event in orders.taken()] == ["order.due", "order.made"]
    finally:
        given_back(orders, owner)


def test_two_who_watch_at_once_wait_for_each_other(orders: Shop) -> None:
    orders.table("carts", "id int primary key")
    with orders.connect() as other, other.transaction():
        definition = {"name": "carts", "table": "shop.carts", "tenant": {"value": "1"}, "events": [MADE]}
        other.execute("select pgrelay.watch(%s)", (json.dumps(definition),))
        orders.run("set lock_timeout = '50 ms'")
        with orders.refused("55P03"):
            orders.watch("orders", MADE)
    orders.watch("orders", MADE)
    assert orders.run("select name from pgrelay.sources order by name") == [("carts",), ("orders",)]
