"""Payload formats and filters on the command line: set, shown, tried, and what of a delivery is sent."""

import json

import pytest

from support.queue import add_event, expand, sign_on

URGENT = '$.data.callback_request.priority == "urgent"'
TEMPLATE = '{"routing_key": "R0UTE", "text": "{{ event }} of {{ resource_id }}"}'


@pytest.fixture
def db(app):
    with app.connect() as connection:
        yield connection


@pytest.fixture
def add(pgrelay):
    def add(*options):
        return pgrelay("webhooks", "add", "--company", "1", "--name", "CRM", "--url", "https://e.com/x",
                       "--event", "*", "--json", *options)  # fmt: skip

    return add


def test_formats_and_filters_are_set_shown_and_removed(pgrelay, add, tmp_path):
    file = tmp_path / "template.json"
    file.write_text(TEMPLATE)
    made = add("--payload-format", "template", "--payload-template", str(file), "--filter", URGENT)
    assert made.code == 0, made.err
    assert [made.data[name] for name in ("payload_format", "payload_template", "filter")] == [
        "template",
        "***",
        URGENT,
    ]
    assert "R0UTE" not in pgrelay("webhooks", "show", "1").out
    shown = pgrelay("webhooks", "show", "1", "--reveal").out
    assert TEMPLATE in shown and URGENT in shown
    changed = pgrelay("webhooks", "set", "1", "--payload-format", "cloudevents", "--filter", "none", "--json")
    assert (changed.data["payload_format"], changed.data["filter"]) == ("cloudevents", None)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (
            ["--payload-format", "cloudevent"],
            "'cloudevent' is not a payload format; did you mean cloudevents?",
        ),
        (
            ["--payload-template", "nowhere.json"],
            "neither a JSON object or array nor a file that can be read",
        ),
        (
            ["--payload-template", '{"a": "{{ x() }}"}'],
            "payload_template: at /a: a call is not understood here",
        ),
        (["--filter", "$.a"], "filter: it is a value and no condition"),
    ],
)
def test_what_could_not_work_is_refused_with_the_reason(add, options, fault):
    refused = add(*options)
    assert refused.code != 0
    assert fault in refused.err


def test_a_preview_shows_what_would_be_sent_and_a_delivery_what_is(pgrelay, add, db):
    assert add().code == 0
    body = json.dumps({"event": "callback.created", "data": {"callback_request": {"priority": "low"}}})
    add_event(db, body=body)
    (lease,) = expand(db, sign_on(db)).leases
    tried = pgrelay("webhooks", "preview", "1", "--payload-format", "template", "--payload-template", TEMPLATE,
                    "--filter", URGENT)  # fmt: skip
    assert (tried.code, json.loads(tried.out)) == (
        0,
        {"routing_key": "R0UTE", "text": "callback.created of 7"},
    )
    assert (
        "The filter leaves out this event." in tried.err and "It takes 0 of the 1 latest event." in tried.err
    )

    assert pgrelay("deliveries", "show", str(lease.delivery_id), "--body").out == body
    assert pgrelay("webhooks", "set", "1", "--payload-format", "cloudevents").code == 0
    sent = json.loads(pgrelay("deliveries", "show", str(lease.delivery_id), "--body").out)
    assert (sent["specversion"], sent["id"]) == ("1.0", lease.idempotency_key)
    assert "Sent as cloudevents" in pgrelay("deliveries", "show", str(lease.delivery_id)).out
