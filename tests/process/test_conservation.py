"""Nothing is lost and nothing invented, whatever dies: daemons by SIGKILL, Postgres by a crash, receivers at random.

The application's own rows, written in the same transactions as the events, say what must have arrived.
PGRELAY_CHAOS_SECONDS makes the storm longer than its default.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import psycopg

from pgrelay.demo.cluster import Cluster
from support.database import VERSION
from support.receiver import Behaviour, Exchange, Receiver, hang, ok, reset, slow, status

SECONDS = float(os.environ.get("PGRELAY_CHAOS_SECONDS", "12"))
_SAMPLE = Path(__file__).parents[2] / "src/pgrelay/demo/sample.sql"
_ISOLATION = ["read committed", "repeatable read", "serializable"]


def write_until(stop: threading.Event, dsn: str, seed: int) -> None:
    """An application: inserts and updates at random isolation, some rolled back whole or to a savepoint."""
    chance = random.Random(seed)
    company = seed % 2 + 1
    while not stop.is_set():
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=2) as connection:
                while not stop.is_set():
                    with (
                        contextlib.suppress(_RolledBack, psycopg.errors.SerializationFailure),
                        connection.transaction(),
                    ):
                        connection.execute(
                            f"set transaction isolation level {chance.choice(_ISOLATION)}".encode()
                        )
                        _change_something(connection, chance, company)
                        if chance.random() < 0.2:
                            raise _RolledBack
        except psycopg.OperationalError:
            stop.wait(0.1)


class _RolledBack(Exception):
    pass


def _change_something(connection: psycopg.Connection, chance: random.Random, company: int) -> None:
    insert = "insert into callback_requests (company_id, customer_name, customer_phone) select %s, 'n', '1' from generate_series(1, %s) returning id"
    ids = [row[0] for row in connection.execute(insert, (company, chance.choice([1, 1, 1, 5, 40])))]
    with contextlib.suppress(_RolledBack), connection.transaction():
        connection.execute(
            "update callback_requests set status = 'contacted' where id = any (%s)",
            (ids[: len(ids) // 2 + 1],),
        )
        if chance.random() < 0.3:
            raise _RolledBack
    if chance.random() < 0.1:
        connection.execute("select pg_sleep(%s)", (chance.random() / 5,))


def moody(chance: random.Random) -> Behaviour:
    """Answers well two times in three."""
    bad = [status(500), status(503), reset(), slow(0.05), hang()]

    async def behave(exchange: Exchange) -> None:
        await chance.choices([ok(), *bad], weights=[70, 10, 8, 6, 5, 1])[0](exchange)

    return behave


def start_daemon(config: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pgrelay", "-c", str(config), "run"], stdout=subprocess.DEVNULL
    )


def prepare(cluster: Cluster, config: Path, receiver: Receiver) -> str:
    """The sample application, watched, with three webhooks of two tenants; returns its DSN."""
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create database crm")
    dsn = cluster.dsn("crm")
    example = (Path(__file__).parents[2] / "config.example.yaml").read_text()
    config.write_text(
        f"database: {{dsn: {json.dumps(dsn)}}}\n"
        "daemon: {lease: 2, drain_timeout: 3}\n"
        "delivery: {retry_schedule: [0.2]}\n"
        "network: {allow_http: true, allowed_networks: [127.0.0.0/8]}\n"
        + example[example.index("\nsources:") :]
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_SAMPLE.read_bytes())
    for command in ("migrate", "apply"):
        subprocess.run(
            [sys.executable, "-m", "pgrelay", "-c", str(config), command], check=True, capture_output=True
        )
    with psycopg.connect(dsn, autocommit=True) as connection:
        for company, name in ((1, "a"), (1, "b"), (2, "c")):
            connection.execute(
                "insert into pgrelay.webhook_configurations"
                " (company_id, name, url, subscribed_events, timeout_seconds, max_retry_attempts)"
                " values (%s, %s, %s, '{callback.*}', 1, 100)",
                (company, name, receiver.url(f"/{name}")),
            )
    return dsn


async def test_every_committed_event_arrives_whatever_dies_and_no_other(tmp_path: Path) -> None:
    chance = random.Random(20_261)
    cluster = await asyncio.to_thread(
        Cluster.start, tuned="durable", version=VERSION, settings={"max_connections": "60"}
    )
    stop = threading.Event()
    config = tmp_path / "pgrelay.yaml"
    loop = asyncio.get_running_loop()
    try:
        async with Receiver() as receiver:
            receiver.otherwise(moody(chance))
            dsn = await asyncio.to_thread(prepare, cluster, config, receiver)
            daemon = start_daemon(config)
            writers = [
                asyncio.create_task(asyncio.to_thread(write_until, stop, dsn, seed)) for seed in range(3)
            ]
            end, crash_at = loop.time() + SECONDS, loop.time() + SECONDS / 2
            kills = 0
            while loop.time() < end:
                await asyncio.sleep(
                    0.4 + chance.random()
                )  # the storm's own rhythm: there is no event to await
                daemon.kill()
                await asyncio.to_thread(daemon.wait)
                kills += 1
                if crash_at is not None and loop.time() > crash_at:
                    crash_at = end
                    await asyncio.to_thread(cluster.crash, "immediate")
                    await asyncio.to_thread(cluster.restart)
                daemon = start_daemon(config)
            stop.set()
            await asyncio.gather(*writers)
            receiver.otherwise(ok())
            expected = await asyncio.to_thread(_owed, dsn)
            async with asyncio.timeout(120):
                while await asyncio.to_thread(_unfinished, dsn):
                    await asyncio.sleep(0.1)
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(daemon.wait) == 0

            arrived, bodies = set(), defaultdict(set)
            for seen in receiver.seen:
                body = json.loads(seen.body)
                row = body["data"]["callback_request"]
                arrived.add((seen.path, row["id"], body["event"]))
                bodies[seen.path, seen.header("webhook-id")].add(seen.body)
            assert kills >= 5 and len(expected) > 100
            assert expected - arrived == set(), "lost"
            assert arrived - expected == set(), "invented"
            assert {key: len(versions) for key, versions in bodies.items() if len(versions) > 1} == {}
    finally:
        stop.set()
        await asyncio.to_thread(cluster.stop)


def _owed(dsn: str) -> set[tuple[str, int, str]]:
    """What the application's rows say: (path, row, event)."""
    owed = set()
    with psycopg.connect(dsn) as connection:
        for row_id, company, contacted in connection.execute(
            "select id, company_id, status = 'contacted' from callback_requests"
        ):
            for path in ("/a", "/b") if company == 1 else ("/c",):
                owed.add((path, row_id, "callback.created"))
                if contacted:
                    owed.add((path, row_id, "callback.contacted"))
    return owed


def _unfinished(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select events_waiting + deliveries_pending + deliveries_in_flight > 0 from pgrelay.health"
        ).fetchone()
    return row is None or bool(row[0])
