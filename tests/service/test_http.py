"""What a running daemon answers over HTTP: whether it lives, whether it delivers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import psycopg
import pytest

from pgrelay.errors import Refused
from pgrelay.observation import DatabaseLost, HttpServing
from support import factories
from support.api import make_token
from support.daemon import PATIENCE, Running, daemon
from support.database import Database, connections_refused

LISTENING = {"http.listen": "127.0.0.1:0"}


async def test_a_daemon_that_is_told_to_listen_says_that_it_lives_and_delivers(database: Database):
    async with daemon(database.dsn, LISTENING) as one:
        assert await get(one, "/healthz") == (200, "ok\n")
        assert await get(one, "/readyz") == (200, "ok\n")


async def test_an_address_that_is_taken_is_named_and_the_daemon_does_not_start(database: Database):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=f"Cannot listen at {listen}: .* in use"):
            async with asyncio.timeout(30), daemon(database.dsn, {"http.listen": listen}):
                pass


async def test_a_daemon_that_listens_serves_the_api(database: Database, db: psycopg.Connection):
    token = make_token(db, "admin")
    async with daemon(database.dsn, LISTENING) as one, aiohttp.ClientSession() as client:
        (serving,) = one.of(HttpServing)
        headers = {"Authorization": f"Bearer {token}"}
        async with client.get(f"{serving.url}/api/v1/stats", headers=headers) as answer:
            assert (answer.status, (await answer.json())["webhooks"]) == (200, 0)


async def test_a_daemon_that_waits_for_the_database_lives_and_is_not_ready(database: Database):
    nobody = "host=127.0.0.1 port=1 dbname=nothing"
    async with started(nobody) as one:
        await one.seen(DatabaseLost)
        assert await get(one, "/healthz") == (200, "ok\n")
        status, reason = await get(one, "/readyz")
        assert (status, reason.split(":")[0]) == (503, "waiting for the database")


async def test_a_daemon_that_cannot_beat_is_not_ready_and_is_again_when_the_database_is_back(
    database: Database,
):
    async with daemon(database.dsn, {**LISTENING, "daemon.lease": 1.0}) as one:
        with connections_refused(database):
            _, reason = await until_ready_is(one, 503)
            assert reason.startswith("the lease is not held: no heartbeat")
        assert (await until_ready_is(one, 200))[0] == 200


async def test_a_daemon_that_stops_is_not_ready_any_more(database: Database):
    async with daemon(database.dsn, LISTENING) as one:
        one.daemon.stop("for a test")
        assert await get(one, "/readyz") == (503, "stopping: for a test\n")


@contextlib.asynccontextmanager
async def started(dsn: str) -> AsyncIterator[Running]:
    """A daemon that may never get as far as to deliver."""
    one = Running(factories.settings(dsn, LISTENING))
    one.start()
    assert one.task is not None
    try:
        yield one
    finally:
        one.daemon.stop()
        await one.task


async def get(one: Running, path: str) -> tuple[int, str]:
    (serving,) = await one.seen(HttpServing)
    async with aiohttp.ClientSession() as client, client.get(serving.url + path) as answer:
        return answer.status, await answer.text()


async def until_ready_is(one: Running, status: int) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await get(one, "/readyz")
            if answer[0] == status:
                return answer
            await asyncio.sleep(0.05)
