"""The REST API on a free port of this machine, and clients that carry tokens.

async with serving_api(database.dsn) as api:
    admin = api.client(make_token(db, "admin"))
    answer = await admin.post("/webhooks", json={…})
    assert answer.status == 201, answer.body
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp
import psycopg

from pgrelay.api.app import SERVICES, api_app, make_app
from pgrelay.api.server import serving
from pgrelay.db.connect import Connection, connect
from pgrelay.db.tokens import digest
from pgrelay.delivery import Request, Webhook
from pgrelay.doctor.trial import TryOut, try_out
from pgrelay.observation import Observation
from pgrelay.page.site import add_page
from pgrelay.request import RequestBuilder
from pgrelay.sealing import Keyring
from pgrelay.transport import Probe
from support import factories


def make_token(db: psycopg.Connection, role: str, company_id: str | None = None, name: str = "a test") -> str:
    """A token that is good; itself."""
    row = db.execute("select count(*) from pgrelay.api_tokens").fetchone()
    assert row is not None
    token = f"pgrelay_{role}{company_id or ''}_{row[0]}"
    db.execute(
        "insert into pgrelay.api_tokens (name, role, company_id, digest) values (%s, %s, %s, %s)",
        (name, role, company_id, digest(token)),
    )
    return token


class Reply(NamedTuple):
    """What came back; `body` is what its JSON says."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def faults(self) -> list[dict[str, str]]:
        """The errors of a problem, which is one by its type."""
        assert self.headers["Content-Type"] == "application/problem+json; charset=utf-8"
        assert self.body["status"] == self.status
        found: list[dict[str, str]] = self.body.get("errors", [])
        return found


class Client:
    """Asks with one token, or without any."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str | None) -> None:
        self._session = session
        self._url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def request(self, method: str, path: str, **options: Any) -> Reply:
        headers = {**self._headers, **options.pop("headers", {})}
        async with self._session.request(method, f"{self._url}{path}", headers=headers, **options) as answer:
            body = await answer.json(content_type=None) if await answer.read() else None
            return Reply(answer.status, answer.headers, body)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Reply:
        return await self.request("POST", path, **options)

    async def patch(self, path: str, version: int | None = None, **options: Any) -> Reply:
        if version is not None:
            options["headers"] = {"If-Match": f'"{version}"', **options.get("headers", {})}
        return await self.request("PATCH", path, **options)

    async def delete(self, path: str, version: int | None = None, **options: Any) -> Reply:
        if version is not None:
            options["headers"] = {"If-Match": f'"{version}"', **options.get("headers", {})}
        return await self.request("DELETE", path, **options)


class Api(NamedTuple):
    """One that is running."""

    url: str
    session: aiohttp.ClientSession
    observed: list[Observation]

    def client(self, token: str | None = None) -> Client:
        return Client(self.session, f"{self.url}/api/v1", token)


async def nothing_sent(webhook: Webhook) -> tuple[Request, Probe]:
    """Stands in for a test request, where the webhooks' URLs are not ours to call: it was accepted, so to speak."""
    request = RequestBuilder(webhook, "pgrelay").build(factories.claim(), int(time.time()))
    accepted = Probe(status=204, seconds={"whole": 0.01}, answered_at=datetime.now(UTC), by_proxy=True)
    return request, accepted


@asynccontextmanager
async def serving_api(dsn: str, key: str = "", send: TryOut | None = None) -> AsyncIterator[Api]:
    """Serve it while the block lasts; `key` seals secrets, `send` makes test requests instead of the transport."""
    observed: list[Observation] = []

    async def open_connection() -> Connection:
        return await connect(dsn, application_name="pgrelay api")

    settings = factories.settings(dsn)
    send = send or (lambda webhook: try_out(settings, webhook))
    api = api_app(open_connection, observed.append, Keyring(key), send)
    served = make_app(unready=lambda: None, render_metrics=lambda _: (b"", "text/plain"), api=api)
    add_page(served, api[SERVICES])
    async with (
        serving(served, "127.0.0.1:0") as url,
        aiohttp.ClientSession() as session,
    ):
        yield Api(url, session, observed)
