"""What goes over the wire, byte for byte, and what is kept of it."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import re
from datetime import datetime

import psycopg
import pytest
import standardwebhooks

from pgrelay import __version__, logs
from pgrelay.observation import Delivered, DeliveryFailed
from support.daemon import daemon
from support.database import Database
from support.factories import SECRET, emit, request_a_callback, watch_callbacks
from support.queue import add_webhook, value
from support.receiver import Exchange, Receiver, Seen, in_turn, ok, status

NEW_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def by_hand(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_by_hand(secret: str, request: Seen) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{request.header('webhook-id')}.{request.header('webhook-timestamp')}.".encode() + request.body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def test_a_request_is_what_receivers_are_promised(app: Database, receiver: Receiver):
    with app.connect() as db:
        watch_callbacks(db)
        add_webhook(db, url=receiver.url("/hook?token=1"), secret_key=SECRET)
        async with daemon(app.dsn) as one:
            row_id = request_a_callback(db, "Zoë")
            await one.seen(Delivered)
        (request,) = receiver.seen
        kept = db.execute("select body, idempotency_key, occurred_at from pgrelay.outbox").fetchone()
        row = value(db, "select row_to_json(c)::text from callback_requests c")
    assert kept is not None
    assert (request.method, request.target) == ("POST", "/hook?token=1")
    assert request.body.decode() == kept[0]

    body = json.loads(request.body)
    assert list(body) == ["event", "idempotency_key", "timestamp", "data"]
    assert body["event"] == "callback.created"
    assert body["idempotency_key"] == kept[1]
    assert re.fullmatch(rf"callback_{row_id}_created_\d+", kept[1])
    timestamp = datetime.fromisoformat(body["timestamp"])
    assert timestamp.tzinfo is not None and timestamp == kept[2]
    assert body["data"] == {"callback_request": json.loads(row)}

    assert request.header("Content-Type") == "application/json"
    assert request.header("User-Agent") == f"pgrelay/{__version__}"
    assert request.header("X-Webhook-Event") == "callback.created"
    assert request.header("X-Webhook-Idempotency-Key") == kept[1]
    assert request.header("X-Webhook-Delivery-Attempt") == "1"
    assert request.header("X-Webhook-Signature") == by_hand(SECRET, request.body)
    assert request.header("webhook-id") == kept[1]
    assert request.header("webhook-signature") == standard_by_hand(SECRET, request)
    standardwebhooks.Webhook(SECRET).verify(request.body, dict(request.headers))


async def test_the_same_bytes_under_the_same_id_go_out_on_every_attempt(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), secret_key=SECRET)
    receiver.on("/hook", in_turn(status(500), status(404), ok()))
    async with daemon(database.dsn, {"delivery.retry_schedule": (1.1, 0.0)}) as one:
        emit(db)
        await one.seen(Delivered)
    first, second, third = receiver.seen
    assert first.body == second.body == third.body
    assert {seen.header("webhook-id") for seen in receiver.seen} == {
        first.header("X-Webhook-Idempotency-Key")
    }
    assert [seen.header("X-Webhook-Delivery-Attempt") for seen in receiver.seen] == ["1", "2", "3"]
    stamps = [int(seen.header("webhook-timestamp") or 0) for seen in receiver.seen]
    assert stamps[0] < stamps[1], "the timestamp is the attempt's"
    for seen in receiver.seen:
        standardwebhooks.Webhook(SECRET).verify(seen.body, dict(seen.headers))


async def test_during_a_rotation_both_secrets_sign_and_afterwards_only_the_new_one(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"), secret_key=SECRET)
    async with daemon(database.dsn) as one:
        new = value(db, "select pgrelay.rotate_secret(%s, interval '1 hour')", webhook)
        emit(db)
        await one.seen(Delivered, 1)
        db.execute(
            "update pgrelay.webhook_configurations set previous_secret_expires_at = now() - interval '1 second'"
        )
        emit(db)
        await one.seen(Delivered, 2)
    during, afterwards = receiver.seen
    for secret in (new, SECRET):
        standardwebhooks.Webhook(secret).verify(during.body, dict(during.headers))
    assert during.header("webhook-signature") == (
        f"{standard_by_hand(new, during)} {standard_by_hand(SECRET, during)}"
    )
    assert during.header("X-Webhook-Signature") == by_hand(new, during.body)
    assert afterwards.header("webhook-signature") == standard_by_hand(new, afterwards)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(afterwards.body, dict(afterwards.headers))


async def echo(exchange: Exchange) -> None:
    """Say what was asked, in body and headers."""
    request = exchange.request
    lines = [request.target, *(f"{name}: {value}" for name, value in request.headers)]
    key = request.header("X-Tenant") or ""
    await exchange.answer(
        500, body="\n".join(lines).encode(), headers={"X-Key": key, "Location": request.target}
    )


def all_a_reader_sees(database: Database) -> str:
    """Every row of every table and view that the role pgrelay_reader may read."""
    found = []
    with database.connect() as connection:
        connection.execute("set role pgrelay_reader")
        names = connection.execute(
            "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'pgrelay' and c.relkind in ('r', 'p', 'v') and has_table_privilege(c.oid, 'select')"
        ).fetchall()
        for (name,) in names:
            found += connection.execute(f"select to_jsonb(t)::text from {name} as t".encode()).fetchall()
    assert len(names) > 20
    return str(found)


async def test_custom_headers_are_sent_and_no_header_value_token_of_a_url_secret_or_signature_is_kept_anywhere(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    """Whatever the receiver says, and whoever reads tables, views, the operator's events and the log."""
    stream = io.StringIO()
    logs.configure("debug", "json", stream, environ={})
    webhook = add_webhook(
        db,
        url=receiver.url("/hook/t0p-s3cret-token-in-path?token=t0p-s3cret-query"),
        secret_key=SECRET,
        headers=json.dumps({"Authorization": "Bearer t0p-s3cret-token", "X-Tenant": "t0p-s3cret-tenant"}),
    )
    add_webhook(db, "pgrelay", url=receiver.url("/operator"))
    receiver.on("/operator", ok())
    receiver.otherwise(in_turn(status(500), echo, ok(), echo))
    async with daemon(database.dsn) as one:
        one.daemon._observe = lambda observation: (
            one._observe(observation),
            logs.log_observation(observation),
        )  # type: ignore[func-returns-value, assignment]
        db.execute("select pgrelay.rotate_secret(%s)", (webhook,))
        emit(db)
        await one.seen(Delivered)
        emit(db, 2)
        await one.seen(DeliveryFailed, 2)
        await one.seen(Delivered, 3)
        query = (
            "select array[secret_key, previous_secret_key] from pgrelay.webhook_configurations where id = %s"
        )
        secrets = value(db, query, webhook)
        kept = await asyncio.to_thread(all_a_reader_sees, database)
        recorded = value(db, "select request_headers from pgrelay.delivery_attempts order by id limit 1")
    for told in ("delivered", "attempt_failed", "delivery_failed"):
        assert f'"event": "{told}"' in stream.getvalue()
    called = [seen for seen in receiver.seen if seen.path != "/operator"]
    assert all(seen.header("Authorization") == "Bearer t0p-s3cret-token" for seen in called)
    assert all("token=t0p-s3cret-query" in seen.target for seen in called)
    assert recorded["Authorization"] == recorded["X-Tenant"] == "***"
    assert recorded["X-Webhook-Signature"] == "sha256=***"
    private = [*secrets, "t0p-s3cret"]
    for seen in receiver.seen:
        signatures = f"{seen.header('X-Webhook-Signature')} {seen.header('webhook-signature')}".split()
        private += [
            signature.partition("=")[2] if "sha256" in signature else signature[3:]
            for signature in signatures
        ]
    for word in private:
        assert len(word) > 9 and word not in stream.getvalue() and word not in kept


