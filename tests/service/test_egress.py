"""Whom the daemon calls and whom it does not, and how: what is refused is written down with the rule that refused it."""

import asyncio
import io
import json
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from pgrelay import logs
from pgrelay.observation import AttemptFailed, ConfigRejected, ConfigReloaded, Delivered, DeliveryFailed
from support.command import Command
from support.daemon import daemon
from support.database import Database
from support.factories import emit
from support.proxy import EgressProxy
from support.queue import add_webhook, value
from support.receiver import Exchange, Receiver, redirect, self_signed
from support.sending import names

NOBODY = {"network.allowed_networks": (), "delivery.retry_schedule": (3_600.0,)}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is refused: cloud metadata service 169.254.169.254/32"),
        ("http://[::ffff:10.0.0.1]/", "[::ffff:10.0.0.1] is refused: private 10.0.0.0/8"),
        ("http://0x7f.1/", "0x7f.1 is refused: loopback 127.0.0.0/8"),
        ("http://017700000001/", "017700000001 is refused: loopback 127.0.0.0/8"),
        ("http://2130706433/", "2130706433 is refused: loopback 127.0.0.0/8"),
        ("http://half.example/", "half.example resolves to 192.168.0.9: private 192.168.0.0/16"),
    ],
)  # fmt: skip
async def test_a_refusal_is_an_attempt_on_record_that_names_the_rule(
    monkeypatch, database: Database, url: str, said: str
):
    with names(monkeypatch, lambda host: ["93.184.215.14", "192.168.0.9"]), database.connect() as db:
        add_webhook(db, url=url)
        async with daemon(database.dsn, NOBODY) as one:
            emit(db)
            await one.seen(AttemptFailed)
        recorded = db.execute(
            "select error_kind, error_message, status_code from pgrelay.delivery_attempts"
        ).fetchone()
        assert recorded == ("blocked_address", said, None)
        assert value(db, "select last_error from pgrelay.deliveries") == f"blocked_address: {said}"


async def test_http_is_refused_on_record_unless_it_is_allowed(database: Database, receiver: Receiver):
    with database.connect() as db:
        add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=1)
        async with daemon(database.dsn, {"network.allow_http": False}) as one:
            emit(db)
            (failed,) = await one.seen(DeliveryFailed)
    assert (failed.error_kind, receiver.seen) == ("blocked_address", [])
    assert "network.allow_http is off" in failed.error_message


async def test_a_redirect_to_the_inside_is_recorded_and_not_followed(database: Database, receiver: Receiver):
    receiver.on("/old", redirect(receiver.url("/inside"), 307))
    with database.connect() as db:
        add_webhook(db, url=receiver.url("/old"), max_retry_attempts=1)
        async with daemon(database.dsn) as one:
            emit(db)
            (failed,) = await one.seen(DeliveryFailed)
    assert (failed.error_kind, failed.status_code) == ("redirect", 307)
    assert receiver.seen_at("/inside") == []


async def test_a_name_that_answers_another_address_when_asked_again_does_not_get_through(
    monkeypatch, database: Database, receiver: Receiver
):
    # What a rebinding name server does: an allowed address to whoever judges, another to whoever connects.
    answers = iter(["127.0.0.2"] + 20 * ["127.0.0.1"])
    keys = {"network.allowed_networks": ("127.0.0.2/32",), "delivery.retry_schedule": (0.0,)}
    with names(monkeypatch, lambda host: [next(answers)]) as asked, database.connect() as db:
        webhook = add_webhook(db, url=f"http://rebinding.example:{receiver.port}/", timeout_seconds=1)
        async with daemon(database.dsn, keys) as one:
            emit(db)
            await one.seen(DeliveryFailed)
        kinds = [
            row[0]
            for row in db.execute(
                "select error_kind from pgrelay.delivery_attempts where webhook_id = %s", (webhook,)
            )
        ]
    assert asked[0] == "rebinding.example"
    assert len(kinds) == 3 and set(kinds) <= {"blocked_address", "connect"}
    assert receiver.connections == 0


async def echo(exchange: Exchange) -> None:
    """Answer with all that came, as services for trying webhooks do."""
    sent = {"url": exchange.request.target, "headers": dict(exchange.request.headers)}
    location = {"Location": f"https://elsewhere.example{exchange.request.target}"}
    await exchange.answer(500, json.dumps(sent).encode(), location)


