"""The application is safe: what goes wrong in a capture is recorded with the row, and its statement succeeds."""

import json
import threading

import psycopg
import pytest

from support.watched import MADE, Shop

PAID = {"event": "order.paid", "becomes": {"status": "paid"}}
NAMED = {
    **MADE,
    "event": "order.named",
    "payload": {"extra": {"customer": "(select c.name from shop.customers c where c.id = 1)"}},
}


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders()
    shop.table("customers", "id int primary key, name text")
    return shop


def recorded(shop: Shop) -> list[tuple[str, str, str]]:
    return [(error.event_type, error.operation, error.sqlstate) for error in shop.errors()]


def ids_given(db: psycopg.Connection) -> int:
    row = db.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("change", "sqlstate"),
    [
        ("alter table orders rename column status to state", "42703"),
        ("alter table orders drop column status", "42703"),
    ],
)
def test_a_column_that_went_costs_only_the_events_of_the_rules_that_ask_for_it(
    orders: Shop, change: str, sqlstate: str
) -> None:
    orders.watch("orders", PAID, MADE)
    assert orders.fired("insert into orders (id) values (1)") == ["order.made"]
    orders.run(change)
    assert orders.fired("insert into orders (id) values (2)") == ["order.made"]
    assert orders.fired("update orders set total = 3 where id = 2") == ["order.made"]
    assert recorded(orders) == [("order.paid", "INSERT", sqlstate), ("order.paid", "UPDATE", sqlstate)]
    inserted, updated = orders.errors()
    assert (inserted.old_row, json.loads(inserted.new_row or "")["id"]) == (None, 2)
    assert (json.loads(updated.old_row or "")["total"], json.loads(updated.new_row or "")["total"]) == (
        None,
        3,
    )


@pytest.mark.parametrize(
    "change", ["drop table customers", "alter table customers rename column name to title"]
)
def test_a_joined_table_that_changed_costs_the_event_that_needs_it(orders: Shop, change: str) -> None:
    orders.watch("orders", MADE, NAMED)
    orders.run(change)
    assert orders.fired("insert into orders (id) values (1)") == ["order.made"]
    (error,) = orders.errors()
    assert (error.event_type, error.resource_id) == ("order.named", "1")
    assert orders.value("select context from pgrelay.capture_errors").startswith(
        "PL/pgSQL function pgrelay.body_orders"
    )


def test_a_condition_that_fails_for_one_row_of_many_costs_that_rows_event_alone(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "event": "order.big", "when": "100 / new.total > 1"}, MADE)
    orders.run("insert into orders (id, total) select g, g - 50 from generate_series(1, 100) as g")
    events = orders.events()
    assert sum(event.type == "order.made" for event in events) == 100
    assert sum(event.type == "order.big" for event in events) == 50
    (error,) = orders.errors()
    assert (error.event_type, error.sqlstate, json.loads(error.new_row or "")["id"]) == (
        "order.big",
        "22012",
        50,
    )


def test_a_tenant_that_cannot_be_told_is_recorded_for_every_rule(orders: Shop) -> None:
    orders.watch("orders", PAID, MADE, tenant={"sql": "100 / new.total"})
    orders.run("insert into orders (id, status, total) values (1, 'paid', 0), (2, 'new', 2)")
    assert [event.company_id for event in orders.events()] == ["50.0000000000000000"]
    assert recorded(orders) == [("order.paid", "INSERT", "22012"), ("order.made", "INSERT", "22012")]


def test_a_deleted_row_whose_event_fails_is_kept_as_it_was(orders: Shop) -> None:
    orders.watch(
        "orders", {"event": "order.gone", "on": "delete", "payload": {"extra": {"share": "1 / old.total"}}}
    )
    orders.run("insert into orders (id, total) values (1, 0)")
    orders.run("delete from orders")
    (error,) = orders.errors()
    assert (error.operation, error.resource_id, error.new_row) == ("DELETE", "1", None)
    assert json.loads(error.old_row or "")["total"] == 0


def test_a_row_that_is_no_object_is_recorded_and_not_sent_as_broken_json(orders: Shop) -> None:
    payload = {
        "row": "case new.id when 1 then '[1]'::json when 2 then null else ' { } '::json end",
        "extra": {"a": "1"},
    }
    orders.watch("orders", {**MADE, "payload": payload})
    orders.run("insert into orders (id) values (1), (2), (3)")
    assert [event.resource for event in orders.events()] == [{"a": 1}, {"a": 1}]
    assert [error.message for error in orders.errors()] == ["payload.row is not an object"]


def test_a_thousand_failing_rows_take_one_transaction_id(orders: Shop) -> None:
    orders.watch(
        "orders",
        {**MADE, "event": "order.big", "when": "1 / new.total > 1"},
        {**MADE, "payload": {"extra": {"x": "1 / new.total"}}},
    )
    before = ids_given(orders.db)
    orders.run("insert into orders (id, total) select g, 0 from generate_series(1, 1000) as g")
    assert ids_given(orders.db) == before + 1
    assert len(orders.errors()) == 2000


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57014"])
@pytest.mark.parametrize("where", ["condition", "payload"])
def test_a_serialization_failure_a_deadlock_or_a_cancelling_is_the_applications(
    orders: Shop, sqlstate: str, where: str
) -> None:
    orders.run(
        "create function shop.fail() returns boolean language plpgsql as"
        f" $$ begin raise exception using errcode = '{sqlstate}', message = 'try again'; end $$"
    )
    orders.watch(
        "orders",
        {
            **MADE,
            **(
                {"when": "shop.fail()"}
                if where == "condition"
                else {"payload": {"extra": {"x": "shop.fail()"}}}
            ),
        },
    )
    with orders.refused(sqlstate):
        orders.run("insert into orders (id) values (1)")
    assert (orders.errors(), orders.run("select * from orders")) == ([], [])


