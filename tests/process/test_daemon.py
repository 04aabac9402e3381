"""`pgrelay run` as a real process against real receivers: what goes over the wire, what is recorded, how it ends."""

import asyncio
import hashlib
import hmac
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import standardwebhooks

from pgrelay.sources import EventRule, Operation, Source, Tenant
from support.database import Database
from support.process import eventually
from support.receiver import Receiver, after, hang, in_turn, ok, redirect, status

INSERT = "insert into callback_requests (company_id, customer_name, customer_phone) values (1, %s, '1')"


class World:
    """The sample application, watched; one receiver; daemons that are started and ended by the test."""

    def __init__(self, app: Database, receiver: Receiver, folder: Path) -> None:
        self.app = app
        self.receiver = receiver
        self.folder = folder
        self.db = app.connect()
        source = Source(
            "callback_requests", "public.callback_requests", Tenant(column="company_id"), key="id",
            resource="callback_request", prefix="callback",
            events=(EventRule("callback.created", on=(Operation.INSERT,)),),
        )  # fmt: skip
        self.db.execute("select pgrelay.watch(%s, 'main')", (json.dumps(source.definition()),))
        self.db.execute("select pgrelay.adopt('production', 'keep')")

    def webhook(self, path: str, **columns: Any) -> str:
        """Add a webhook by SQL; its secret."""
        values = {
            "company_id": "1",
            "name": path,
            "url": self.receiver.url(path),
            "subscribed_events": ["*"],
            **columns,
        }
        query = psycopg.sql.SQL(
            "insert into pgrelay.webhook_configurations ({}) values ({}) returning secret_key"
        ).format(
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values)),
        )
        row = self.db.execute(query, list(values.values())).fetchone()
        assert row is not None
        return str(row[0])

    @contextmanager
    def daemon(self, name: str = "one", **settings: str) -> Iterator[subprocess.Popen[str]]:
        """A running daemon; its log is in <name>.log. Killed at the end if it still lives."""
        config = self.folder / f"{name}.yaml"
        config.write_text(
            f"database: {{dsn: {json.dumps(self.app.dsn)}}}\n"
            "network: {allow_http: true, allowed_networks: [127.0.0.0/8]}\n"
            f"log: {{level: debug}}\ndaemon: {{name: {name}, lease: 2, poll_interval: 30, {settings.get('daemon', '')}}}\n"
            f"delivery: {{{settings.get('delivery', 'retry_schedule: [0.2]')}}}\n"
        )
        with (self.folder / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pgrelay", "-c", str(config), "run"],
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def log(self, name: str = "one") -> str:
        return (self.folder / f"{name}.log").read_text()

    async def until(self, query: str, holds: Callable[[Any], bool], *, within: float = 60.0) -> Any:
        """The first column of the query's first row, once it is as wanted."""
        async with asyncio.timeout(within):
            while True:
                row = self.db.execute(query.encode()).fetchone()
                if row is not None and holds(row[0]):
                    return row[0]
                await asyncio.sleep(0.02)

    async def listening(self, name: str = "one") -> None:
        await self.until(
            f"select count(*) from pgrelay.daemons where name = '{name}' and listening and ended_at is null",
            bool,
        )


@pytest.fixture
async def world(app: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with Receiver() as receiver:
        made = World(app, receiver, tmp_path)
        yield made
        made.db.close()


async def test_a_request_verifies_with_the_published_library_and_by_hand_and_is_the_same_on_every_attempt(
    world: World,
) -> None:
    secret = world.webhook("/hook", headers=json.dumps({"X-Api-Key": "top-secret-value"}))
    world.receiver.on("/hook", in_turn(status(503), redirect("/elsewhere"), ok()))
    with world.daemon(delivery="retry_schedule: [0.1]"):
        await world.listening()
        world.db.execute(INSERT, ("Zoe",))
        requests = await world.receiver.wait_for(3, path="/hook", within=60)
        await world.until("select count(*) from pgrelay.deliveries where status = 'succeeded'", bool)
    (body,) = {request.body for request in requests}
    row = world.db.execute("select body, idempotency_key from pgrelay.outbox").fetchone()
    assert row == (body.decode(), requests[0].header("X-Webhook-Idempotency-Key"))
    for attempt, request in enumerate(requests, start=1):
        standardwebhooks.Webhook(secret).verify(body, dict(request.headers))
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        assert request.header("X-Webhook-Signature") == f"sha256={digest}"
        assert request.header("X-Webhook-Event") == "callback.created"
        assert request.header("X-Webhook-Delivery-Attempt") == str(attempt)
        assert request.header("webhook-id") == requests[0].header("webhook-id") == row[1]
        assert request.header("Content-Type") == "application/json"
        assert request.header("X-Api-Key") == "top-secret-value"
    assert world.receiver.seen_at("/elsewhere") == []
    kinds = world.db.execute(
        "select array_agg(error_kind order by attempt) from pgrelay.delivery_attempts"
    ).fetchone()
    assert kinds == (["status", "redirect", None],)
    kept = world.log() + str(
        world.db.execute("select array_agg(request_headers::text) from pgrelay.delivery_attempts").fetchone()
    )
    for private in (secret, "top-secret-value", digest, requests[0].header("webhook-signature") or "v1,"):
        assert private not in kept


async def test_attempts_used_up_end_in_the_dead_letter_with_one_critical_line(world: World) -> None:
    world.webhook("/hook")
    world.receiver.on("/hook", status(500))
    with world.daemon(delivery="retry_schedule: [0.1]"):
        world.db.execute(INSERT, ("Zoe",))
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'failed' and attempts = 3", bool
        )
        # told once it is recorded
        await eventually(lambda: '"critical"' in world.log(), "the line")
    assert len(world.receiver.seen_at("/hook")) == 3
    critical = [line for line in world.log().splitlines() if '"critical"' in line]
    assert len(critical) == 1 and "delivery_failed" in critical[0]


async def test_by_default_it_is_tried_again_after_sixty_seconds(world: World) -> None:
    world.webhook("/hook")
    world.receiver.on("/hook", status(500))
    with world.daemon(delivery=""):
        world.db.execute(INSERT, ("Zoe",))
        wait = await world.until(
            "select extract(epoch from next_attempt_at - now())::float from pgrelay.deliveries where attempts = 1 and status = 'pending'",
            lambda seconds: True,
        )
    assert 50 < wait <= 60


async def test_what_a_killed_daemon_held_goes_to_the_other_as_a_lapsed_attempt(world: World) -> None:
    world.webhook("/hook", timeout_seconds=60)
    world.receiver.on("/hook", in_turn(hang(), ok()))
    with world.daemon("one") as first:
        await world.listening("one")
        world.db.execute(INSERT, ("Zoe",))
        await world.receiver.wait_for(1, path="/hook", within=60)
        first.kill()
        with world.daemon("two"):
            await world.receiver.wait_for(2, path="/hook", within=60)
            await world.until("select count(*) from pgrelay.deliveries where status = 'succeeded'", bool)
    story = world.db.execute(
        "select array_agg((attempt, error_kind, daemon)::text order by attempt) from pgrelay.delivery_attempts"
    ).fetchone()
    assert story == (["(1,lapsed,one)", "(2,,two)"],)
    first_body, second_body = (seen.body for seen in world.receiver.seen_at("/hook"))
    assert first_body == second_body


async def test_a_stalled_daemons_late_outcome_is_refused_and_it_signs_on_anew(world: World) -> None:
    world.webhook("/hook", timeout_seconds=60)
    answer = asyncio.Event()
    world.receiver.on("/hook", in_turn(after(answer, ok()), ok()))
    with world.daemon("one") as first, world.daemon("two") as second:
        await world.listening("one")
        await world.listening("two")
        world.db.execute(INSERT, ("Zoe",))
        await world.receiver.wait_for(1, path="/hook", within=60)
        holder = await world.until("select leased_by from pgrelay.deliveries", bool)
        stalled = {"one": first, "two": second}[holder]
        stalled.send_signal(signal.SIGSTOP)
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'succeeded'", bool, within=30
        )
        answer.set()
        stalled.send_signal(signal.SIGCONT)
        await world.until("select count(*) from pgrelay.delivery_attempts where late", bool)
        await world.until(
            f"select count(*) from pgrelay.daemons where name = '{holder}' and ended_at is null", bool
        )
    assert world.db.execute("select count(*) from pgrelay.delivery_history").fetchone() == (1,)
    assert "lease_lost" in world.log(holder) and "daemon_declared_dead" in world.log(holder)


