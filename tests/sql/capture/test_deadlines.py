"""Deadlines fire when they pass, once, if the row then still says so; nobody has to write for it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from support.watched import Event, Shop

#: Overdue while open.
DUE = {"event": "order.overdue", "at": "due", "when": "new.status = 'open'"}
#: Longer than a statement takes, and short enough to wait for.
SOON = "clock_timestamp() + interval '120 ms'"


@pytest.fixture
def orders(shop: Shop) -> Shop:
    shop.orders(due="timestamptz")
    shop.watch("orders", DUE)
    return shop


def fired_until_it_passed(shop: Shop) -> Event:
    """The one event that order 1's deadline makes, however often it is looked at before and after it passes."""
    shop.taken()
    passed = False
    while not passed:
        passed = shop.value("select due < clock_timestamp() from orders where id = 1")
        shop.run("select pgrelay.fire_deadlines(), pg_sleep(0.02)")
    (event,) = shop.taken()
    assert datetime.fromisoformat(event.body["timestamp"]) >= shop.value(
        "select due from orders where id = 1"
    )
    assert event.type == "order.overdue"
    return event


def next_in(shop: Shop) -> float | None:
    value = shop.value("select next_in from pgrelay.fire_deadlines()")
    return None if value is None else float(value)


def test_a_deadline_fires_once_when_it_passes_without_any_write(orders: Shop) -> None:
    orders.run(f"insert into orders (id, status, due) values (1, 'open', {SOON})")
    event = fired_until_it_passed(orders)
    assert (event.resource_id, event.resource["status"]) == ("1", "open")
    assert event.key.startswith("orders_1_overdue_")
    assert orders.fire() == []


def test_a_deadline_of_long_ago_fires_though_nobody_looked_for_it_then(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() - interval '400 days')")
    assert orders.fire() == ["order.overdue"]
    assert orders.fire() == []


