"""Webhooks over the REST API, on a real Postgres and real sockets."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator

import psycopg
import pytest

from pgrelay.db import admin_events
from pgrelay.observation import ApiChanged, ApiFailed
from pgrelay.sealing import Kept, Keyring
from support.api import Api, Client, make_token, serving_api
from support.database import Database
from support.queue import add_webhook, value

KEY = base64.b64encode(bytes(range(32))).decode()
NEW = {"name": "CRM", "url": "https://example.com/hooks", "subscribed_events": ["callback.*"]}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with serving_api(database.dsn) as made:
        yield made


@pytest.fixture
def admin(api: Api, db: psycopg.Connection) -> Client:
    return api.client(make_token(db, "admin"))


async def test_a_webhook_is_made_read_changed_and_deleted(api: Api, admin: Client, db: psycopg.Connection):
    made = await admin.post("/webhooks", json={"company_id": "42", "headers": {"X-Key": "s3cret"}, **NEW})
    assert (made.status, made.headers["ETag"]) == (201, '"1"')
    assert made.headers["Location"] == f"/api/v1/webhooks/{made.body['id']}"
    secret = made.body.pop("secret_key")
    assert secret == value(db, "select secret_key from pgrelay.webhook_configurations")
    assert made.body["headers"] == {"X-Key": "***"}
    assert (made.body["timeout_seconds"], made.body["max_retry_attempts"]) == (10, 3)
    assert made.body["created_by"] == "API token a test"
    path = f"/webhooks/{made.body['id']}"
    assert (await admin.get(path)).body == made.body

    changed = await admin.patch(path, 1, json={"paused": True, "headers": {"X-Key": None, "X-Other": "1"}})
    assert changed.status == 200
    assert changed.body["paused"] is True
    assert changed.body["headers"] == {"X-Other": "***"}
    assert changed.headers["ETag"] == f'"{changed.body["version"]}"' != '"1"'

    assert (await admin.delete(path, changed.body["version"])).status == 204
    assert (await admin.get(path)).status == 404
    told = [(one.operation, one.caller) for one in api.observed if isinstance(one, ApiChanged)]
    assert told == [("create_webhook", "a test"), ("change_webhook", "a test"), ("delete_webhook", "a test")]


async def test_a_change_must_say_of_which_version_and_loses_to_one_that_came_before(
    admin: Client, db: psycopg.Connection
):
    path = f"/webhooks/{add_webhook(db)}"
    for verb in (admin.patch(path, json={"name": "x"}), admin.delete(path)):
        refused = await verb
        assert (refused.status, refused.faults[0]["header"]) == (428, "If-Match")
    at_once = await asyncio.gather(*(admin.patch(path, 1, json={"name": name}) for name in "abc"))
    assert sorted(answer.status for answer in at_once) == [200, 412, 412]
    refused = await admin.delete(path, 1)
    assert (refused.status, refused.headers["ETag"]) == (412, '"2"')
    assert (await admin.patch(path, headers={"If-Match": 'W/"2"'}, json={"name": "x"})).status == 412
    assert (await admin.patch(path, headers={"If-Match": '"7", "2"'}, json={"name": "x"})).status == 200
    assert (await admin.post(f"{path}/enable", headers={"If-Match": '"2"'})).status == 412
    assert (await admin.patch(path, headers={"If-Match": "*"}, json={"name": "y"})).status == 200


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("/url", {"url": "ftp://example.com"}),
        ("/url", {"url": "https://user:password@example.com/"}),
        ("/url", {"url": 7}),
        ("/name", {"name": " "}),
        ("/name", {"name": "a\x00b"}),
        ("/name", {"name": "x" * 201}),
        ("/subscribed_events", {"subscribed_events": []}),
        ("/subscribed_events/1", {"subscribed_events": ["a.b", "call*"]}),
        ("/timeout_seconds", {"timeout_seconds": 121}),
        ("/max_retry_attempts", {"max_retry_attempts": 1.5}),
        ("/retry_schedule/0", {"retry_schedule": [-1]}),
        ("/headers/X-Key", {"headers": {"X-Key": "a\nb"}}),
        ("/headers", {"headers": {"Content-Length": "3"}}),
        ("/secret_key", {"secret_key": "whsec_short"}),
        ("/company_id", {"company_id": ""}),
        ("/colour", {"colour": "red"}),
    ],
)
async def test_a_field_that_is_wrong_is_named(admin: Client, field: str, bad: dict):
    refused = await admin.post("/webhooks", json={"company_id": "42", **NEW, **bad})
    assert refused.status == 422
    assert [fault["pointer"] for fault in refused.faults] == [field], refused.body
    assert "whsec_" not in str(refused.body) or "base64" in str(refused.body)


async def test_all_fields_that_are_missing_are_named_at_once(admin: Client):
    refused = await admin.post("/webhooks", json={"name": ""})
    assert {fault["pointer"] for fault in refused.faults} >= {"/name", "/url", "/subscribed_events"}
    refused = await admin.post("/webhooks", json=NEW)
    assert refused.faults == [{"pointer": "/company_id", "detail": "it is missing: whose webhook is it?"}]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b'{"name": NaN}', "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b'{"name": "a", "name": "b"}', "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b"\xff", "headers": {"Content-Type": "application/json"}}, 400),
        ({"data": b'{"name": "\\ud800"}', "headers": {"Content-Type": "application/json"}}, 422),
        ({"data": b"[]", "headers": {"Content-Type": "application/json"}}, 422),
        ({"data": b"a=b"}, 415),
        ({"data": b" " * 300_000, "headers": {"Content-Type": "application/json"}}, 413),
    ],
)
async def test_a_body_that_is_no_usable_json_is_a_problem_and_never_a_fault_of_ours(
    admin: Client, options: dict, status: int
):
    refused = await admin.post("/webhooks", **options)
    assert refused.status == status
    assert refused.faults is not None


async def test_a_creation_that_is_repeated_with_its_key_is_done_once(admin: Client, db: psycopg.Connection):
    new = {"company_id": "42", **NEW}
    key = {"Idempotency-Key": "first"}
    answers = await asyncio.gather(*(admin.post("/webhooks", json=new, headers=key) for _ in range(4)))
    assert {answer.status for answer in answers} == {201}
    assert len({(answer.body["id"], answer.body["secret_key"]) for answer in answers}) == 1
    assert value(db, "select count(*) from pgrelay.webhook_configurations") == 1
    other = await admin.post("/webhooks", json={**new, "name": "another"}, headers=key)
    assert (other.status, other.faults[0]["header"]) == (422, "Idempotency-Key")
    assert value(db, "select answer from pgrelay.idempotency_keys") == {"webhook_id": answers[0].body["id"]}
    refused = await admin.post("/webhooks", json={"company_id": "42"}, headers={"Idempotency-Key": "second"})
    assert refused.status == 422
    made = await admin.post("/webhooks", json=new, headers={"Idempotency-Key": "second"})
    assert made.status == 201, "a key is not used up by a request that was refused"


async def test_lists_come_in_pages_that_neither_lack_nor_repeat_anything(
    admin: Client, db: psycopg.Connection
):
    ids = [add_webhook(db, company) for company in "1221221"]
    found: list[int] = []
    cursor = ""
    while True:
        answer = await admin.get(f"/webhooks?limit=3{cursor}")
        found += [one["id"] for one in answer.body["items"]]
        if answer.body["next_cursor"] is None:
            break
        add_webhook(db, "3")  # what is made meanwhile comes last
        cursor = f"&cursor={answer.body['next_cursor']}"
    assert found[: len(ids)] == ids
    assert len(set(found)) == len(found)
    ours = await admin.get("/webhooks?company_id=1")
    assert [one["company_id"] for one in ours.body["items"]] == ["1"] * 3
    for query, name in [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=%21", "cursor"),
        ("colour=1", "colour"),
        ("limit=1&limit=2", "limit"),
    ]:
        refused = await admin.get(f"/webhooks?{query}")
        assert (refused.status, [fault["parameter"] for fault in refused.faults]) == (422, [name])


async def test_webhooks_are_found_by_a_part_of_their_name_and_by_their_state(
    api: Api, db: psycopg.Connection
):
    well = add_webhook(db, name="Orders to CRM")
    ill = add_webhook(db, name="orders 100%")
    paused = add_webhook(db, name="Invoices", paused=True)
    theirs = add_webhook(db, "2", name="Their orders")
    off = add_webhook(db, name="Old", is_active=False)
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, failing_since) values (%s, 3, 0, now())",
        (ill,),
    )
    for role, company, others in (("admin", None, [theirs]), ("reader", None, [theirs]), ("tenant", "1", [])):
        client = api.client(make_token(db, role, company))
        for query, found in (
            ("name=ORDERS", [well, ill, *others]),
            ("name=100%25", [ill]),
            ("name=_", []),
            ("state=failing", [ill]),
            ("state=healthy", [well, *others]),
            ("state=paused", [paused]),
            ("state=inactive", [off]),
            ("state=circuit%20open", []),
            ("state=healthy&name=crm", [well]),
            ("state=healthy&company_id=2", others),
        ):
            answer = await client.get(f"/webhooks?{query}")
            assert [one["id"] for one in answer.body["items"]] == found, (role, query, answer.body)
        states = {
            one["id"]: one["state"] for one in (await client.get("/webhooks?company_id=1")).body["items"]
        }
        assert states == {well: "healthy", ill: "failing", paused: "paused", off: "inactive"}
        assert (await client.get(f"/webhooks/{ill}")).body["state"] == "failing"
    refused = await client.get("/webhooks?state=ill")
    assert (refused.status, [fault["parameter"] for fault in refused.faults]) == (422, ["state"])


async def test_a_secret_is_shown_once_and_rotation_shows_a_new_one(admin: Client, db: psycopg.Connection):
    path = f"/webhooks/{add_webhook(db)}"
    shown = await admin.post(f"{path}/reveal-secret")
    assert shown.body["secret_key"] == value(db, "select secret_key from pgrelay.webhook_configurations")
    again = await admin.post(f"{path}/reveal-secret")
    assert (again.status, again.faults) == (409, [])
    rotated = await admin.post(f"{path}/rotate-secret", json={"overlap_seconds": 60})
    assert rotated.body["secret_key"] == value(db, "select secret_key from pgrelay.webhook_configurations")
    assert rotated.body["secret_key"] != shown.body["secret_key"]
    assert (
        value(db, "select previous_secret_key from pgrelay.webhook_configurations")
        == shown.body["secret_key"]
    )
    assert (await admin.post(f"{path}/reveal-secret")).status == 409
    twice = await admin.post(f"{path}/rotate-secret")
    assert (twice.status, "was rotated already" in twice.body["detail"]) == (409, True)
    ended = await admin.post(f"{path}/end-overlap")
    assert (ended.status, ended.body["previous_secret_expires_at"]) == (200, None)
    none = await admin.post(f"{path}/end-overlap")
    assert (none.status, "no old secret" in none.body["detail"]) == (409, True)
    assert (await admin.post(f"{path}/rotate-secret", json={"overlap_seconds": 0})).status == 200
    db.execute("update pgrelay.webhook_configurations set secret_key = pgrelay.generate_secret()")
    assert (await admin.post(f"{path}/reveal-secret")).status == 200, (
        "an operator's new secret was shown to nobody"
    )


async def test_a_test_event_goes_to_active_webhooks_alone(admin: Client, db: psycopg.Connection):
    path = f"/webhooks/{add_webhook(db)}"
    sent = await admin.post(f"{path}/test")
    assert sent.status == 202
    assert (
        value(db, "select event_type from pgrelay.outbox where id = %s", sent.body["event_id"])
        == "webhook.test"
    )
    disabled = await admin.post(f"{path}/disable")
    assert (disabled.body["is_active"], disabled.body["state"]) == (False, "inactive")
    refused = await admin.post(f"{path}/test")
    assert refused.status == 409
    assert "is inactive" in refused.body["detail"]
    assert (await admin.post(f"{path}/enable")).body["is_active"] is True


async def test_a_key_whose_webhook_was_deleted_since_makes_no_second_one(
    admin: Client, db: psycopg.Connection
):
    new, key = {"company_id": "42", **NEW}, {"Idempotency-Key": "once"}
    made = await admin.post("/webhooks", json=new, headers=key)
    assert (await admin.delete(f"/webhooks/{made.body['id']}", 1)).status == 204
    refused = await admin.post("/webhooks", json=new, headers=key)
    assert (refused.status, "was deleted since" in refused.body["detail"]) == (409, True)
    db.execute("update pgrelay.idempotency_keys set created_at = now() - interval '25 hours'")
    assert (await admin.post("/webhooks", json=new, headers=key)).status == 201, "a key is good for a day"
    bad = await admin.post("/webhooks", json=new, headers={"Idempotency-Key": "x" * 256})
    assert (bad.status, bad.faults[0]["header"]) == (422, "Idempotency-Key")


async def test_a_fault_of_ours_tells_the_log_and_not_the_caller(
    api: Api, admin: Client, monkeypatch: pytest.MonkeyPatch
):
    async def fail(*_: object) -> None:
        raise RuntimeError("something internal")

    monkeypatch.setattr(admin_events, "stats_of_all", fail)
    refused = await admin.get("/stats")
    assert (refused.status, refused.faults) == (500, [])
    assert "internal" not in refused.body["detail"]
    (told,) = (one for one in api.observed if isinstance(one, ApiFailed))
    assert (told.path, told.reason) == ("/api/v1/stats", "RuntimeError: something internal")
    assert (await admin.get("/webhooks")).status == 200, "and its connection is fit for use"


async def test_where_secrets_are_sealed_the_api_shows_them_all_the_same(
    database: Database, db: psycopg.Connection
):
    token = make_token(db, "tenant", "1")
    kept = "select secret_key from pgrelay.webhook_configurations where id = %s"
    async with serving_api(database.dsn, KEY) as api:
        tenant = api.client(token)
        made = await tenant.post("/webhooks", json={**NEW, "headers": {"X-Key": "v"}})
        assert made.status == 201, made.body
        assert made.body["secret_key"].startswith("whsec_")
        assert value(db, kept, made.body["id"]).startswith("sealed:")
        path = f"/webhooks/{made.body['id']}"
        assert (await tenant.get(path)).body["headers"] == {"X-Key": "***"}
        assert (await tenant.post(f"{path}/reveal-secret")).status == 409
        rotated = await tenant.post(f"{path}/rotate-secret")
        assert rotated.body["secret_key"] not in (None, made.body["secret_key"])
        assert value(db, kept, made.body["id"]).startswith("sealed:")
    db.execute("select pgrelay.seal_with('a key')")
    async with serving_api(database.dsn) as api:
        tenant = api.client(token)
        awaited = await tenant.post("/webhooks", json=NEW)
        assert (awaited.status, awaited.body["secret_key"], awaited.body["secret_revealed_at"]) == (
            201,
            None,
            None,
        )
        refused = await tenant.post(f"/webhooks/{awaited.body['id']}/reveal-secret")
        assert (refused.status, "no secret yet" in refused.body["detail"]) == (409, True)
    sealed = Keyring(KEY).seal(Kept(None, None, None), awaited.body["id"], os.urandom).secret_key
    db.execute(
        "update pgrelay.webhook_configurations set secret_key = %s where id = %s",
        (sealed, awaited.body["id"]),
    )
    async with serving_api(database.dsn, KEY) as api:
        shown = await api.client(token).post(f"/webhooks/{awaited.body['id']}/reveal-secret")
        assert shown.body["secret_key"].startswith("whsec_"), shown.body


async def test_a_reader_sees_urls_without_their_tokens(api: Api, admin: Client, db: psycopg.Connection):
    path = f"/webhooks/{add_webhook(db, url='https://example.com/hook?token=T0p5ecret')}"
    assert (await admin.get(path)).body["url"] == "https://example.com/hook?token=T0p5ecret"
    reader = api.client(make_token(db, "reader"))
    assert (await reader.get(path)).body["url"] == "https://example.com/hook?token=***"
    assert (await reader.get("/webhooks")).body["items"][0]["url"] == "https://example.com/hook?token=***"