async def test_sigterm_lets_requests_end_gives_the_rest_back_and_exits_0(world: World) -> None:
    world.webhook("/hook", timeout_seconds=60)
    answer = asyncio.Event()
    world.receiver.on("/hook", after(answer, ok()))
    with world.daemon(delivery="max_concurrency: 2", daemon="drain_timeout: 20") as process:
        await world.listening()
        for name in "abcd":
            world.db.execute(INSERT, (name,))
        await world.receiver.wait_for(2, path="/hook", within=60)
        await world.until(
            "select count(*) from pgrelay.delivery_queue where status = 'in_flight'", lambda count: count == 4
        )
        process.terminate()
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'pending' and attempts = 0",
            lambda count: count == 2,
        )
        answer.set()
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert world.db.execute(
        "select count(*) from pgrelay.deliveries where status = 'succeeded'"
    ).fetchone() == (2,)
    assert world.db.execute("select count(*) from pgrelay.delivery_attempts").fetchone() == (2,)
    with world.daemon("next"):
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'succeeded'", lambda count: count == 4
        )


async def test_a_request_cut_off_by_the_end_of_the_drain_is_an_attempt_of_kind_shutdown(world: World) -> None:
    world.webhook("/hook", timeout_seconds=60)
    world.receiver.on("/hook", hang())
    with world.daemon(daemon="drain_timeout: 0.3") as process:
        await world.listening()
        world.db.execute(INSERT, ("Zoe",))
        await world.receiver.wait_for(1, path="/hook", within=60)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert world.db.execute("select error_kind from pgrelay.delivery_attempts").fetchall() == [("shutdown",)]
    assert world.db.execute("select status from pgrelay.deliveries").fetchall() == [("pending",)]


