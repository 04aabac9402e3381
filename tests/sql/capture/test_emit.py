"""Events that the application makes itself."""

import re
from collections.abc import Callable
from datetime import datetime

import pytest

from support.database import Role
from support.watched import Shop

ORDER = '{"order": {"id": 7, "total": 1.50,  "note": "é\\u0000"}}'


def test_an_event_that_somebody_wants_is_made_in_the_form_of_captured_ones(shop: Shop) -> None:
    shop.subscribe("order.*", company_id="42")
    number = shop.value("select pgrelay.emit('order.paid', %s, '42', 'a.7', 'billing')", ORDER)
    (event,) = shop.events()
    assert (event.id, event.type, event.company_id, event.resource_id) == (number, "order.paid", "42", "a.7")
    assert shop.value("select source from pgrelay.outbox") == "billing"
    assert re.fullmatch("order_a_7_paid_[0-9]+", event.key)
    assert list(event.body) == ["event", "idempotency_key", "timestamp", "data"]
    assert (event.body["event"], event.body["idempotency_key"]) == ("order.paid", event.key)
    assert datetime.fromisoformat(event.body["timestamp"]).utcoffset() is not None
    assert event.text.endswith(f',"data":{ORDER}}}')


def test_an_event_nobody_wants_is_not_made(shop: Shop) -> None:
    shop.subscribe("order.*", company_id="42")
    assert shop.value("select pgrelay.emit('order.paid', '{}', '43')") is None
    assert shop.value("select pgrelay.emit('bill.paid', '{}', '42')") is None
    assert shop.events() == []


def test_an_event_without_data_or_resource_has_null_for_them(shop: Shop) -> None:
    shop.subscribe()
    shop.run("set timezone = 'Asia/Tokyo'")
    shop.run("select pgrelay.emit('shop.order.paid', null, '1')")
    (event,) = shop.events()
    assert (event.body["data"], event.resource_id) == (None, None)
    assert re.fullmatch("shop__paid_[0-9]+", event.key)
    assert event.body["timestamp"].endswith("+00:00")


def test_two_events_of_one_resource_at_once_have_keys_of_their_own(shop: Shop) -> None:
    shop.subscribe()
    shop.run("select pgrelay.emit('order.paid', '{}', '1', '7') from generate_series(1, 50)")
    assert len({event.key for event in shop.events()}) == 50


def test_an_event_belongs_to_its_transaction(shop: Shop) -> None:
    shop.subscribe()
    with shop.db.transaction(force_rollback=True):
        shop.run("select pgrelay.emit('order.paid', '{}', '1')")
    assert shop.events() == []


@pytest.mark.parametrize(
    "event_type",
    [None, "", "paid", "Order.paid", "order.paid.now.again", "order..paid", "order.*", "order.paid\n"],
)
def test_what_is_no_event_type_is_refused(shop: Shop, event_type: str | None) -> None:
    with shop.refused("PGR15") as said:
        shop.run("select pgrelay.emit(%s, '{}', '1')", event_type)
    assert str(said[0].message_primary).startswith("not an event type: ")
    assert "order.paid" in str(said[0].message_hint)


@pytest.mark.parametrize("tenant", [None, ""])
def test_an_event_without_a_tenant_is_refused(shop: Shop, tenant: str | None) -> None:
    with shop.refused("PGR15") as said:
        shop.run("select pgrelay.emit('order.paid', '{}', %s)", tenant)
    assert said[0].message_primary == "an event needs a tenant"
    assert "company_id" in str(said[0].message_hint)


def test_a_role_may_emit_only_if_it_was_allowed_to(shop: Shop, clerk: Callable[..., Role]) -> None:
    shop.subscribe()
    someone = clerk()
    emit = "select pgrelay.emit('order.paid', '{}', '1')"
    with someone.connect() as connection:
        with shop.refused("42501"):
            connection.execute(emit)
        shop.run(f"grant usage on schema pgrelay to {someone.name}")
        with shop.refused("42501"):
            connection.execute(emit)
        shop.run(f"grant execute on function pgrelay.emit(text, json, text, text, text) to {someone.name}")
        connection.execute(emit)
        with shop.refused("42501"):
            connection.execute("select * from pgrelay.outbox")
    assert [event.type for event in shop.events()] == ["order.paid"]
