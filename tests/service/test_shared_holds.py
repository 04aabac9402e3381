"""What one daemon learns of a webhook holds for what another has leased already."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
import pytest

from pgrelay.observation import (
    DaemonStopping,
    Delivered,
    DeliveriesExpired,
    NotificationsArriving,
    WebhookHeld,
)
from support.daemon import Running, daemon, until, until_each_may_send
from support.database import Database
from support.factories import emit
from support.queue import add_webhook, value
from support.receiver import Behaviour, Exchange, Receiver, after, in_turn, ok, slow, status

DONE = "select count(*) >= %s from pgrelay.delivery_history"
BOTH_HOLD = """
    select count(*) = 2 from (select leased_by from pgrelay.delivery_queue where status = 'in_flight'
                              group by leased_by having count(*) = 4) as d
"""


@asynccontextmanager
async def two_daemons_that_hold(
    database: Database, db: psycopg.Connection, receiver: Receiver, answer: Behaviour
) -> AsyncIterator[tuple[Running, Running]]:
    """Each runs two requests, of twenty deliveries, and has leased two more; they name themselves as User-Agent."""
    add_webhook(db, url=receiver.url("/hook"), timeout_seconds=100)
    receiver.on("/hook", answer)
    keys = {"delivery.max_concurrency": 4, "daemon.poll_interval": 60.0}
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                daemon(database.dsn, {**keys, "daemon.name": name, "delivery.user_agent": name})
            )
            for name in ("one", "two")
        ]
        # a daemon that starts has the bell off until it hears
        for starting in (one, two):
            await starting.seen(NotificationsArriving)
        await until_each_may_send(2, one, two)
        await until(db, "select pg_sequence_last_value('pgrelay.wake') = 2")
        emit(db, 20)
        await receiver.wait_for(2)
        db.execute("select pgrelay.ring_bell()")  # to whoever does not know yet that something is left
        await receiver.wait_for(4)
        await until(db, BOTH_HOLD)
        yield one, two


async def test_a_limit_holds_for_what_two_daemons_had_leased_before_there_was_one(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    go = asyncio.Event()
    async with two_daemons_that_hold(database, db, receiver, after(go, slow(0.03))):
        db.execute("update pgrelay.webhook_configurations set max_concurrency = 1")
        # what runs cannot be called back; what does not goes back, and to one daemon alone
        await until(db, "select count(*) = 4 from pgrelay.delivery_queue where status = 'in_flight'")
        go.set()
        await until(db, DONE, 4)
        receiver.busiest.clear()
        await until(db, DONE, 20)
    assert receiver.busiest["/hook"] == 1
    assert len({request.header("User-Agent") for request in receiver.seen[4:]}) == 1


async def test_what_a_receiver_asks_of_one_daemon_the_other_heeds(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    answered = {"one": asyncio.Event(), "two": asyncio.Event()}

    async def answer(exchange: Exchange) -> None:
        name = exchange.request.header("User-Agent") or ""
        await answered[name].wait()
        await exchange.answer(429 if name == "one" else 200, headers={"Retry-After": "3600"})

    async with two_daemons_that_hold(database, db, receiver, answer) as (one, two):
        answered["one"].set()
        await one.seen(WebhookHeld)
        # the other gives back what it has not started
        await until(db, "select count(*) = 2 from pgrelay.delivery_queue where status = 'in_flight'")
        answered["two"].set()
        await two.seen(Delivered, 2)
        await until(db, "select count(*) = 18 from pgrelay.delivery_queue where status = 'pending'")
        assert value(db, "select held_until > now() from pgrelay.webhook_health") is True
    assert len(receiver.seen) == 4


async def test_a_request_that_succeeds_meanwhile_takes_back_nothing_of_what_the_receiver_asked_for(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    go = asyncio.Event()
    receiver.on("/hook", in_turn(status(429, headers={"Retry-After": "3"}), after(go), ok()))
    async with daemon(database.dsn, {"delivery.max_concurrency": 2}) as one:
        emit(db, 10)
        await receiver.wait_for(2)
        await one.seen(WebhookHeld)
        go.set()
        await one.seen(Delivered, 10)
    busy, _, third, *_ = (request.at for request in receiver.seen)
    assert third - busy >= 3.0
    assert value(db, "select count(*) from pgrelay.webhook_health") == 0


@pytest.mark.parametrize("change", ["select pgrelay.set_active({}, false)", "delete from {}"])
async def test_of_a_webhook_that_is_made_inactive_or_deleted_nothing_more_is_sent(
    database: Database, db: psycopg.Connection, receiver: Receiver, change: str
):
    go = asyncio.Event()
    async with two_daemons_that_hold(database, db, receiver, after(go)):
        webhook = value(db, "select id from pgrelay.webhook_configurations")
        db.execute(
            change.format(webhook if "set_active" in change else "pgrelay.webhook_configurations").encode()
        )
        # long before either looks by itself
        await until(db, "select count(*) = 16 from pgrelay.delivery_history where status = 'cancelled'")
        go.set()
        await until(db, DONE, 20)
    assert len(receiver.seen) == 4


async def test_what_grew_too_old_while_it_waited_takes_no_place_under_the_rate_limit(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=1)
    async with daemon(database.dsn) as one:
        with db.transaction():
            emit(db, 4)
            db.execute("update pgrelay.outbox set valid_until = clock_timestamp() + interval '1.5 s'")
        await one.seen(DeliveriesExpired)
        await until(db, DONE, 4)
        sent = len(receiver.seen)
        emit(db, 2)
        await until(db, DONE, 6)
    assert 1 <= sent < 4 and len(receiver.seen) == sent + 2


async def test_what_a_receiver_asks_of_a_daemon_that_is_stopping_holds_for_the_others(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/busy"))
    add_webhook(db, "2", url=receiver.url("/gone"))
    stopping = asyncio.Event()
    receiver.on("/busy", after(stopping, status(429, headers={"Retry-After": "3600"})))
    receiver.on("/gone", after(stopping, status(410)))
    async with daemon(database.dsn) as one:
        emit(db)
        emit(db, company_id="2")
        await receiver.wait_for(2)
        one.daemon.stop()
        await one.seen(DaemonStopping)
        stopping.set()
    assert value(db, "select held_until > now() + interval '3000 s' from pgrelay.webhook_health") is True
    assert db.execute("select id from pgrelay.webhook_configurations where is_active").fetchall() == [(1,)]
