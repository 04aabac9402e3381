"""The eight events of the sample application, as the sources of config.example.yaml make them."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from pgrelay.config.load import load
from support.watched import Event, Shop

EXAMPLE = Path(__file__).resolve().parents[3] / "config.example.yaml"
COLUMNS = [
    "id",
    "company_id",
    "branch_id",
    "service_id",
    "customer_name",
    "customer_phone",
    "customer_email",
    "preferred_time_window",
    "priority",
    "status",
    "assigned_to",
    "escalation_level",
    "notes",
    "metadata",
    "cancellation_reason",
    "assigned_at",
    "contacted_at",
    "completed_at",
    "cancelled_at",
    "expires_at",
    "created_at",
    "updated_at",
]


@pytest.fixture
def sample(shop: Shop) -> Iterator[Shop]:
    """The shipped sources on the sample application's tables, and one webhook for everything."""
    for source in load(EXAMPLE, environ={}, credentials=None).sources:
        shop.run("select pgrelay.watch(%s)", json.dumps(source.definition()))
    shop.subscribe("callback.*")
    yield shop
    shop.run("truncate public.callback_requests cascade")


def request(sample: Shop, **columns: object) -> int:
    """A new request; its id. The outbox is empty afterwards."""
    given = {
        "company_id": 1,
        "branch_id": 1,
        "service_id": 2,
        "customer_name": "Zoë “Z” O'Hara",
        "customer_phone": "+49 1",
        **columns,
    }
    row = sample.value(
        f"insert into public.callback_requests ({', '.join(given)}) values"
        f" ({', '.join(['%s'] * len(given))}) returning id",
        *given.values(),
    )
    sample.taken()
    return int(row)


def checked(event: Event, event_type: str, resource_id: int) -> dict[str, object]:
    """The object under data.callback_request of an event that has the form every event has."""
    body = event.body
    assert list(body) == ["event", "idempotency_key", "timestamp", "data"]
    assert (event.type, body["event"], event.resource_id, event.company_id) == (
        event_type,
        event_type,
        str(resource_id),
        "1",
    )
    assert body["idempotency_key"] == event.key
    assert re.fullmatch(rf"callback_{resource_id}_{event_type.split('.')[1]}_[0-9]+", event.key)
    assert datetime.fromisoformat(body["timestamp"]) == datetime.fromisoformat(json.loads(event.occurred_at))
    assert body["timestamp"].endswith("+00:00")
    assert list(body["data"]) == ["callback_request"]
    found = body["data"]["callback_request"]
    assert list(found)[: len(COLUMNS)] == COLUMNS, "the full row in the table's order, then the extras"
    assert found["id"] == resource_id
    return found


def test_a_new_request_is_created_with_the_full_row_and_the_names_it_refers_to(sample: Shop) -> None:
    event = sample.made(
        "insert into public.callback_requests (company_id, branch_id, service_id, customer_name, customer_phone,"
        " preferred_time_window, metadata) values (1, 1, 2, %s, '1', %s, %s)",
        'Zoë "Z" O\'Hara\\',
        '{"from": "09:00"}',
        '{"a": [1, null]}',
    )
    found = checked(event, "callback.created", sample.value("select max(id) from public.callback_requests"))
    assert (found["branch_name"], found["service_name"]) == ("Mitte", "Check-up")
    assert found["customer_name"] == 'Zoë "Z" O\'Hara\\'
    assert (found["preferred_time_window"], found["metadata"]) == ({"from": "09:00"}, {"a": [1, None]})
    assert found["assigned_to"] is None


def test_names_that_a_request_does_not_refer_to_are_null(sample: Shop) -> None:
    event = sample.made(
        "insert into public.callback_requests (company_id, customer_name, customer_phone) values (1, 'a', '1')"
    )
    assert (event.resource["branch_name"], event.resource["service_name"]) == (None, None)


def test_a_request_that_is_inserted_assigned_is_created_and_assigned(sample: Shop) -> None:
    sample.run(
        "insert into public.callback_requests (company_id, branch_id, service_id, customer_name, customer_phone,"
        " assigned_to, status) values (1, 1, 1, 'a', '1', 2, 'assigned')"
    )
    created, assigned = sample.events()
    number = int(created.resource_id or 0)
    assert checked(created, "callback.created", number)["assigned_to"] == 2
    found = checked(assigned, "callback.assigned", number)
    assert (found["staff_name"], found["staff_email"]) == ("Ben Krause", "ben@example.com")
    assert (found["branch_name"], found["service_name"]) == ("Mitte", "Consultation")


def test_assigning_to_somebody_else_is_an_event_and_taking_away_is_none(sample: Shop) -> None:
    number = request(sample)
    first = sample.made(
        "update public.callback_requests set assigned_to = 1, status = 'assigned' where id = %s", number
    )
    assert checked(first, "callback.assigned", number)["staff_name"] == "Ada Weber"
    second = sample.made("update public.callback_requests set assigned_to = 2 where id = %s", number)
    assert checked(second, "callback.assigned", number)["staff_name"] == "Ben Krause"
    assert sample.fired("update public.callback_requests set assigned_to = null where id = %s", number) == []