def test_a_statement_timeout_in_a_capture_ends_the_statement(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "payload": {"extra": {"x": "pg_sleep(60)::text"}}})
    orders.run("set statement_timeout = '50 ms'")
    with orders.refused("57014"):
        orders.run("insert into orders (id) values (1)")
    orders.run("reset statement_timeout")
    assert orders.errors() == []


def test_a_lock_timeout_in_a_capture_is_recorded(orders: Shop) -> None:
    orders.watch("orders", NAMED, MADE)
    with orders.connect() as other, other.transaction():
        other.execute("lock table shop.customers")
        orders.run("set lock_timeout = '50 ms'")
        assert orders.fired("insert into orders (id) values (1)") == ["order.made"]
    assert recorded(orders) == [("order.named", "INSERT", "55P03")]


def test_a_statement_that_is_cancelled_in_a_capture_is_cancelled(orders: Shop) -> None:
    orders.watch("orders", {**MADE, "payload": {"extra": {"x": "pg_sleep(60)::text"}}})
    with orders.connect() as other:
        pid = other.info.backend_pid
        failed: list[str | None] = []

        def insert() -> None:
            try:
                other.execute("insert into shop.orders (id) values (1)")
            except psycopg.Error as error:
                failed.append(error.sqlstate)

        writer = threading.Thread(target=insert)
        writer.start()
        while not orders.value(
            "select exists (select from pg_stat_activity where pid = %s and wait_event = 'PgSleep')", pid
        ):
            pass
        orders.run("select pg_cancel_backend(%s)", pid)
        writer.join(30)
    assert failed == ["57014"]


def test_ids_that_start_again_fail_no_statement(orders: Shop) -> None:
    """As after a partial restore: a sequence is behind what the table holds already."""
    orders.watch(
        "orders",
        {**MADE, "payload": {"extra": {"x": "1 / new.total"}}},
        PAID,
        {"event": "order.any", "on": "insert"},
    )
    orders.run("insert into orders values (1, '1', 'paid', 0)")
    last = orders.value("select pg_sequence_last_value('pgrelay.outbox_id_seq')")
    orders.run("select setval('pgrelay.outbox_id_seq', 1), setval('pgrelay.capture_errors_id_seq', 1)")
    assert orders.fired("insert into orders values (2, '1', 'paid', 0)") == ["order.paid", "order.any"]
    orders.run("select setval('pgrelay.outbox_id_seq', %s)", last)


def test_a_schema_that_was_restored_without_data_fails_no_statement(orders: Shop) -> None:
    """As from pg_dump --schema-only: no sequence was ever called."""
    orders.watch("orders")
    orders.run("select setval('pgrelay.outbox_slot', 1, false), setval('pgrelay.wake', 1, false)")
    orders.run("insert into orders (id) values (1)")
    assert orders.value("select slot from pgrelay.outbox") == 0
    orders.run("select setval('pgrelay.outbox_slot', 0)")


def test_a_row_that_cannot_even_be_kept_is_recorded_without_it(orders: Shop) -> None:
    orders.run(
        "create type shop.never; create function shop.never_in(cstring) returns shop.never language"
        " internal immutable strict as 'int4in';"
        "create function shop.never_out(shop.never) returns cstring language internal immutable strict as 'int4out';"
        "create type shop.never (input = shop.never_in, output = shop.never_out, internallength = 4,"
        " passedbyvalue, alignment = int4);"
        "create function shop.no(shop.never) returns json language plpgsql as $$ begin raise exception 'no'; end $$;"
        "create cast (shop.never as json) with function shop.no(shop.never);"
        "alter table orders add secret shop.never"
    )
    orders.watch("orders")
    orders.run("insert into orders (id, secret) values (1, '7')")
    (error,) = orders.errors()
    assert (error.resource_id, error.sqlstate, error.new_row) == ("1", "P0001", None)
    assert "the row itself could not be kept: no" in orders.value(
        "select context from pgrelay.capture_errors"
    )
    assert orders.run("select event_made, message from pgrelay.recapture()") == [
        (False, "its row was not kept: it cannot be made again")
    ]


def test_capture_errors_render_rows_alike_in_any_session(orders: Shop) -> None:
    orders.run("alter table orders add at timestamptz, add span interval, add part float8")
    orders.watch("orders", {**MADE, "when": "1 / new.total > 0"})
    orders.run(
        "set timezone = 'Asia/Tokyo'; set intervalstyle = 'sql_standard'; set extra_float_digits = -10"
    )
    orders.run("insert into orders values (1, '1', 'x', 0, '2026-01-01 00:00Z', '-1 day 2:00', 0.1::float4)")
    kept = json.loads(orders.errors()[0].new_row or "")
    assert (kept["at"], kept["span"], kept["part"]) == (
        "2026-01-01T00:00:00+00:00",
        "-1 days -02:00:00",
        0.10000000149011612,
    )
