"""Previews: what a webhook is sent and what its filter takes, over the API and on the page; nothing is changed or sent."""

import json

import psycopg
import pytest

from pgrelay.observation import ApiChanged
from support.api import Api, make_token
from support.page import Browser
from support.queue import add_event, add_webhook, expand, sign_on, value

URGENT = '$.data.callback_request.priority == "urgent"'
SECRETIVE = '{"routing_key": "R0UTE", "text": "{{ event }} of {{ resource_id }}"}'


def body(priority: str) -> str:
    return json.dumps({"event": "callback.created", "data": {"callback_request": {"priority": priority}}})


@pytest.mark.parametrize(("whose", "company"), [("admin", None), ("reader", None), ("tenant", "1")])
async def test_a_format_and_a_filter_are_tried_before_they_count(
    api: Api, db: psycopg.Connection, whose: str, company: str | None
):
    webhook = add_webhook(db)
    low, urgent = (add_event(db, body=body(priority)) for priority in ("low", "urgent"))
    client = api.client(make_token(db, whose, company))
    path = f"/webhooks/{webhook}/preview"

    own = (await client.post(path)).body
    assert (own["event_id"], own["body"], own["matches"]) == (urgent, body("urgent"), True)
    assert (own["payload_format"], own["content_type"]) == ("standard", "application/json")

    tried = await client.post(path, json={"payload_format": "slack", "filter": URGENT, "event_id": low})
    assert tried.status == 200, tried.body
    assert json.loads(tried.body["body"])["text"].startswith("Callback created: 7")
    assert tried.body["matches"] is False
    assert (tried.body["events_matching"], tried.body["events_tried"]) == (1, 2)

    assert value(db, "select version from pgrelay.webhook_configurations") == 1
    assert value(db, "select count(*) from pgrelay.delivery_queue") == 0
    assert not [one for one in api.observed if isinstance(one, ApiChanged)]


async def test_without_an_event_a_test_stands_for_it(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db, filter=URGENT)
    made = (await api.client(make_token(db, "admin")).post(f"/webhooks/{webhook}/preview")).body
    assert (made["event_id"], made["event_type"], made["matches"]) == (None, "webhook.test", None)
    assert json.loads(made["body"])["test"] is True


async def test_what_is_wrong_is_told_at_its_field(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db)
    theirs = add_event(db, company_id="2")
    client = api.client(make_token(db, "admin"))
    for wish, pointer in (
        ({"filter": "$.a"}, "/filter"),
        ({"payload_format": "xml"}, "/payload_format"),
        ({"payload_format": "template"}, "/payload_template"),
        ({"payload_template": '{"a": "{{ x() }}"}'}, "/payload_template"),
        ({"event_id": theirs}, "/event_id"),
    ):
        refused = await client.post(f"/webhooks/{webhook}/preview", json=wish)
        assert refused.status == 422, (wish, refused.body)
        assert [fault["pointer"] for fault in refused.faults] == [pointer]
    changes = {"payload_template": '{"a": "{{ x() }}"}'}, {"filter": "$.a"}, {"payload_format": "template"}
    for change in changes:
        assert (await client.patch(f"/webhooks/{webhook}", 1, json=change)).status == 422


async def test_another_tenants_webhook_and_events_cannot_be_previewed(api: Api, db: psycopg.Connection):
    ours, theirs = add_webhook(db, "1"), add_webhook(db, "2")
    event = add_event(db, company_id="2", body=body("urgent"))
    client = api.client(make_token(db, "tenant", "1"))
    assert (await client.post(f"/webhooks/{theirs}/preview")).status == 404
    assert (await client.post(f"/webhooks/{ours}/preview", json={"event_id": event})).status == 422


async def test_a_template_which_may_hold_keys_is_shown_to_no_reader(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db, payload_format="template", payload_template=SECRETIVE)
    add_event(db)
    (lease,) = expand(db, sign_on(db)).leases
    token = make_token(db, "reader")
    reader, browser = api.client(token), Browser(api, token)
    for answer in (
        await reader.get(f"/webhooks/{webhook}"),
        await reader.post(f"/webhooks/{webhook}/preview"),
        await reader.post(f"/webhooks/{webhook}/preview", json={"payload_format": "template"}),
    ):
        assert "R0UTE" not in json.dumps(answer.body)
    assert (await reader.get(f"/webhooks/{webhook}")).body["payload_template"] == "***"
    page = await browser.get(f"/deliveries/{lease.delivery_id}")
    assert page.status == 200
    assert "R0UTE" not in page.text and "Body that is sent" not in page.words
    admin = api.client(make_token(db, "admin"))
    made = (await admin.post(f"/webhooks/{webhook}/preview")).body
    assert json.loads(made["body"]) == {"routing_key": "R0UTE", "text": "callback.created of 7"}


async def test_the_page_makes_tries_and_shows_them(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db)
    add_event(db, body=body("low"))
    (lease,) = expand(db, sign_on(db)).leases
    browser = Browser(api, make_token(db, "admin"))

    form = await browser.get(f"/webhooks/{webhook}/preview")
    tried = await browser.press(form, payload_format="slack", filter=URGENT)
    assert tried.status == 200
    assert "leaves out this event" in tried.words and "Callback created: 7" in tried.text
    refused = await browser.press(form, payload_format="template", payload_template='{"a": "{{ x() }}"}')
    assert refused.status == 422 and "a call is not understood" in refused.words

    form = await browser.get(f"/webhooks/{webhook}/change")
    await browser.press(form, payload_format="template", payload_template=SECRETIVE, filter=URGENT)
    kept = db.execute("select payload_format, payload_template, filter from pgrelay.webhook_configurations")
    assert kept.fetchone() == ("template", SECRETIVE, URGENT)
    page = await browser.get(f"/deliveries/{lease.delivery_id}")
    assert "R0UTE" in page.text and "The event’s body" in page.words
