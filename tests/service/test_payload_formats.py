"""Real deliveries of every payload format: what arrives was signed, is what was promised, and is the same again."""

import json
import time
from datetime import datetime

import psycopg
import standardwebhooks
from cloudevents.core.bindings.http import HTTPMessage, from_http_event

from pgrelay import verify
from pgrelay.observation import AttemptFailed, Delivered, DeliveryFailed
from support.daemon import daemon
from support.database import Database
from support.factories import SECRET, emit, request_a_callback, watch_callbacks
from support.queue import add_event, add_webhook, value
from support.receiver import Exchange, Receiver, Seen, in_turn, ok, status

TEMPLATE = (
    '{"routing_key": "R1", "payload": {"summary": "{{ event }} of {{ resource_id }}", "all": "{{ data }}"}}'
)


def verified(request: Seen) -> bytes:
    """The body, whose signatures of both schemes are right."""
    headers = dict(request.headers)
    standardwebhooks.Webhook(SECRET).verify(request.body, headers)
    verify(request.body, headers, SECRET, now=time.time())
    return request.body


async def slack(exchange: Exchange) -> None:
    """Answers as Slack's incoming webhooks do: a message without text and blocks is an invalid_payload."""
    try:
        message = json.loads(exchange.request.body)
        good = isinstance(message["text"], str) and message["text"] and message["blocks"]
    except (ValueError, KeyError):
        good = False
    await exchange.answer(200 if good else 400, b"ok" if good else b"invalid_payload")


async def test_each_webhook_gets_the_event_in_its_own_format(app: Database, receiver: Receiver):
    receiver.on("/services/T0/B0/x", slack)
    with app.connect() as db:
        watch_callbacks(db)
        for path, columns in {
            "/standard": {},
            "/cloudevents": {"payload_format": "cloudevents"},
            "/services/T0/B0/x": {"payload_format": "slack"},
            "/template": {"payload_format": "template", "payload_template": TEMPLATE},
        }.items():
            add_webhook(db, url=receiver.url(path), secret_key=SECRET, **columns)
        async with daemon(app.dsn) as one:
            row_id = request_a_callback(db, "Zoë <!channel>")
            await one.seen(Delivered, 4)
        kept = value(db, "select body from pgrelay.outbox")
        key = value(db, "select idempotency_key from pgrelay.outbox")
        types = db.execute(
            "select request_headers->>'Content-Type', count(*) from pgrelay.delivery_attempts group by 1 order by 1"
        ).fetchall()
    came = {request.path: request for request in receiver.seen}
    body = json.loads(kept)

    assert verified(came["/standard"]) == kept.encode()

    request = came["/cloudevents"]
    assert request.header("Content-Type") == "application/cloudevents+json"
    event = from_http_event(HTTPMessage(headers=dict(request.headers), body=verified(request)))
    assert (event.get_id(), event.get_type(), event.get_subject()) == (key, "callback.created", str(row_id))
    assert (event.get_source(), event.get_specversion()) == ("/pgrelay/callback_requests", "1.0")
    assert event.get_time() == datetime.fromisoformat(body["timestamp"])
    assert event.get_data() == body["data"]

    message = json.loads(verified(came["/services/T0/B0/x"]))
    assert message["text"].startswith(f"Callback created: {row_id}\n")
    assert "Zoë &lt;!channel&gt;" in message["text"]

    assert json.loads(verified(came["/template"])) == {
        "routing_key": "R1",
        "payload": {"summary": f"callback.created of {row_id}", "all": body["data"]},
    }
    assert types == [("application/cloudevents+json", 1), ("application/json", 3)]


