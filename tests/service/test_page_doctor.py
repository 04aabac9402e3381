"""The doctor on the page: one test request past the queue, explained step by step."""

import hashlib
import hmac
from collections.abc import AsyncIterator

import psycopg
import pytest

from support.api import Api, make_token, serving_api
from support.database import Database
from support.page import Browser
from support.queue import add_webhook, value
from support.receiver import Exchange, Receiver, status


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with serving_api(database.dsn) as made:
        yield made


async def test_a_test_is_explained_and_nothing_is_held_or_recorded_meanwhile(
    api: Api, db: psycopg.Connection, receiver: Receiver
):
    held: list[int] = []

    async def look_and_refuse(exchange: Exchange) -> None:
        held.append(
            value(
                db,
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and xact_start is not null",
            )
        )
        await exchange.answer(401, b"who are you?")

    receiver.on("/hook", look_and_refuse)
    webhook = add_webhook(db, name="CRM", url=receiver.url("/hook"), paused=True)
    browser = Browser(api, make_token(db, "tenant", "1"))
    page = await browser.get(f"/webhooks/{webhook}")
    told = await browser.press(page, action=f"/webhooks/{webhook}/explain")
    assert told.status == 200
    for words in ("It would not count as delivered", "127.0.0.1 may be called, and was", "it is paused",
                  "HTTP 401: who are you?", "The receiver refuses the signature", "X-Webhook-Signature: sha256="):  # fmt: skip
        assert words in told.words
    assert told.all("a", href=f"/webhooks/{webhook}/change"), "who has no command line can change it here"
    (request,) = await receiver.wait_for(1)
    assert request.header("X-Webhook-Event") == "webhook.test"
    assert request.header("X-Webhook-Signature") in told.words
    assert held == [0], "no transaction is open while the receiver thinks"
    assert value(db, "select count(*) from pgrelay.outbox") == 0
    receiver.on("/hook", status(204))
    assert "It would count as delivered" in (await browser.press(told, do="explain")).words


async def test_what_may_not_be_called_is_not_and_says_so(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db, url="https://10.0.0.1/")
    browser = Browser(api, make_token(db, "admin"))
    told = await browser.press(await browser.get(f"/webhooks/{webhook}"), do="explain")
    assert "private 10.0.0.0/8" in told.words and "network.allowed_networks" in told.words
    assert "is set by whoever runs pgrelay" in told.words


async def test_who_may_not_change_or_see_it_makes_no_request(
    api: Api, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    for role, company, refused in (("reader", None, 403), ("tenant", "2", 404)):
        browser = Browser(api, make_token(db, role, company))
        page = await browser.get("/webhooks")
        (form,) = page.all("form", action="/logout")
        token = next(one.get("value") or "" for one in form.iter("input"))
        told = await browser.post(f"/webhooks/{webhook}/explain", form_token=token)
        assert told.status == refused
    assert receiver.seen == []


async def test_a_new_secret_is_proved_and_then_the_old_one_ended(
    api: Api, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, name="CRM", url=receiver.url("/hook"))
    path = f"/webhooks/{webhook}"
    browser = Browser(api, make_token(db, "tenant", "1"))
    await browser.press(await browser.get(path), do="rotate")
    page = await browser.get(path)
    assert "The old one signs too" in page.words and "Rotate it" not in page.words
    receiver.on("/hook", status(401))
    told = await browser.press(page, do="prove")
    assert "HTTP 401" in told.words and "Both secrets sign on" in told.words
    secret = value(db, "select secret_key from pgrelay.webhook_configurations")

    async def verify(exchange: Exchange) -> None:
        made = hmac.new(secret.encode(), exchange.request.body, hashlib.sha256).hexdigest()
        right = exchange.request.header("X-Webhook-Signature") == f"sha256={made}"
        await exchange.answer(204 if right else 401)

    receiver.on("/hook", verify)
    told = await browser.press(told, do="prove")
    assert "HTTP 204" in told.words and "refused, as it should be" in told.words
    db.execute("update pgrelay.webhook_configurations set name = 'other'")
    late = await browser.press(told, do="end")
    assert late.status == 412, "what was proved may be another's secret by now"
    receiver.on("/hook", status(204))
    told = await browser.press(await browser.get(path), do="prove")
    assert "it does not verify" in told.words
    done = await browser.press(told, do="end")
    assert "The old secret is ended" in (await browser.get(done.headers["Location"])).words
    assert value(db, "select previous_secret_key from pgrelay.webhook_configurations") is None
