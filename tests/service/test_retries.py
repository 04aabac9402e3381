"""What is tried again and when, and what is given up: seen in the tables, where operators see it."""

import asyncio
import io
import json
import re

import psycopg
import pytest

from pgrelay import logs
from pgrelay.observation import AttemptFailed, Delivered, DeliveryFailed
from support.daemon import daemon, until
from support.database import Database
from support.factories import emit
from support.queue import add_webhook, expand, sign_on, value
from support.receiver import (
    Behaviour,
    Receiver,
    drip,
    endless_body,
    hang,
    head,
    in_turn,
    ok,
    raw,
    redirect,
    reset,
    status,
    wrong_length,
)

LOST = "HTTP/1.1 200 OK\r\nContent-Le"


def waits(db: psycopg.Connection) -> list[float]:
    """Seconds from the end of the attempt just made to the next, of all pending deliveries."""
    return [
        row[0]
        for row in db.execute(
            "select extract(epoch from d.next_attempt_at - a.ended)::float from pgrelay.deliveries d join lateral ("
            " select max(started_at + duration_ms * interval '1 ms') as ended from pgrelay.delivery_attempts"
            " where delivery_id = d.id) as a on true where d.status = 'pending' order by d.id"
        )
    ]


async def test_by_default_it_is_tried_at_once_then_twice_after_sixty_seconds_and_then_given_up(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    receiver.on("/hook", status(503))
    keys = {"delivery.retry_schedule": (60.0, 60.0), "daemon.poll_interval": 0.05}
    async with daemon(database.dsn, keys) as one:
        emit(db)
        for attempt in (1, 2):
            await one.seen(AttemptFailed, attempt)
            assert waits(db) == [pytest.approx(60.0, abs=1.0)]
            # a minute passes
            db.execute("update pgrelay.delivery_queue set next_attempt_at = clock_timestamp()")
        await one.seen(DeliveryFailed)
    assert len(receiver.seen) == 3
    assert db.execute(
        "select status, attempts, last_status_code, last_error from pgrelay.deliveries"
    ).fetchall() == [("failed", 3, 503, "status: HTTP 503 Service Unavailable")]


async def test_a_webhook_may_have_its_own_schedule_and_number_of_attempts(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/patient"), retry_schedule=[300, 900], max_retry_attempts=4)
    add_webhook(db, url=receiver.url("/once"), max_retry_attempts=1)
    receiver.otherwise(status(500))
    async with daemon(database.dsn, {"daemon.poll_interval": 0.05}) as one:
        emit(db)
        await one.seen(DeliveryFailed)
        for attempt, wait in ((1, 300.0), (2, 900.0), (3, 900.0)):
            await one.seen(AttemptFailed, attempt)
            assert waits(db) == [pytest.approx(wait, abs=1.0)]
            db.execute("update pgrelay.delivery_queue set next_attempt_at = clock_timestamp()")
        await one.seen(DeliveryFailed, 2)
    assert len(receiver.seen_at("/once")) == 1 and len(receiver.seen_at("/patient")) == 4


async def test_retry_after_lengthens_the_wait(database: Database, db: psycopg.Connection, receiver: Receiver):
    add_webhook(db, url=receiver.url("/hook"))
    receiver.on("/hook", status(429, headers={"Retry-After": "120"}))
    async with daemon(database.dsn) as one:
        emit(db)
        await one.seen(AttemptFailed)
        assert waits(db) == [pytest.approx(120.0, abs=1.0)]


async def test_the_dead_letter_is_told_with_one_critical_line(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    stream = io.StringIO()
    add_webhook(db, url=receiver.url("/hook"), name="Orders of ACME")
    receiver.on("/hook", status(500))
    async with daemon(database.dsn) as one:
        logs.configure("debug", "json", stream, environ={})
        emit(db)
        await one.seen(DeliveryFailed)
        for observation in one.observed:
            logs.log_observation(observation)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (critical,) = [line for line in lines if line["level"] == "critical"]
    assert critical["event"] == "delivery_failed"
    assert critical["webhook_name"] == "Orders of ACME" and critical["attempts"] == 3


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (redirect("/elsewhere"), "redirect", "HTTP 302 Found: redirect to /elsewhere not followed"),
        (redirect("/elsewhere", 308), "redirect", "not followed"),
        (status(404), "status", "HTTP 404 Not Found"),
        (status(299), None, ""),
        (status(204), None, ""),
        (reset(), "protocol|connect", ""),  # told apart only by how far our own writing had come
        (raw(b""), "protocol", ""),
        (raw(LOST.encode()), "protocol", ""),
        (raw(b"\x16\x03\x01 what is this\r\n\r\n"), "protocol", ""),
        (wrong_length(), "protocol", ""),
        (hang(), "timeout", "1 s"),
        (hang(head(200, {"Content-Length": "10"})), "timeout", ""),
        (drip(head(200, {"Content-Length": "1000000"})), "timeout", ""),
        (drip(b"HTTP/1.1 200 OK\r\n", b"X-More: yes\r\n"), "timeout|protocol|too_large", ""),
    ],
)
async def test_whatever_a_receiver_does_is_recorded_and_the_next_request_is_made(
    database: Database,
    db: psycopg.Connection,
    receiver: Receiver,
    behaviour: Behaviour,
    kind: str | None,
    message: str,
):
    add_webhook(db, url=receiver.url("/hook"), timeout_seconds=1)
    receiver.on("/hook", in_turn(behaviour, ok()))
    async with daemon(database.dsn) as one:
        emit(db)
        await one.seen(Delivered)
    attempts = db.execute(
        "select error_kind, coalesce(error_message, ''), duration_ms from pgrelay.delivery_attempts order by attempt"
    ).fetchall()
    first_kind, first_message, milliseconds = attempts[0]
    assert (first_kind is None) == (kind is None) and re.fullmatch(kind or "", first_kind or "")
    assert message in first_message
    assert milliseconds < 5000
    assert receiver.seen_at("/elsewhere") == []
    assert len(attempts) == (1 if kind is None else 2)


async def test_a_request_lasts_as_long_as_its_webhook_allows_and_no_longer(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/short"), timeout_seconds=1, max_retry_attempts=1)
    add_webhook(db, url=receiver.url("/long"), timeout_seconds=3, max_retry_attempts=1)
    receiver.otherwise(hang())
    async with daemon(database.dsn) as one:
        emit(db)
        await one.seen(DeliveryFailed, 2)
    durations = [
        row[0] for row in db.execute("select duration_ms from pgrelay.delivery_attempts order by webhook_id")
    ]
    assert 1000 <= durations[0] < 2000 and 3000 <= durations[1] < 4500


async def test_of_an_answer_so_much_is_kept_as_the_configuration_says(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/long"))
    add_webhook(db, url=receiver.url("/endless"), timeout_seconds=3)
    receiver.on("/long", status(200, b"abc\0def" * 1000, {"X-Answer": "yes", "Set-Cookie": "session=1"}))
    receiver.on("/endless", endless_body())
    async with daemon(database.dsn, {"delivery.max_response_bytes": 100}) as one:
        emit(db)
        await one.seen(Delivered, 2)
    kept = db.execute(
        "select response_body, response_headers from pgrelay.delivery_attempts order by webhook_id"
    ).fetchall()
    assert kept[0][0] == ("abc\ufffddef" * 1000)[:100]
    assert kept[0][1]["X-Answer"] == "yes" and kept[0][1]["Set-Cookie"] == "***"
    assert kept[1][0] == "x" * 100


async def test_a_delivery_that_an_operator_retries_goes_out_at_once(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=1)
    receiver.on("/hook", in_turn(status(500), status(500), ok()))
    async with daemon(database.dsn, {"daemon.poll_interval": 60.0}) as one:
        emit(db)
        for attempt in (1, 2):
            await one.seen(DeliveryFailed, attempt)
            assert value(db, "select pgrelay.retry_delivery(id) from pgrelay.deliveries") is True
        await one.seen(Delivered, within=10.0)
    assert value(db, "select count(*) from pgrelay.delivery_attempts") == 3


async def test_a_pending_retry_that_an_operator_hurries_goes_out_at_once(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    receiver.on("/hook", in_turn(status(500), ok()))
    keys = {"daemon.poll_interval": 60.0, "delivery.retry_schedule": (3600.0,)}
    async with daemon(database.dsn, keys) as one:
        emit(db)
        await one.seen(AttemptFailed)
        db.execute("select pgrelay.retry_delivery(id) from pgrelay.deliveries")
        await one.seen(Delivered, within=10.0)


async def test_retries_of_a_daemon_that_stopped_are_made_by_the_next_when_they_fall_due(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    receiver.on("/hook", in_turn(status(500), ok()))
    keys = {"daemon.poll_interval": 60.0, "delivery.retry_schedule": (1.0,)}
    async with daemon(database.dsn, keys) as one:
        emit(db)
        await one.seen(AttemptFailed)
    due = value(db, "select next_attempt_at from pgrelay.deliveries")
    async with daemon(database.dsn, keys) as two:
        await two.seen(Delivered, within=10.0)
    assert value(db, "select max(started_at) from pgrelay.delivery_attempts") >= due


async def test_what_a_daemon_left_is_found_soon_though_it_is_of_more_webhooks_than_one_look_takes(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    db.execute(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " select w.company_id, w.name, w.url, w.subscribed_events from pgrelay.webhook_configurations w,"
        " generate_series(1, 600) where w.id = %s",
        (webhook,),
    )
    emit(db)
    expand(db, sign_on(db), room=0)
    async with daemon(database.dsn, {"daemon.poll_interval": 60.0}) as one:
        await one.seen(Delivered, 601)


async def test_an_event_whose_body_is_gone_fails_without_a_request(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    emit(db)
    db.execute(
        "insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot) values (%s, 999999, 0)",
        (webhook,),
    )
    async with daemon(database.dsn) as one:
        await one.seen(DeliveryFailed, where=lambda seen: seen.event_id == 999_999)
        await one.seen(Delivered)
    await asyncio.to_thread(lambda: None)
    assert len(receiver.seen) == 1


async def test_a_webhook_that_may_not_be_called_fails_without_a_connection(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=1)
    add_webhook(db, url="http://10.1.2.3/hook", max_retry_attempts=1)
    async with daemon(database.dsn, {"network.allowed_networks": ("127.0.0.9/32",)}) as one:
        emit(db)
        await one.seen(DeliveryFailed, 2)
        await until(db, "select count(*) = 2 from pgrelay.deliveries where status = 'failed'")
    assert receiver.connections == 0
    assert value(db, "select array_agg(distinct error_kind) from pgrelay.delivery_attempts") == [
        "blocked_address"
    ]
