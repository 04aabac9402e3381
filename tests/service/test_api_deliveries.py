"""Deliveries, attempts, replay, events and figures over the REST API."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import jsonschema
import psycopg
import pytest

from docs.world import watch_sample
from pgrelay.observation import Delivered
from support.api import Api, Client, make_token, serving_api
from support.daemon import daemon
from support.database import Database
from support.factories import emit
from support.queue import add_event, add_webhook, expand, failed, record, retried, sign_on, succeeded, value
from support.receiver import Receiver


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with serving_api(database.dsn) as made:
        yield made


@pytest.fixture
def admin(api: Api, db: psycopg.Connection) -> Client:
    return api.client(make_token(db, "admin"))


async def ids(client: Client, path: str) -> list[int]:
    answer = await client.get(path)
    assert answer.status == 200, answer.body
    return [item["id"] for item in answer.body["items"]]


async def test_deliveries_are_found_by_every_filter_there_is(admin: Client, db: psycopg.Connection):
    one, two = add_webhook(db, "1", ["callback.*"]), add_webhook(db, "2", ["*"])
    first = add_event(db, "callback.created", "1", resource_id="7")
    second = add_event(db, "order.paid", "2", resource_id="8")
    number = sign_on(db)
    by_webhook = {lease.webhook_id: lease for lease in expand(db, number).leases}
    assert record(db, number, failed(by_webhook[one]), succeeded(by_webhook[two])) == []
    mine, theirs = [by_webhook[one].delivery_id], [by_webhook[two].delivery_id]
    for query, found in {
        "": sorted(mine + theirs, reverse=True),
        f"webhook_id={one}": mine,
        "status=failed": mine,
        "status=pending": [],
        "event_type=callback.*": mine,
        "event_type=order.paid": theirs,
        f"event_id={second}": theirs,
        "resource_id=7": mine,
        "company_id=2": theirs,
        "since=2020-01-01T00:00:00Z": sorted(mine + theirs, reverse=True),
        "until=2020-01-01T00:00:00%2B02:00": [],
        f"webhook_id={one}&status=succeeded": [],
    }.items():
        assert await ids(admin, f"/deliveries?{query}") == found, query
    shown = (await admin.get(f"/deliveries/{mine[0]}")).body
    assert (shown["event_id"], shown["status"], shown["event_type"]) == (first, "failed", "callback.created")


async def test_pages_of_deliveries_and_attempts_do_not_move_while_more_come(
    admin: Client, db: psycopg.Connection
):
    webhook = add_webhook(db)
    number = sign_on(db)
    for _ in range(7):
        add_event(db)
    assert record(db, number, *map(succeeded, expand(db, number).leases)) == []
    for path in ("/deliveries", f"/webhooks/{webhook}/attempts"):
        first = (await admin.get(f"{path}?limit=3")).body
        add_event(db)
        assert record(db, number, *map(succeeded, expand(db, number).leases)) == []
        second = (await admin.get(f"{path}?limit=3&cursor={first['next_cursor']}")).body
        third = (await admin.get(f"{path}?limit=3&cursor={second['next_cursor']}")).body
        seen = [item["id"] for page in (first, second, third) for item in page["items"]]
        assert seen == sorted(seen, reverse=True)
        assert (len(set(seen)), third["next_cursor"]) == (7 if path == "/deliveries" else 8, None)
    for cursor in ("x", "WzJd", "W10", quote('["a",1]')):
        refused = await admin.get(f"/webhooks/{webhook}/attempts?cursor={cursor}")
        assert (refused.status, refused.faults[0]["parameter"]) == (422, "cursor")


async def test_a_delivery_is_retried_and_cancelled_where_it_can_be(admin: Client, db: psycopg.Connection):
    add_webhook(db)
    add_event(db)
    number = sign_on(db)
    (lease,) = expand(db, number).leases
    path = f"/deliveries/{lease.delivery_id}"
    refused = await admin.post(f"{path}/cancel")
    assert (refused.status, refused.body["detail"]) == (
        409,
        f"delivery {lease.delivery_id} cannot be cancelled: it is in_flight",
    )
    record(db, number, retried(lease, retry_in=60.0))
    assert (await admin.post(f"{path}/cancel")).body["status"] == "cancelled"
    retried_now = await admin.post(f"{path}/retry")
    assert (retried_now.body["status"], retried_now.body["attempts"]) == ("pending", 0)
    attempts = (await admin.get(f"{path}/attempts")).body["items"]
    assert [(one["attempt"], one["delivery_id"]) for one in attempts] == [(1, lease.delivery_id)]
    db.execute("update pgrelay.webhook_configurations set is_active = false")
    refused = await admin.post(f"{path}/retry")
    assert (refused.status, "deleted or inactive" in refused.body["detail"]) == (409, True)


async def test_a_replay_is_counted_first_and_done_once_for_each_key(admin: Client, db: psycopg.Connection):
    webhook = add_webhook(db)
    for _ in range(3):
        add_event(db)
    path, since = f"/webhooks/{webhook}/replay", (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    counted = await admin.post(path, json={"since": since, "dry_run": True})
    assert (counted.status, counted.body["deliveries"], counted.body["replay_id"]) == (202, 3, None)
    assert counted.body["preview"]["event_types"] == {"callback.created": 3}
    assert value(db, "select count(*) from pgrelay.deliveries") == 0
    for _ in range(2):
        done = await admin.post(path, json={"since": since}, headers={"Idempotency-Key": "once"})
        assert done.body == {"deliveries": 3, "dry_run": False, "replay_id": 1, "preview": None}
        assert done.headers["Location"] == "/api/v1/replays/1"
    assert value(db, "select count(*) from pgrelay.deliveries") == 3
    for body, pointer in (
        ({}, "/since"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "2026-01-01T00:00:00"}, "/since"),
        ({"since": since, "until": "2020-01-01T00:00:00Z"}, "/since"),
        ({"since": "0001-01-01T00:00:00+23:59"}, "/since"),
    ):
        refused = await admin.post(path, json=body)
        assert (refused.status, [fault.get("pointer") for fault in refused.faults]) == (422, [pointer]), body


async def test_a_replay_is_watched_stopped_and_resumed_by_whose_webhook_it_is(
    api: Api, admin: Client, db: psycopg.Connection
):
    webhook = add_webhook(db, "1", rate_limit_per_second=1)
    for kind in ("order.paid", "order.paid", "order.made", "order.made"):
        add_event(db, kind)
    mine, other = api.client(make_token(db, "tenant", "1")), api.client(make_token(db, "tenant", "2"))
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    body = {"since": since, "event_types": ["order.made"]}
    begun = await mine.post(f"/webhooks/{webhook}/replay", json=body)
    path = f"/replays/{begun.body['replay_id']}"
    shown = (await mine.get(path)).body
    assert (shown["events"], shown["queued"], shown["status"]) == (2, 1, "running")
    assert shown["created_by"].startswith("API token")
    (delivery,) = (await mine.get(f"/deliveries?replay_id={shown['id']}")).body["items"]
    assert (delivery["replay_id"], delivery["event_type"]) == (shown["id"], "order.made")
    for verb, status in (("stop", "stopped"), ("resume", "running")):
        assert (await other.post(f"{path}/{verb}")).status == 404
        assert (await mine.post(f"{path}/{verb}")).body["status"] == status
        assert (await mine.post(f"{path}/{verb}")).status == 409
    assert (await other.get(path)).status == 404
    assert (await other.get("/replays")).body["items"] == []
    assert (await other.post(f"/webhooks/{webhook}/replay", json=body)).status == 404
    assert await ids(admin, "/replays?status=running") == [shown["id"]]
    assert await ids(admin, f"/replays?status=done&webhook_id={webhook}") == []
    assert [one["id"] for one in (await mine.get("/replays?limit=1")).body["items"]] == [shown["id"]]


async def test_events_are_listed_without_and_read_with_the_text_that_is_sent(
    admin: Client, db: psycopg.Connection
):
    first, second = add_event(db, body='{"a":  1.10}'), add_event(db, "order.paid", "2")
    assert await ids(admin, "/events") == [second, first]
    assert await ids(admin, "/events?event_type=callback.*&company_id=1&resource_id=7") == [first]
    assert await ids(admin, "/events?event_type=callback.*&company_id=2") == []
    listed = (await admin.get("/events")).body["items"]
    assert "body" not in listed[0]
    assert (await admin.get(f"/events/{first}")).body["body"] == '{"a":  1.10}'


async def test_real_bodies_are_what_the_schemas_of_their_event_types_say(app: Database):
    with app.connect() as db:
        watch_sample(db)
        add_webhook(db, "1")
        db.execute(
            "insert into callback_requests (company_id, branch_id, service_id, customer_name, customer_phone, expires_at)"
            " values (1, 1, 1, 'Ada', '1', now() + interval '1 hour')"
        )
        db.execute("update callback_requests set status = 'contacted', contacted_at = now()")
        db.execute("update callback_requests set status = 'completed', completed_at = now()")
        bodies = db.execute("select event_type, body::json from pgrelay.outbox").fetchall()
        async with serving_api(app.dsn) as api:
            items = (await api.client(make_token(db, "tenant", "1")).get("/event-types")).body["items"]
    types = {item["event_type"]: item for item in items}
    assert {"callback.created", "callback.escalated", "callback.overdue", "webhook.test"} <= set(types)
    assert types["callback.overdue"]["deadline"] == "expires_at"
    for item in items:
        jsonschema.Draft202012Validator.check_schema(item["schema"])
        jsonschema.validate(item["example"], item["schema"])
    assert {event_type for event_type, _ in bodies} == {
        "callback.created",
        "callback.contacted",
        "callback.completed",
    }
    for event_type, body in bodies:
        jsonschema.validate(body, types[event_type]["schema"])
        sent, described = (
            body["data"]["callback_request"],
            types[event_type]["example"]["data"]["callback_request"],
        )
        assert set(sent) == set(described)


async def test_a_webhook_made_over_http_gets_its_test_event(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    token = make_token(db, "tenant", "1")
    async with daemon(database.dsn) as one, serving_api(database.dsn) as api:
        tenant = api.client(token)
        made = await tenant.post(
            "/webhooks", json={"name": "mine", "url": receiver.url(), "subscribed_events": ["order.*"]}
        )
        sent = await tenant.post(f"/webhooks/{made.body['id']}/test")
        await one.seen(Delivered)
        (delivery,) = (await tenant.get(f"/deliveries?event_id={sent.body['event_id']}")).body["items"]
        assert (delivery["status"], delivery["last_status_code"]) == ("succeeded", 200)
        emit(db)
        await one.seen(Delivered, 2)
        (attempt, _) = (await tenant.get(f"/webhooks/{made.body['id']}/attempts")).body["items"]
        assert (attempt["status_code"], attempt["error_kind"]) == (200, None)
        figures = (await tenant.get(f"/webhooks/{made.body['id']}/stats")).body
        assert (figures["successful_deliveries"], figures["success_rate"]) == (2, 100.0)
        assert (await tenant.get("/stats")).body["attempts"] == 2
        minutes = (await tenant.get(f"/webhooks/{made.body['id']}/metrics")).body["items"]
        assert sum(minute["attempts"] for minute in minutes) == 2


async def test_figures_of_more_than_a_day_by_minute_are_refused(admin: Client, db: psycopg.Connection):
    path = f"/webhooks/{add_webhook(db)}/metrics"
    refused = await admin.get(f"{path}?since=2020-01-01T00:00:00Z")
    assert (refused.status, refused.faults[0]["parameter"]) == (422, "since")
    assert (await admin.get(f"{path}?until=0001-01-01T00:00:00Z")).status == 422