async def test_nothing_that_opens_a_door_is_shown_by_any_view_log_line_or_command(
    app: Database, receiver: Receiver, tmp_path: Path
):
    stream, pgrelay = io.StringIO(), Command(tmp_path, app.dsn)
    logs.configure("debug", "json", stream, environ={})
    receiver.otherwise(echo)
    url = receiver.url("/services/T1/aB3dE5fG7hI9jK1lM3nO5pQ7?token=t0p-s3cret-query#t0p-s3cret-fragment")
    with app.connect() as db:
        webhook = add_webhook(db, url=url, headers=json.dumps({"Authorization": "Bearer t0p-s3cret"}))
        secret = value(db, "select secret_key from pgrelay.webhook_configurations")
        async with daemon(app.dsn, {"delivery.retry_schedule": (3_600.0,)}) as one:
            emit(db)
            await one.seen(AttemptFailed)
        for observation in one.observed:
            logs.log_observation(observation)
        views = [row[0] for row in db.execute("select viewname from pg_views where schemaname = 'pgrelay'")]
        told = {
            name: str(db.execute(f"select v::text from pgrelay.{name} v".encode()).fetchall())
            for name in views
        }
        told["attempts"] = str(db.execute("select a::text from pgrelay.delivery_attempts a").fetchall())
        delivery = value(db, "select id from pgrelay.deliveries")
    told["log"] = stream.getvalue()
    for words in (
        ("webhooks", "list"),
        ("webhooks", "show", str(webhook)),
        ("webhooks", "set", str(webhook), f"url={url}"),
        ("webhooks", "pause", str(webhook)),
        ("deliveries", "list"),
        ("deliveries", "show", str(delivery)),
        ("status",),
        ("check",),
    ):
        for form in ((), ("--json",)):
            done = await asyncio.to_thread(pgrelay, *words, *form)
            told[" ".join((*words[:2], *form))] = done.out + done.err
    assert (
        "http://127.0.0.1" in told["webhooks list"]
        and "/services/T1/***?token=***#***" in told["webhooks show"]
    )
    assert "https://elsewhere.example/services/T1/***?token=***" in told["attempts"]
    for place, text in told.items():
        for private in ("t0p-s3cret", "aB3dE5fG7hI9jK1lM3nO5pQ7", secret):
            assert private not in text, place


async def test_requests_go_by_way_of_the_proxy_whose_password_is_nowhere_to_be_found(
    database: Database, receiver: Receiver, tmp_path: Path
):
    stream = io.StringIO()
    logs.configure("debug", "json", stream, environ={})
    with database.connect() as db:
        add_webhook(db, url="https://10.1.2.3/hook", max_retry_attempts=1)
        add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=2)
        async with EgressProxy(refuse="407 No") as proxy:
            where = proxy.url(credentials="relay:t0p-s3cret@")
            networks = ("127.0.0.0/8", "10.0.0.0/8")
            async with daemon(
                database.dsn, {"network.proxy": where, "network.allowed_networks": networks}
            ) as one:
                emit(db)
                (failed,) = await one.seen(DeliveryFailed)
                await one.seen(AttemptFailed)
                one.settings = replace(one.settings, network=replace(one.settings.network, proxy=""))
                one.daemon.reload()
                await one.seen(Delivered)
                for observation in one.observed:
                    logs.log_observation(observation)
            attempts = str(db.execute("select a::text from pgrelay.delivery_attempts a").fetchall())
    assert failed.error_message.startswith("the proxy, which wants other credentials, answered HTTP 407")
    assert proxy.asked[0] in ("CONNECT 10.1.2.3:443", f"POST {receiver.url('/hook')}")
    assert len(receiver.seen) == 1
    checked = await asyncio.to_thread(Command(tmp_path, database.dsn), "check", PGRELAY_PROXY=where)
    assert "proxy: requests go by way of http://***@127.0.0.1:" in checked.out
    for text in (
        stream.getvalue(),
        attempts,
        checked.out,
        checked.err,
        repr(one.settings),
        repr(one.daemon._settings),
    ):
        assert "t0p-s3cret" not in text


async def test_a_certificate_is_taken_up_by_a_reload_and_a_bad_one_changes_nothing(
    monkeypatch, database: Database, tmp_path: Path
):
    certificate, key = self_signed(tmp_path, "receiver.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    keys = {"delivery.retry_schedule": (0.1,), "network.allow_http": False}
    with names(monkeypatch, lambda host: ["127.0.0.1"]), database.connect() as db:
        async with Receiver(tls=server) as receiver, daemon(database.dsn, keys) as one:
            add_webhook(db, url=f"https://receiver.example:{receiver.port}/", max_retry_attempts=100)
            emit(db)
            (failed, *_) = await one.seen(AttemptFailed)
            assert failed.error_kind == "tls"
            bad = replace(one.settings.network, ca_file=str(key))
            good = replace(one.settings.network, ca_file=str(certificate))
            one.settings = replace(one.settings, network=bad)
            one.daemon.reload()
            (rejected,) = await one.seen(ConfigRejected)
            assert rejected.reason == f"network.ca_file: {key} holds no certificate in PEM"
            one.settings = replace(one.settings, network=good)
            one.daemon.reload()
            await one.seen(ConfigReloaded)
            await one.seen(Delivered)