@pytest.mark.parametrize(
    ("status", "columns"),
    [
        ("contacted", {"contacted_at": "2026-05-01 10:00:00+02"}),
        ("completed", {"completed_at": "2026-05-01 10:00:00+02"}),
        ("cancelled", {"cancelled_at": "2026-05-01 10:00:00+02", "cancellation_reason": "changed\nmind"}),
        ("expired", {"expires_at": "2026-05-01 10:00:00+02"}),
    ],
)
def test_each_status_a_request_comes_to_is_an_event_once(
    sample: Shop, status: str, columns: dict[str, str]
) -> None:
    number = request(sample)
    changes = ", ".join(f"{name} = %s" for name in columns)
    update = f"update public.callback_requests set status = %s, {changes} where id = %s"
    found = checked(sample.made(update, status, *columns.values(), number), f"callback.{status}", number)
    assert found["status"] == status
    for name, value in columns.items():
        assert found[name] == ("2026-05-01T08:00:00+00:00" if name.endswith("_at") else value)
    assert found["branch_name"] == "Mitte"
    assert sample.fired("update public.callback_requests set notes = 'again' where id = %s", number) == []


def test_a_request_whose_deadline_passed_while_open_is_overdue(sample: Shop) -> None:
    number = request(sample, status="assigned", expires_at="2026-01-01 00:00:00+00")
    event = sample.made("select pgrelay.fire_deadlines()")
    found = checked(event, "callback.overdue", number)
    assert (found["expires_at"], found["service_name"]) == ("2026-01-01T00:00:00+00:00", "Check-up")


def test_a_request_that_was_contacted_in_time_is_not_overdue(sample: Shop) -> None:
    request(sample, status="contacted", expires_at="2026-01-01 00:00:00+00")
    assert sample.fire() == []


def test_a_request_whose_level_rises_is_escalated_and_one_whose_level_falls_is_not(sample: Shop) -> None:
    number = request(sample)
    event = sample.made("update public.callback_requests set escalation_level = 2 where id = %s", number)
    assert checked(event, "callback.escalated", number)["escalation"] == {"level": 2, "previous_level": 0}
    assert (
        sample.fired("update public.callback_requests set escalation_level = 1 where id = %s", number) == []
    )


def test_an_escalation_row_escalates_the_request_it_belongs_to(sample: Shop) -> None:
    number = request(sample)
    event = sample.made(
        "insert into public.callback_escalations (callback_request_id, level, reason, escalated_from, escalated_to)"
        " values (%s, 3, 'no answer', 1, 2)",
        number,
    )
    found = checked(event, "callback.escalated", number)
    assert found["escalation"] == {
        "level": 3,
        "reason": "no answer",
        "escalated_from": 1,
        "escalated_from_name": "Ada Weber",
        "escalated_to": 2,
        "escalated_to_name": "Ben Krause",
    }
    assert (found["customer_name"], found["branch_name"]) == ("Zoë “Z” O'Hara", "Mitte")


def test_a_request_that_is_deleted_with_its_escalations_is_no_event(sample: Shop) -> None:
    number = request(sample)
    sample.run(
        "insert into public.callback_escalations (callback_request_id, level, reason) values (%s, 1, 'x')",
        number,
    )
    assert sample.fired("delete from public.callback_requests where id = %s", number) == []


def test_keys_are_unique_however_many_events_one_request_has_in_a_second(sample: Shop) -> None:
    number = request(sample)
    for staff in (1, 2) * 20:
        sample.run("update public.callback_requests set assigned_to = %s where id = %s", staff, number)
    keys = [event.key for event in sample.events()]
    assert len(keys) == 40
    assert len(set(keys)) == 40


def test_what_is_stored_is_valid_json_byte_for_byte_as_it_will_be_sent(sample: Shop) -> None:
    request(sample)
    sample.run(
        "insert into public.callback_requests (company_id, customer_name, customer_phone, notes)"
        " values (1, %s, '1', %s)",
        "日本 \U0001f600 \x01",
        'tab\t quote" back\\ </script> \u2028',
    )
    (event,) = sample.events()
    assert event.resource["customer_name"] == "日本 \U0001f600 \x01"
    assert event.resource["notes"] == 'tab\t quote" back\\ </script> \u2028'
    (raw,) = sample.run("select convert_to(body, 'UTF8') from pgrelay.outbox")[0]
    assert raw == event.text.encode()
    assert raw.startswith(b'{"event":"callback.created","idempotency_key":"callback_')


def test_another_tenants_request_is_not_captured_where_only_this_tenant_subscribes(sample: Shop) -> None:
    assert (
        sample.fired(
            "insert into public.callback_requests (company_id, customer_name, customer_phone) values (2, 'a', '1')"
        )
        == []
    )
