"""The server dies and its standby takes over: what was committed is delivered from there, and nobody need say so."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.database import install_application
from support.factories import request_a_callback, watch_callbacks
from support.process import daemon_process, eventually
from support.queue import add_webhook
from support.receiver import Receiver
from support.standby import Pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The sample application is on both, watched, with pgrelay."""
    with Pair.start() as made:
        with install_application(made.primary).connect() as connection:
            watch_callbacks(connection)
        made.wait_until_copied()
        yield made


def write_until(stop: threading.Event, dsn: str, committed: list[str]) -> None:
    """The application: a row a transaction, on whichever server takes it; `committed` is what it was told is."""
    number = 0
    while not stop.is_set():
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=2) as connection:
                while not stop.is_set():
                    number += 1
                    request_a_callback(connection, f"caller {number}")
                    committed.append(f"caller {number}")
                    stop.wait(0.005)
        except psycopg.OperationalError:
            stop.wait(0.05)


def arrived(receiver: Receiver) -> set[str]:
    return {
        json.loads(request.body)["data"]["callback_request"]["customer_name"] for request in receiver.seen
    }


async def test_a_daemon_that_knows_both_servers_goes_on_with_the_promoted_one_and_nothing_committed_is_lost(
    pair: Pair, tmp_path: Path
) -> None:
    stop, committed = threading.Event(), list[str]()
    async with Receiver() as receiver:
        with psycopg.connect(pair.primary.dsn("crm"), autocommit=True) as connection:
            add_webhook(connection, url=receiver.url("/hook"), max_retry_attempts=100)
        writing = asyncio.create_task(asyncio.to_thread(write_until, stop, pair.dsn("crm"), committed))
        try:
            with daemon_process(tmp_path, pair.dsn("crm")) as daemon:
                await receiver.wait_for(50)
                await asyncio.to_thread(pair.fail_over)
                before = len(committed)
                await eventually(
                    lambda: len(committed) > before + 50, "the application writes to the promoted server"
                )
                stop.set()
                await writing
                with psycopg.connect(pair.standby.dsn("crm"), autocommit=True) as connection:
                    rows = {
                        row[0] for row in connection.execute("select customer_name from callback_requests")
                    }
                    assert set(committed) <= rows
                    await eventually(lambda: arrived(receiver) >= rows, "all that was committed arrives")
                    assert arrived(receiver) == rows
                    left = "select events_waiting + deliveries_pending + deliveries_in_flight from pgrelay.health"
                    await eventually(lambda: connection.execute(left).fetchone() == (0,), "all is recorded")
                    ends = connection.execute("select distinct status from pgrelay.deliveries").fetchall()
                    assert ends == [("succeeded",)]
                daemon.end()
                assert daemon.said("database_lost") and daemon.said("database_back")
        finally:
            stop.set()
            await writing


async def test_a_daemon_that_is_led_to_a_standby_says_so_and_serves_it_once_it_is_promoted(
    pair: Pair, tmp_path: Path
) -> None:
    async with Receiver() as receiver:
        with psycopg.connect(pair.primary.dsn("crm"), autocommit=True) as connection:
            add_webhook(connection, url=receiver.url("/hook"))
            request_a_callback(connection, "Zoe")
        with daemon_process(tmp_path, pair.standby.dsn("crm", tcp=True)) as daemon:
            await daemon.says("database_is_standby")
            assert receiver.seen == []
            await asyncio.to_thread(pair.fail_over)
            await receiver.wait_for(1, within=60)
            assert daemon.said("daemon_started")
            with psycopg.connect(pair.standby.dsn("crm"), autocommit=True) as connection:
                request_a_callback(connection, "Yan")
            await receiver.wait_for(2, within=60)
    assert arrived(receiver) == {"Zoe", "Yan"}