async def test_attempts_by_different_daemons_and_a_replay_have_the_same_bytes(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    formats = {
        f"/{name}": {"payload_format": name, "payload_template": TEMPLATE}
        for name in ("cloudevents", "slack", "template")
    }
    for path, columns in formats.items():
        add_webhook(db, url=receiver.url(path), secret_key=SECRET, max_retry_attempts=9, **columns)
        receiver.on(path, in_turn(status(500), status(500), ok()))
    async with daemon(database.dsn, {"delivery.retry_schedule": (0.0, 3600.0)}) as one:
        emit(db)
        await one.seen(AttemptFailed, 6)
    db.execute("select pgrelay.retry_delivery(id) from pgrelay.deliveries")
    async with daemon(database.dsn, {"daemon.name": "two"}) as two:
        await two.seen(Delivered, 3)
        db.execute("select pgrelay.replay(id, now() - interval '1 hour') from pgrelay.webhook_configurations")
        await two.seen(Delivered, 6)
    for path in formats:
        bodies = [verified(request) for request in receiver.seen if request.path == path]
        assert len(bodies) == 4
        assert len(set(bodies)) == 1
    assert len({request.header("webhook-id") for request in receiver.seen}) == 1


async def test_a_test_event_arrives_in_every_format(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    receiver.on("/slack", slack)
    webhooks = [
        add_webhook(
            db,
            url=receiver.url(f"/{name}"),
            secret_key=SECRET,
            payload_format=name,
            payload_template='{"text": "{{ message }} {{ test }}"}',
            filter="$.data.nothing == 1",
        )
        for name in ("cloudevents", "slack", "template")
    ]
    async with daemon(database.dsn) as one:
        for webhook in webhooks:
            db.execute("select pgrelay.test_webhook(%s)", (webhook,))
        await one.seen(Delivered, 3)
    came = {request.path: json.loads(verified(request)) for request in receiver.seen}
    assert came["/cloudevents"]["type"] == "webhook.test"
    assert came["/cloudevents"]["data"]["test"] is True
    assert came["/slack"]["text"].startswith("This is a test event from pgrelay.")
    assert came["/template"] == {"text": "This is a test event from pgrelay. true"}


async def test_what_cannot_be_rendered_fails_with_the_reason_reaches_nobody_and_goes_out_once_it_is_mended(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(
        db,
        url=receiver.url("/broken"),
        secret_key=SECRET,
        payload_format="template",
        payload_template='{"text": "{{ data.x() }}"}',  # by SQL, which cannot read expressions
        max_retry_attempts=2,
    )
    async with daemon(database.dsn, {"delivery.retry_schedule": (0.0,)}) as one:
        emit(db)
        (failed,) = await one.seen(DeliveryFailed)
        assert (failed.error_kind, failed.attempts, failed.status_code) == ("payload", 2, None)
        assert failed.error_message == "payload_template: at /text: a call is not understood here"
        assert receiver.seen == []
        rows = db.execute(
            "select attempt, error_kind, error_message, request_headers::text from pgrelay.delivery_attempts order by id"
        ).fetchall()
        assert rows == [(n, "payload", failed.error_message, "{}") for n in (1, 2)]
        db.execute(
            """update pgrelay.webhook_configurations set payload_template = '{"text": "{{ event }}"}' where id = %s""",
            (webhook,),
        )
        db.execute("select pgrelay.retry_delivery(%s)", (failed.delivery_id,))
        await one.seen(Delivered)
    (request,) = receiver.seen
    assert verified(request) == b'{"text":"order.paid"}'


async def test_hostile_templates_fail_by_themselves_while_other_webhooks_are_served(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    hostile = [
        "{% for a in data.l %}{% for b in data.l %}{% for c in data.l %}x{% endfor %}{% endfor %}{% endfor %}",
        "{{ data.s|replace('x', data.s) }}",
        "{{ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s ~ data.s }}",
        "{{ range(10**9) }}",
        "{{ 'x' * 10**10 }}",
        "{{ data.__class__.__mro__ }}",
    ]
    for expression in hostile:
        add_webhook(
            db,
            url=receiver.url("/hostile"),
            payload_format="template",
            payload_template=json.dumps({"x": expression}),
            max_retry_attempts=1,
        )
    add_webhook(db, url=receiver.url("/good"), secret_key=SECRET)
    body = json.dumps({"event": "a.b", "data": {"l": list(range(5000)), "s": "x" * 100_000}})

    async with daemon(database.dsn) as one:
        for _ in range(10):
            add_event(db, "a.b", body=body)
        db.execute("select pg_notify('pgrelay', 'work')")
        await one.seen(Delivered, 20)
        await one.seen(DeliveryFailed, 50)
        assert {failed.error_kind for failed in one.of(DeliveryFailed)} == {"payload"}
    assert sum(request.path == "/good" for request in receiver.seen) == 10
    # the attribute that is nobody's is null, and harmless
    assert {request.body for request in receiver.seen if request.path == "/hostile"} == {b'{"x":null}'}


async def test_a_webhook_with_a_filter_receives_what_meets_it_and_nothing_else(
    app: Database, receiver: Receiver
):
    with app.connect() as db:
        watch_callbacks(db)
        add_webhook(db, url=receiver.url("/all"))
        add_webhook(
            db, url=receiver.url("/zoe"), filter='$.data.callback_request.customer_name starts with "Zo"'
        )
        async with daemon(app.dsn) as one:
            for name in ("Jo", "Zoe", "Al"):
                request_a_callback(db, name)
            await one.seen(Delivered, 4)
        assert value(db, "select count(*) from pgrelay.deliveries") == 4
    (request,) = [request for request in receiver.seen if request.path == "/zoe"]
    assert json.loads(request.body)["data"]["callback_request"]["customer_name"] == "Zoe"
