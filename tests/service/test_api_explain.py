"""The doctor of one webhook over the REST API: a test request past the queue, and what each step of it tells."""

import asyncio
import hashlib
import hmac

import jsonschema
import psycopg
import pytest

from pgrelay.api import openapi
from pgrelay.observation import ApiChanged
from support.api import Api, Client, Reply, make_token
from support.queue import add_webhook, value
from support.receiver import Exchange, Receiver, after, status

_OPEN_TRANSACTIONS = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and pid <> pg_backend_pid() and xact_start is not null"
)


async def explain(client: Client, webhook: int) -> Reply:
    """What a test request tells; as the document says, if it was made at all."""
    reply = await client.post(f"/webhooks/{webhook}/explain")
    if reply.status == 200:
        schema = {"$ref": "#/components/schemas/Explained", "components": openapi.document()["components"]}
        jsonschema.Draft202012Validator(schema).validate(reply.body)
    return reply


def said(reply: Reply) -> dict[str, tuple[str, str]]:
    """The level and the message of each finding, by its subject."""
    return {one["subject"]: (one["level"], one["message"]) for one in reply.body["findings"]}


@pytest.fixture
def tenant(api: Api, db: psycopg.Connection) -> Client:
    return api.client(make_token(db, "tenant", "1"))


async def test_a_tenant_is_told_each_step_and_nothing_is_held_or_recorded_meanwhile(
    api: Api, db: psycopg.Connection, receiver: Receiver, tenant: Client
):
    held: list[int] = []

    async def look_and_refuse(exchange: Exchange) -> None:
        held.append(value(db, _OPEN_TRANSACTIONS))
        await exchange.answer(401, b"who are you?")

    receiver.on("/hook", look_and_refuse)
    webhook = add_webhook(db, url=receiver.url("/hook"), paused=True)
    told = await explain(tenant, webhook)
    assert (told.status, told.body["id"], told.body["ok"]) == (200, webhook, False)
    assert (told.body["status_code"], told.body["response_body"]) == (401, "who are you?")
    assert told.body["addresses"] == [{"address": "127.0.0.1", "refused": None}]
    assert said(told)["webhook"] == ("warning", "it is paused: nothing else is sent to it")
    assert said(told)["answer"] == ("error", "HTTP 401: who are you?")

    (request,) = await receiver.wait_for(1)
    secret = value(db, "select secret_key from pgrelay.webhook_configurations")
    made = f"sha256={hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()}"
    assert told.body["signature"]["classic"] == request.header("X-Webhook-Signature") == made
    assert secret not in str(told.body)
    assert held == [0], "no transaction is open while the receiver thinks"
    assert value(db, "select count(*) from pgrelay.outbox") == 0
    assert [one.operation for one in api.observed if isinstance(one, ApiChanged)] == ["explain_webhook"]

    receiver.on("/hook", status(204))
    assert (await explain(tenant, webhook)).body["ok"] is True


async def test_what_may_not_be_called_is_not_and_says_so(db: psycopg.Connection, tenant: Client):
    told = await explain(tenant, add_webhook(db, url="https://10.0.0.1/"))
    assert (told.status, told.body["ok"], told.body["error_kind"]) == (200, False, "blocked_address")
    level, message = said(told)["url"]
    assert level == "error" and "private 10.0.0.0/8" in message


async def test_who_may_not_change_or_see_it_is_told_so_and_makes_no_request(
    api: Api, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    for role, company, refused in (("reader", None, 403), ("tenant", "2", 404)):
        reply = await explain(api.client(make_token(db, role, company)), webhook)
        assert (reply.status, reply.faults) == (refused, [])
    assert receiver.seen == []


async def test_a_webhook_without_a_secret_yet_cannot_be_tried_out(db: psycopg.Connection, tenant: Client):
    db.execute("select pgrelay.seal_with('k1')")
    reply = await explain(tenant, add_webhook(db))
    assert (reply.status, reply.faults, "has no secret yet" in reply.body["detail"]) == (409, [], True)


async def test_more_than_four_at_a_time_are_told_to_come_back(
    db: psycopg.Connection, receiver: Receiver, tenant: Client
):
    let_go = asyncio.Event()
    receiver.otherwise(after(let_go))
    webhook = add_webhook(db, url=receiver.url("/hook"))
    under_way = [asyncio.create_task(explain(tenant, webhook)) for _ in range(4)]
    await receiver.wait_for(4)
    async with asyncio.timeout(30):  # it is refused, and does not wait for a place
        refused = await explain(tenant, webhook)
    assert (refused.status, refused.faults, refused.headers["Retry-After"]) == (503, [], "10")
    let_go.set()
    assert {reply.status for reply in await asyncio.gather(*under_way)} == {200}
    assert (await explain(tenant, webhook)).status == 200
