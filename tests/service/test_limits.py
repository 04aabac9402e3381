"""What a webhook is promised, whatever daemons there are: so many at once, so many a second, in order, and left alone."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from itertools import pairwise

import psycopg
import pytest

from pgrelay.db.store import Store
from pgrelay.observation import (
    CircuitClosed,
    CircuitOpened,
    Claimed,
    DaemonDeclaredDead,
    DaemonStarted,
    Delivered,
    DeliveriesExpired,
    DeliveryFailed,
    WebhookDisabled,
    WebhookHeld,
)
from support.daemon import Running, daemon, until, until_each_may_send
from support.database import Database
from support.factories import emit
from support.queue import add_webhook, value
from support.receiver import Receiver, in_turn, ok, slow, status

DONE = "select count(*) >= %s from pgrelay.delivery_history"


async def several(stack: AsyncExitStack, database: Database, count: int, **keys: object) -> list[Running]:
    """So many daemons."""
    return [
        await stack.enter_async_context(daemon(database.dsn, {"daemon.name": f"daemon-{number}", **keys}))
        for number in range(count)
    ]


@pytest.mark.parametrize("rate", [5, 20])
async def test_no_second_of_the_receiver_sees_more_than_the_rate_limit(
    database: Database, db: psycopg.Connection, receiver: Receiver, rate: int
):
    add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=rate)
    async with AsyncExitStack() as stack:
        await several(stack, database, 2)
        emit(db, 3 * rate)
        await until(db, DONE, 3 * rate)
    arrivals = [request.at for request in receiver.seen_at("/hook")]
    assert len(arrivals) == 3 * rate
    assert all(later - earlier > 1.0 for earlier, later in zip(arrivals, arrivals[rate:], strict=False))
    assert arrivals[-1] - arrivals[0] < 3.5
    assert value(db, "select max(attempts) from pgrelay.deliveries") == 1


async def test_the_rate_limit_holds_when_its_daemon_is_replaced(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=10)
    async with daemon(database.dsn) as one:
        emit(db, 25)
        await one.seen(Delivered, 12)
    async with daemon(database.dsn):
        await until(db, DONE, 25)
    arrivals = [request.at for request in receiver.seen_at("/hook")]
    assert all(later - earlier > 1.0 for earlier, later in zip(arrivals, arrivals[10:], strict=False))


async def test_the_rate_limit_holds_when_a_daemon_takes_over_that_has_served_the_webhook_before(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=1)
    async with daemon(database.dsn, {"daemon.lease": 2.0}) as one:
        emit(db)
        await one.seen(Delivered)
        async with daemon(database.dsn, {"daemon.name": "two"}) as two:
            with db.transaction():
                db.execute(
                    "update pgrelay.daemons set lease_until = now() - interval '1 s' where name = 'one'"
                )
                db.execute("select pgrelay.release_lapsed()")
                db.execute(
                    "select pgrelay.owned_elsewhere(%s, array[1])", (two.of(DaemonStarted)[0].daemon_id,)
                )
            await one.seen(DaemonDeclaredDead)
            emit(db, 3)
            await two.seen(Delivered)
        await one.seen(Delivered, 2)
        await until(db, DONE, 4)
    arrivals = [request.at for request in receiver.seen_at("/hook")]
    assert min(later - earlier for earlier, later in pairwise(arrivals)) > 1.0


async def test_no_more_requests_run_at_once_than_the_webhook_allows_over_two_daemons(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/few"), max_concurrency=3)
    add_webhook(db, url=receiver.url("/many"))
    receiver.otherwise(slow(0.02))
    async with AsyncExitStack() as stack:
        await several(stack, database, 2)
        emit(db, 100)
        await until(db, DONE, 200)
    assert receiver.busiest["/few"] == 3 and receiver.busiest["/many"] > 3


async def test_what_the_configuration_allows_is_shared_by_the_daemons_there_are(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    receiver.otherwise(slow(0.02))
    async with AsyncExitStack() as stack:
        (first,) = await several(stack, database, 1, **{"delivery.max_concurrency": 6})
        await until_each_may_send(6, first)
        async with daemon(database.dsn, {"daemon.name": "another", "delivery.max_concurrency": 6}) as another:
            await until_each_may_send(3, first, another)
            emit(db, 200)
            await until(db, DONE, 200)
            assert receiver.busiest["/hook"] <= 6
            assert value(db, "select count(distinct daemon) from pgrelay.delivery_attempts") == 2
        await until_each_may_send(6, first)


async def test_events_of_one_resource_arrive_in_order_also_when_some_fail_and_others_do_not_wait(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), ordering="resource", max_retry_attempts=2)
    failing = status(503)
    receiver.on("/hook", in_turn(*[ok(), failing] * 20, ok()))
    async with AsyncExitStack() as stack:
        await several(stack, database, 2, **{"delivery.retry_schedule": (0.05,)})
        for _ in range(10):
            emit(db, 4)
        await until(db, DONE, 40)
    seen: dict[str, list[int]] = {}
    for request in receiver.seen_at("/hook"):
        key = request.header("webhook-id")
        event, resource = db.execute(
            "select id, resource_id from pgrelay.outbox where idempotency_key = %s", (key,)
        ).fetchone()
        seen.setdefault(resource, []).append(event)
    assert len(seen) == 4
    for order in seen.values():
        assert order == sorted(order) and len(set(order)) == 10


async def test_the_next_of_a_resource_goes_out_without_a_search_for_it(
    database: Database, db: psycopg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    async def nothing(*_: object) -> list[object]:
        return []

    monkeypatch.setattr(Store, "pending_webhooks", nothing)  # such searches are far apart
    add_webhook(db, url=receiver.url("/hook"), ordering="resource", max_retry_attempts=2)
    receiver.on("/hook", in_turn(ok(), status(500), ok()))
    async with daemon(database.dsn) as one:
        with db.transaction():
            db.execute("select pgrelay.emit('order.paid', '{}', '1', 'a') from generate_series(1, 20)")
        await one.seen(Delivered, 20)
    assert len(receiver.seen) == 21


async def test_a_webhook_that_only_fails_is_probed_and_the_first_success_opens_it_again(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=50, max_concurrency=1)
    receiver.on("/hook", in_turn(*[status(500)] * 5, ok()))
    keys = {"circuit.open_after": 3, "circuit.first_wait": 0.3, "delivery.retry_schedule": (0.01,)}
    async with daemon(database.dsn, keys) as one:
        emit(db, 20)
        await one.seen(CircuitOpened)
        await one.seen(CircuitClosed)
        await one.seen(Delivered, 20)
    arrivals = [request.at for request in receiver.seen_at("/hook")]
    gaps = [later - earlier for earlier, later in pairwise(arrivals[2:6])]
    assert len(arrivals) == 25 and gaps[0] > 0.25 and gaps[1] > 0.25 and gaps[2] > 0.5
    assert len(one.of(CircuitOpened)) == 1


async def test_a_circuit_that_a_person_closes_is_tried_again_at_once(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=50)
    receiver.on("/hook", in_turn(*[status(500)] * 3, ok()))
    keys = {"circuit.open_after": 3, "circuit.first_wait": 3_600.0, "delivery.retry_schedule": (0.01,)}
    async with daemon(database.dsn, keys) as one:
        emit(db)
        await one.seen(CircuitOpened)
        assert value(db, "select pgrelay.close_circuit(%s)", webhook) is True
        await one.seen(Delivered)


async def test_while_one_is_probed_another_is_served_as_ever(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/bad"), max_retry_attempts=50)
    good = add_webhook(db, url=receiver.url("/good"))
    receiver.on("/bad", status(500))
    async with daemon(database.dsn, {"circuit.open_after": 5}) as one:
        for _ in range(20):
            emit(db, 10)
        await one.seen(Delivered, 200, where=lambda seen: seen.webhook_id == good)
        await one.seen(CircuitOpened)
    assert len(receiver.seen_at("/bad")) < 200


async def test_busy_with_retry_after_holds_back_the_whole_webhook_and_costs_no_attempt(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_concurrency=1)
    receiver.on("/hook", in_turn(status(429, headers={"Retry-After": "2"}), ok()))
    async with daemon(database.dsn) as one:
        emit(db, 10)
        await one.seen(WebhookHeld)
        await one.seen(Delivered, 10)
    first, second, *_ = (request.at for request in receiver.seen_at("/hook"))
    assert second - first >= 2.0
    assert Counter(row[0] for row in db.execute("select attempts from pgrelay.deliveries")) == {1: 9, 2: 1}


async def test_gone_ends_the_delivery_and_the_webhook_and_the_operator_hears_of_it(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"))
    add_webhook(db, "pgrelay", ["webhook.*"], url=receiver.url("/operator"))
    receiver.on("/hook", status(410))
    async with daemon(database.dsn) as one:
        emit(db)
        await one.seen(DeliveryFailed)
        await one.seen(WebhookDisabled)
        (told,) = await receiver.wait_for(1, path="/operator")
        await one.seen(Delivered)
    assert told.header("X-Webhook-Event") == "webhook.disabled"
    assert value(db, "select is_active from pgrelay.webhook_configurations where id = %s", webhook) is False


async def test_what_waited_too_long_for_its_turn_is_not_sent(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_concurrency=1)
    receiver.on("/hook", slow(1.5))
    with db.transaction():
        emit(db, 2)
        db.execute("update pgrelay.outbox set valid_until = now() + interval '1 s'")
    async with daemon(database.dsn) as one:
        await one.seen(DeliveriesExpired)
    assert len(receiver.seen_at("/hook")) == 1
    assert db.execute("select status from pgrelay.deliveries order by id").fetchall() == [
        ("succeeded",),
        ("expired",),
    ]


async def test_limits_that_are_changed_while_deliveries_wait_hold_for_them(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    webhook = add_webhook(db, url=receiver.url("/hook"), max_concurrency=1)
    release = asyncio.Event()

    async def held(exchange):
        await release.wait()
        await exchange.answer(200)

    receiver.on("/hook", held)
    async with daemon(database.dsn) as one:
        emit(db, 9)
        await receiver.wait_for(1, path="/hook")
        db.execute("update pgrelay.webhook_configurations set max_concurrency = 4 where id = %s", (webhook,))
        await receiver.wait_for(2, path="/hook")
        release.set()
        await one.seen(Delivered, 9)
    assert receiver.busiest["/hook"] <= 4


async def test_a_rate_limit_that_is_raised_is_used_at_once_by_what_waited_for_the_one_before(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=0.01)
    async with daemon(database.dsn) as one:
        emit(db, 3)
        await one.seen(Claimed)
        db.execute("update pgrelay.webhook_configurations set rate_limit_per_second = 100")
        await one.seen(Delivered, 3)