async def test_lost_connections_are_made_anew_and_nothing_waits_for_a_poll(world: World) -> None:
    world.webhook("/hook")
    with world.daemon() as process:
        await world.listening()
        for round_ in range(4):
            world.db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgrelay%' and datname = current_database()"
            )
            world.db.execute(INSERT, (str(round_),))
            await world.receiver.wait_for(round_ + 1, path="/hook", within=60)
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'succeeded'", lambda count: count == 4
        )
        assert process.poll() is None


async def test_reload_takes_new_settings_and_refuses_bad_ones(world: World) -> None:
    world.webhook("/hook")
    world.receiver.on("/hook", status(500))
    with world.daemon(delivery="retry_schedule: [3600]") as process:
        await world.listening()
        config = world.folder / "one.yaml"
        good = config.read_text()
        config.write_text("nonsense: 1\n")
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(60):
            while "config_rejected" not in world.log():
                await asyncio.sleep(0.02)
            config.write_text(good.replace("3600", "0.1"))
            process.send_signal(signal.SIGHUP)
            while "config_reloaded" not in world.log():
                await asyncio.sleep(0.02)
        world.db.execute(INSERT, ("Zoe",))
        await world.receiver.wait_for(3, path="/hook", within=60)


async def test_deadlines_pauses_tests_and_operators_words_take_effect_at_once(world: World) -> None:
    world.webhook("/hook")
    with world.daemon():
        await world.listening()
        world.db.execute("update pgrelay.webhook_configurations set paused = true")
        world.db.execute(INSERT, ("Zoe",))
        await world.until("select count(*) from pgrelay.deliveries where status = 'pending'", bool)
        world.db.execute("update pgrelay.webhook_configurations set paused = false")
        await world.receiver.wait_for(1, path="/hook", within=60)
        world.db.execute("select pgrelay.test_webhook(1)")
        await world.receiver.wait_for(2, path="/hook", within=60)
        world.db.execute("select pgrelay.replay(1, '2000-01-01')")
        await world.receiver.wait_for(3, path="/hook", within=60)
        world.db.execute("select pgrelay.emit('order.paid', '{\"order\": 1}', '1')")
        *_, emitted = await world.receiver.wait_for(4, path="/hook", within=60)
        assert json.loads(emitted.body)["data"] == {"order": 1}
        assert json.loads(world.receiver.seen_at("/hook")[1].body)["test"] is True
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'succeeded'", lambda count: count == 4
        )


async def test_a_replay_is_fed_on_by_the_other_daemon_when_one_is_killed_and_each_event_is_in_it_once(
    world: World,
) -> None:
    world.webhook("/hook", max_concurrency=3)
    world.db.execute(
        "insert into pgrelay.outbox (event_type, company_id, idempotency_key, body)"
        " select 'order.paid', '1', 'order_' || n || '_paid_1', '{}' from generate_series(1, 400) as n"
    )
    with world.daemon() as first:
        await world.listening()
        await world.until(
            "select count(*) from pgrelay.deliveries where status = 'succeeded'", lambda n: n >= 400
        )
        await world.until("select count(*) from pgrelay.delivery_queue", lambda n: n == 0)
        before = len(world.receiver.seen_at("/hook"))
        with world.daemon("two"):
            await world.listening("two")
            world.db.execute("select pgrelay.start_replay(1, '2000-01-01')")
            await world.until("select queued from pgrelay.replays", lambda n: n > 60)
            first.send_signal(signal.SIGKILL)
            await world.until("select status from pgrelay.replays", lambda status: status == "done")
            await world.until("select unfinished from pgrelay.replay_progress", lambda n: n == 0)
    made, events = world.db.execute(
        "select count(*), count(distinct event_id) from pgrelay.deliveries where replay_id = 1"
    ).fetchone() or (0, 0)
    progress = world.db.execute(
        "select events, queued, skipped, succeeded, failed from pgrelay.replay_progress"
    )
    arrived = {seen.header("webhook-id") for seen in world.receiver.seen_at("/hook")[before:]}
    assert made == events == len(arrived) == 400
    assert progress.fetchone() == (events, events, 0, events, 0)