def test_a_row_that_was_closed_in_time_is_not_overdue(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    orders.run("update orders set status = 'done'")
    assert orders.run("select fired, dropped from pgrelay.fire_deadlines()") == [(0, 1)]


def test_a_row_that_is_opened_again_after_its_deadline_is_overdue_once(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'done', now() - interval '1 h')")
    assert orders.fire() == []
    orders.run("update orders set status = 'open'")
    assert orders.fire() == ["order.overdue"]
    orders.run("update orders set status = 'done'")
    orders.run("update orders set status = 'open'")
    assert orders.fire() == []


def test_a_row_that_was_closed_and_opened_before_its_deadline_is_overdue(orders: Shop) -> None:
    orders.run(f"insert into orders (id, status, due) values (1, 'open', {SOON})")
    orders.run("update orders set status = 'done'")
    orders.run("update orders set status = 'open'")
    fired_until_it_passed(orders)


def test_a_deadline_moved_away_and_back_fires_once(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() - interval '1 h')")
    orders.run("update orders set due = due + interval '1 day'")
    orders.run("update orders set due = due - interval '1 day'")
    assert orders.armed() == 3
    assert orders.fire() == ["order.overdue"]
    orders.run("update orders set due = due + interval '1 day'")
    orders.run("update orders set due = due - interval '1 day'")
    assert orders.fire() == []


def test_a_deadline_that_was_put_off_fires_at_the_new_time_alone(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    orders.run(f"update orders set due = {SOON}")
    fired_until_it_passed(orders)


def test_a_deadline_that_was_moved_forward_fires_at_the_new_time_alone(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')")
    orders.run("update orders set due = now()")
    assert orders.fire() == ["order.overdue"]
    orders.run("update pgrelay.deadlines set fire_at = now()")
    assert orders.fire() == []


def test_a_deadline_that_fired_fires_again_when_it_is_moved(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() - interval '1 h')")
    assert orders.fire() == ["order.overdue"]
    orders.run("update orders set due = now()")
    assert orders.fire() == ["order.overdue"]


def test_a_deadline_that_was_taken_away_does_not_fire(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    orders.run("update orders set due = null")
    assert orders.fire() == []


def test_a_row_that_commits_after_its_deadline_is_overdue(orders: Shop) -> None:
    with orders.connect() as other, other.transaction():
        other.execute("insert into orders (id, status, due) values (1, 'open', now() - interval '1 s')")
        other.execute("select pg_sleep(0.02)")
        assert orders.fire() == []
    assert orders.fire() == ["order.overdue"]


def test_a_deleted_row_is_not_overdue_and_its_deadline_is_dropped(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    orders.run("delete from orders")
    assert orders.run("select fired, dropped, next_in from pgrelay.fire_deadlines()") == [(0, 1, None)]
    assert (orders.armed(), orders.errors()) == (0, [])


def test_a_write_that_was_rolled_back_arms_nothing(orders: Shop) -> None:
    with orders.db.transaction(force_rollback=True):
        orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    assert orders.armed() == 0


def test_updates_that_do_not_touch_the_deadline_arm_nothing(orders: Shop) -> None:
    orders.run(
        "insert into orders (id, status, due) values (1, 'open', now() + interval '1 h'), (2, 'open', null)"
    )
    orders.run("update orders set total = 3")
    orders.run("update orders set status = 'done'")
    assert orders.armed() == 1


@pytest.mark.parametrize("never", ["infinity", "-infinity"])
def test_infinity_is_no_deadline(orders: Shop, never: str) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', %s), (2, 'open', now())", never)
    orders.run("update orders set total = 1")
    assert orders.fire() == ["order.overdue"]
    assert next_in(orders) is None


def test_firing_tells_how_many_seconds_the_next_deadline_is_away(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now() + interval '1 h')")
    orders.run("insert into orders (id, status, due) values (2, 'open', now() + interval '1 min')")
    found = next_in(orders)
    assert found is not None
    assert 50 < found <= 60


def test_deadlines_fire_in_portions_and_the_most_overdue_first(orders: Shop) -> None:
    orders.run(
        "insert into orders (id, status, due) select g, 'open', now() - g * interval '1 min' from"
        " generate_series(1, 5) as g"
    )
    fire = "select fired from pgrelay.fire_deadlines(2)"
    assert [orders.value(fire) for _ in range(4)] == [2, 2, 1, 0]
    assert [event.resource_id for event in orders.events()] == ["5", "4", "3", "2", "1"]


def test_two_daemons_that_fire_at_once_fire_each_deadline_once(orders: Shop) -> None:
    orders.run(
        "insert into orders (id, status, due) select g, 'open', now() from generate_series(1, 300) as g"
    )
    # each armed twice, so that the two may also meet at one deadline
    orders.run(
        "insert into pgrelay.deadlines (source, event_type, resource_id, fire_at)"
        " select source, event_type, resource_id, fire_at from pgrelay.deadlines"
    )

    def fire_all() -> None:
        with orders.connect() as other:
            while (other.execute("select fired + dropped from pgrelay.fire_deadlines(20)").fetchone() or [0])[
                0
            ]:
                pass

    with ThreadPoolExecutor(3) as daemons:
        for done in [daemons.submit(fire_all) for _ in range(3)]:
            done.result()
    assert sorted(int(event.resource_id or 0) for event in orders.events()) == list(range(1, 301))


def test_a_daemon_does_not_wait_for_another_that_is_firing(orders: Shop) -> None:
    orders.run("insert into orders (id, status, due) values (1, 'open', now())")
    with orders.connect() as other, other.transaction():
        other.execute("select pgrelay.fire_deadlines()")
        orders.run("set statement_timeout = '5s'")
        assert orders.value("select fired from pgrelay.fire_deadlines()") == 0
    assert [event.type for event in orders.events()] == ["order.overdue"]


@pytest.mark.parametrize(
    ("kind", "local"),
    [("timestamp", "2026-07-01 12:00"), ("date", "2026-07-01"), ("shop.moment", "2026-07-01 12:00")],
)
def test_a_deadline_without_a_zone_is_read_in_the_sources_timezone(shop: Shop, kind: str, local: str) -> None:
    shop.run("create domain shop.moment as timestamp; set timezone = 'Asia/Tokyo'")
    shop.orders(due=kind)
    shop.watch("orders", DUE, timezone="America/New_York")
    shop.run("insert into orders (id, status, due) values (1, 'open', %s)", local)
    hour = 16 if "12:00" in local else 4
    assert shop.value("select fire_at from pgrelay.deadlines").astimezone(UTC) == datetime(
        2026, 7, 1, hour, tzinfo=UTC
    )
    assert shop.fire() == ["order.overdue"]


def test_a_deadline_in_a_column_without_a_zone_is_read_as_utc_by_default(shop: Shop) -> None:
    shop.run("set timezone = 'Asia/Tokyo'")
    shop.orders(due="timestamp")
    shop.watch("orders", DUE)
    shop.run("insert into orders (id, status, due) values (1, 'open', '2026-07-01 12:00')")
    assert shop.value("select fire_at = '2026-07-01 12:00+00' from pgrelay.deadlines")


def test_a_deadline_nobody_subscribes_to_passes_in_silence_and_does_not_fire_later(shop: Shop) -> None:
    shop.orders(due="timestamptz")
    shop.watch("orders", DUE, record="subscribed")
    shop.run("insert into orders (id, status, due) values (1, 'open', now())")
    assert shop.fire() == []
    shop.subscribe()
    shop.run("update orders set total = 1")
    assert shop.fire() == []


def test_rules_for_one_column_fire_each_for_itself(shop: Shop) -> None:
    shop.orders(due="timestamptz")
    shop.watch("orders", DUE, {"event": "order.late", "at": "due"})
    shop.run("insert into orders (id, status, due) values (1, 'open', now()), (2, 'done', now())")
    assert sorted(shop.fire()) == ["order.late", "order.late", "order.overdue"]
