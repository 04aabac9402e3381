"""Source.definition(): the one form in which a source reaches SQL and is compared."""

import json

import pytest

from pgrelay.sources import DEFAULT_OPERATIONS, EventRule, Operation, Payload, Record, Source, Tenant

CREATED = EventRule(event="order.created", on=(Operation.INSERT,))


def source(**changes):
    return Source(
        **{
            "name": "orders",
            "table": "public.orders",
            "tenant": Tenant(column="company_id"),
            "events": (CREATED,),
            **changes,
        }
    )


def test_a_plain_source_says_only_what_it_must():
    assert source().definition() == {
        "name": "orders",
        "table": "public.orders",
        "tenant": "company_id",
        "events": [{"event": "order.created", "on": ["insert"]}],
    }


@pytest.mark.parametrize(
    "spelled_out",
    [
        {"resource": "orders"},
        {"prefix": "orders"},
        {"resource": "orders", "prefix": "orders"},
        {"timezone": "UTC"},
        {"record": Record.SUBSCRIBED},
        {"payload": Payload(extra={})},
    ],
)
def test_a_default_that_is_spelled_out_changes_nothing(spelled_out):
    assert source(**spelled_out).definition() == source().definition()


def test_a_prefix_equal_to_the_source_name_stays_where_the_resource_has_another():
    definition = source(resource="order", prefix="orders").definition()
    assert (definition["resource"], definition["prefix"]) == ("order", "orders")
    assert "prefix" not in source(resource="order", prefix="order").definition()


def test_everything_that_differs_from_the_defaults_stands_in_the_definition():
    full = source(
        key="number",
        tenant=Tenant(sql="new.a || new.b"),
        resource="order",
        prefix="ord",
        timezone="Europe/Berlin",
        record=Record.ALWAYS,
        payload=Payload(row="to_json(new)", exclude=("notes",), extra={"total": "new.net + new.tax"}),
        events=(
            EventRule(
                event="order.paid",
                on=(Operation.UPDATE,),
                when="new.paid",
                becomes={"status": ("paid", None)},
                changes=("paid_at",),
                record=Record.SUBSCRIBED,
                payload=Payload(include=("id",)),
            ),
            EventRule(event="order.overdue", at="due_at"),
        ),
    )
    assert full.definition() == {
        "name": "orders",
        "table": "public.orders",
        "key": "number",
        "tenant": {"sql": "new.a || new.b"},
        "resource": "order",
        "prefix": "ord",
        "timezone": "Europe/Berlin",
        "record": "always",
        "payload": {"row": "to_json(new)", "exclude": ["notes"], "extra": {"total": "new.net + new.tax"}},
        "events": [
            {
                "event": "order.paid",
                "on": ["update"],
                "when": "new.paid",
                "becomes": {"status": ["paid", None]},
                "changes": ["paid_at"],
                "record": "subscribed",
                "payload": {"include": ["id"]},
            },
            {"event": "order.overdue", "at": "due_at"},
        ],
    }


def test_a_definition_is_made_of_json_types_alone():
    definition = source(record=Record.ALWAYS, tenant=Tenant(value="acme")).definition()
    assert json.loads(json.dumps(definition)) == definition
    assert type(definition["record"]) is str
    assert definition["tenant"] == {"value": "acme"}


def test_insert_and_update_is_left_out_only_where_it_is_the_default():
    both = DEFAULT_OPERATIONS
    assert "on" not in EventRule(event="a.b", on=both, changes=("x",)).definition()
    assert "on" not in EventRule(event="a.b", on=both, becomes={"x": ("1",)}).definition()
    assert "on" not in EventRule(event="a.b", changes=("x",)).definition()
    assert EventRule(event="a.b", on=both).definition()["on"] == ["insert", "update"]


def test_the_order_in_which_operations_were_written_does_not_matter():
    on = (Operation.DELETE, Operation.UPDATE, Operation.INSERT)
    assert EventRule(event="a.b", on=on).definition()["on"] == ["insert", "update", "delete"]


def test_a_rule_repeats_the_record_of_its_source_in_vain_and_overrides_it_otherwise():
    def record_of(rule, whole):
        return (
            source(record=whole, events=(EventRule(event="a.b", at="x", record=rule),))
            .definition()["events"][0]
            .get("record")
        )

    assert record_of(Record.ALWAYS, Record.ALWAYS) is None
    assert record_of(Record.SUBSCRIBED, Record.SUBSCRIBED) is None
    assert record_of(None, Record.ALWAYS) is None
    assert record_of(Record.ALWAYS, Record.SUBSCRIBED) == "always"
    assert record_of(Record.SUBSCRIBED, Record.ALWAYS) == "subscribed"
