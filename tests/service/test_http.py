"""What a running daemon answers over HTTP."""

import asyncio
import socket

import aiohttp
import psycopg
import pytest

from pgrelay.errors import Refused
from pgrelay.observation import HttpServing
from support.api import make_token
from support.daemon import daemon
from support.database import Database


async def test_a_daemon_that_is_told_to_listen_says_that_it_lives(database: Database):
    async with daemon(database.dsn, {"http.listen": "127.0.0.1:0"}) as one, aiohttp.ClientSession() as client:
        (serving,) = one.of(HttpServing)
        async with client.get(f"{serving.url}/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")


async def test_an_address_that_is_taken_is_named_and_the_daemon_does_not_start(database: Database):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused, match=f"Cannot listen at {listen}: .* in use"):
            async with asyncio.timeout(30), daemon(database.dsn, {"http.listen": listen}):
                pass


async def test_a_daemon_that_listens_serves_the_api(database: Database, db: psycopg.Connection):
    token = make_token(db, "admin")
    async with daemon(database.dsn, {"http.listen": "127.0.0.1:0"}) as one, aiohttp.ClientSession() as client:
        (serving,) = one.of(HttpServing)
        headers = {"Authorization": f"Bearer {token}"}
        async with client.get(f"{serving.url}/api/v1/stats", headers=headers) as answer:
            assert (answer.status, (await answer.json())["webhooks"]) == (200, 0)