async def test_a_test_event_goes_to_one_webhook_and_says_that_it_is_one(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    tested = add_webhook(db, url=receiver.url("/tested"), events=["order.paid"], name="Orders of ACME")
    add_webhook(db, url=receiver.url("/other"))
    async with daemon(database.dsn) as one:
        db.execute("select pgrelay.test_webhook(%s)", (tested,))
        await one.seen(Delivered)
    (request,) = receiver.seen
    assert request.path == "/tested" and request.header("X-Webhook-Event") == "webhook.test"
    body = json.loads(request.body)
    assert list(body) == ["test", "message", "webhook_name", "timestamp"]
    assert body["test"] is True and body["webhook_name"] == "Orders of ACME"


async def test_an_event_of_the_applications_own_making_goes_out_like_any_other(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn) as one:
        db.execute("""select pgrelay.emit('order.paid', '{"order": {"total": 1.50}}', '1', 'A 7')""")
        await one.seen(Delivered)
    (request,) = receiver.seen
    assert b'"data":{"order": {"total": 1.50}}' in request.body
    assert re.fullmatch(r"order_A_7_paid_\d+", request.header("webhook-id") or "")


async def test_a_replay_sends_the_same_bytes_under_the_same_id_again(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn, {"daemon.poll_interval": 60.0}) as one:
        emit(db, 3)
        await one.seen(Delivered, 3)
        assert value(db, "select pgrelay.replay(%s, '-infinity')", webhook) == 3
        await one.seen(Delivered, 6)
    seen = sorted((seen.header("webhook-id"), seen.body) for seen in receiver.seen)
    assert seen[::2] == seen[1::2] and len(set(seen)) == 3


async def test_tenants_never_see_each_others_events(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    for company_id in ("1", "2", "11"):
        add_webhook(db, company_id, url=receiver.url(f"/{company_id}"))
    async with daemon(database.dsn) as one:
        for _ in range(5):
            for company_id in ("1", "2", "11", "3"):
                emit(db, company_id=company_id, event_type=f"order.of_{company_id}")
        await one.seen(Delivered, 15)
    assert len(receiver.seen) == 15
    for seen in receiver.seen:
        assert json.loads(seen.body)["event"] == f"order.of_{seen.path[1:]}"
