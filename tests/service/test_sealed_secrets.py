"""A daemon that has a key: nothing readable stays in the table, requests are signed all the same, SQL gets its secrets."""

import json
import os
from typing import Any

import psycopg
import pytest
import standardwebhooks

from pgrelay.errors import ConfigError
from pgrelay.observation import Delivered, SecretsSealed, WebhookUnsignable
from pgrelay.sealing import Kept, Keyring, write_key
from support.daemon import daemon, until
from support.database import Database
from support.factories import SECRET, emit
from support.queue import add_webhook, value
from support.receiver import Receiver, Seen

OLD, NEW = write_key(b"o" * 32), write_key(b"n" * 32)
KEYED = {"secrets.key": NEW}
ALL_SEALED = "select count(*) > 0 and bool_and(secrets = 'sealed') from pgrelay.webhooks"


def opened(db: psycopg.Connection, webhook: int, key: str = NEW) -> Kept:
    row = db.execute(
        "select secret_key, previous_secret_key, headers from pgrelay.webhook_configurations where id = %s",
        (webhook,),
    ).fetchone()
    assert row is not None
    return Keyring(key).open(Kept(*row), webhook)


def verified(request: Seen, secret: str | None) -> dict[str, Any]:
    assert secret is not None
    body: dict[str, Any] = standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    return body


async def test_what_stood_in_the_clear_is_sealed_and_sent_as_it_was(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    headers = {"Authorization": "Bearer t0p-s3cret"}
    webhook = add_webhook(db, url=receiver.url(), secret_key=SECRET, headers=json.dumps(headers))
    async with daemon(database.dsn, KEYED) as one:
        (sealed,) = await one.seen(SecretsSealed)
        row = value(db, "select w::text from pgrelay.webhook_configurations w")
        emit(db)
        await one.seen(Delivered)
    assert (sealed.webhooks, sealed.key_id) == (1, Keyring(NEW).ids[0])
    assert "whsec_" not in row and "t0p-s3cret" not in row and "sealed:" in row
    assert opened(db, webhook) == Kept(SECRET, None, headers)
    (request,) = receiver.seen
    verified(request, SECRET)
    assert request.header("Authorization") == headers["Authorization"]


async def test_a_webhook_made_by_sql_gets_a_sealed_secret_and_its_deliveries_wait_for_it(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    async with daemon(database.dsn, KEYED) as one:
        await until(db, "select sealed_with from pgrelay.installation")
        with db.transaction():
            webhook = add_webhook(db, url=receiver.url())
            assert value(db, "select secret_key from pgrelay.webhook_configurations") is None
            emit(db, 3)
        await one.seen(Delivered, 3)
        assert one.of(WebhookUnsignable) == []
    assert value(db, "select max(attempts) from pgrelay.deliveries") == 1
    for request in receiver.seen:
        verified(request, opened(db, webhook).secret_key)


async def test_a_secret_rotated_by_sql_is_made_by_the_daemon_and_the_old_one_signs_too(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url(), secret_key=SECRET)
    async with daemon(database.dsn, KEYED) as one:
        await until(db, ALL_SEALED)
        with db.transaction():
            assert value(db, "select pgrelay.rotate_secret(%s)", webhook) is None
            emit(db)
        await one.seen(Delivered)
        await until(db, ALL_SEALED)
        emit(db)
        await one.seen(Delivered, 2)
    kept = opened(db, webhook)
    assert kept.previous_secret_key == SECRET != kept.secret_key
    # while the new one was awaited the old one signed alone
    verified(receiver.seen[0], SECRET)
    for secret in (kept.secret_key, SECRET):
        verified(receiver.seen[1], secret)


async def test_what_a_daemon_cannot_open_waits_and_holds_up_nobody_else(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    sealed = Keyring(OLD).seal(Kept(SECRET, None, None), 1, os.urandom)
    strange = add_webhook(db, url=receiver.url("/strange"), id=1, secret_key=sealed.secret_key)
    add_webhook(db, url=receiver.url("/known"), id=2)
    async with daemon(database.dsn, KEYED | {"daemon.poll_interval": 0.05}) as one:
        emit(db, 20)
        await one.seen(Delivered, 20)
        (told,) = await one.seen(WebhookUnsignable)
        waiting = db.execute(
            "select status, count(*), max(attempts) from pgrelay.delivery_queue group by status"
        ).fetchall()
        assert waiting == [("pending", 20, 0)]
        assert value(db, "select count(*) from pgrelay.delivery_attempts where webhook_id = %s", strange) == 0
        # mended: a new secret
        value(db, "select pgrelay.rotate_secret(%s, interval '0')", strange)
        await one.seen(Delivered, 40)
        assert len(one.of(WebhookUnsignable)) == 1
    assert told.reason == f"sealed with key '{Keyring(OLD).ids[0]}'; the keys here are {Keyring(NEW).ids[0]}"
    assert len(receiver.seen_at("/strange")) == 20


async def test_with_a_new_key_in_front_everything_is_sealed_anew_at_the_start(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url(), secret_key=SECRET)
    async with daemon(database.dsn, {"secrets.key": OLD}):
        await until(db, ALL_SEALED)
    async with daemon(database.dsn, {"secrets.key": f"{NEW} {OLD}"}) as one:
        await one.seen(SecretsSealed)
    assert opened(db, webhook, NEW).secret_key == SECRET
    assert value(db, "select sealed_with from pgrelay.installation") == Keyring(NEW).ids[0]


@pytest.mark.parametrize("key", ["", OLD])
async def test_a_daemon_without_the_key_does_not_start(database: Database, db: psycopg.Connection, key: str):
    db.execute("select pgrelay.seal_with(%s)", Keyring(NEW).ids)
    with pytest.raises(ConfigError, match=f"sealed with key {Keyring(NEW).ids[0]}; "):
        async with daemon(database.dsn, {"secrets.key": key}):
            pass
