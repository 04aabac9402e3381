"""Who may do what over the REST API: every route, with every kind of wrong token."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import aiohttp
import psycopg
import pytest

from pgrelay.api.app import CONNECTIONS
from pgrelay.api.route import Route
from pgrelay.api.table import ROUTES
from pgrelay.observation import ApiFailed, LoginRefused
from support.api import Api, Client, Reply, make_token, nothing_sent, serving_api
from support.database import Database, Role
from support.queue import add_event, add_webhook, expand, failed, record, sign_on, value

#: Bodies that each route would take.
BODIES: dict[str, Any] = {
    "create_webhook": {"name": "n", "url": "https://example.com/", "subscribed_events": ["*"]},
    "change_webhook": {"name": "taken over"},
    "replay": {"since": "2020-01-01T00:00:00Z"},
}
route_names = [route.name for route in ROUTES]


class World(NamedTuple):
    """Ids of what belongs to tenant 2, for the names in paths."""

    webhook_id: int
    event_id: int
    delivery_id: int
    replay_id: int


@pytest.fixture
async def api(login: Role) -> AsyncIterator[Api]:
    async with serving_api(login.dsn, send=nothing_sent) as made:
        yield made


@pytest.fixture
def world(db: psycopg.Connection) -> World:
    webhook, event = add_webhook(db, "2", name="theirs"), add_event(db, company_id="2", resource_id="theirs")
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    assert record(db, daemon, failed(lease)) == []
    db.execute("update pgrelay.webhook_configurations set paused = true")
    replay = value(db, "select pgrelay.start_replay(%s, '-infinity')", webhook)
    db.execute("update pgrelay.webhook_configurations set paused = false")
    return World(webhook, event, lease.delivery_id, replay)


def everything(db: psycopg.Connection) -> list[Any]:
    """All that a request could have changed."""
    return [
        db.execute(f"select * from pgrelay.{name} order by 1".encode()).fetchall()
        for name in (
            "webhook_configurations",
            "delivery_queue",
            "delivery_history",
            "outbox",
            "subscriptions",
            "idempotency_keys",
            "replays",
        )
    ]


async def call(client: Client, route: Route, world: World, **headers: str) -> Reply:
    path = route.path.format(**world._asdict())
    options: dict[str, Any] = {"json": BODIES[route.name]} if route.name in BODIES else {}
    if route.if_match:
        headers = {"If-Match": "*", **headers}
    return await client.request(route.method, path, headers=headers, **options)


@pytest.mark.parametrize("name", route_names)
async def test_nothing_is_answered_without_a_good_token(
    api: Api, db: psycopg.Connection, world: World, name: str
):
    db.execute(
        "insert into pgrelay.api_tokens (name, role, digest, revoked_at, expires_at) values"
        " ('r', 'admin', sha256('revoked'), now(), null), ('e', 'admin', sha256('expired'), null, now())"
    )
    good = make_token(db, "admin")
    before = everything(db)
    (route,) = (route for route in ROUTES if route.name == name)
    bad = (
        "Bearer",
        "Bearer pgrelay_wrong",
        "Basic YTpi",
        "Bearer revoked",
        "Bearer expired",
        good,
        f"Bearer {good}x",
    )
    for headers in ({}, *({"Authorization": text} for text in bad)):
        refused = await call(api.client(), route, world, **headers)
        assert refused.status == 401
        assert refused.faults[0]["header"] == "Authorization"
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert everything(db) == before


@pytest.mark.parametrize("name", route_names)
async def test_a_tenant_meets_nothing_of_anothers_on_any_route(
    api: Api, db: psycopg.Connection, world: World, name: str
):
    (route,) = (route for route in ROUTES if route.name == name)
    before = everything(db)
    tenant = api.client(make_token(db, "tenant", "1"))
    reply = await call(tenant, route, world)
    if "{" in route.path:
        assert reply.status == 404, "what is another's does not exist"
    elif route.name == "create_webhook":
        assert (reply.status, reply.body["company_id"]) == (201, "1")
        db.execute("delete from pgrelay.webhook_configurations where company_id = '1'")
    else:
        assert reply.status == 200
        assert "theirs" not in str(reply.body)
    for query in (
        "?company_id=2",
        f"?webhook_id={world.webhook_id}",
        f"?event_id={world.event_id}",
        "?resource_id=theirs",
    ):
        if query[1:].split("=")[0] in route.query:
            reply = await tenant.get(f"{route.path}{query}")
            assert reply.body.get("items", []) == []
            assert reply.body.get("webhooks", 0) == 0
    assert everything(db) == before


@pytest.mark.parametrize("name", route_names)
async def test_an_owner_meets_its_own_on_every_route(
    api: Api, db: psycopg.Connection, world: World, name: str
):
    """Else the test above would pass for a route that finds nothing whoever asks."""
    (route,) = (route for route in ROUTES if route.name == name)
    if route.name == "cancel_delivery":
        db.execute("select pgrelay.retry_delivery(%s)", (world.delivery_id,))
    if route.name == "end_overlap":
        db.execute("select pgrelay.rotate_secret(%s)", (world.webhook_id,))
    if route.name == "resume_replay":
        db.execute("select pgrelay.stop_replay(%s)", (world.replay_id,))
    reply = await call(api.client(make_token(db, "tenant", "2")), route, world)
    assert reply.status == route.status, reply.body
    if "items" in (reply.body or {}):
        assert reply.body["items"] != []


@pytest.mark.parametrize("name", route_names)
async def test_a_reader_reads_everything_and_changes_nothing(
    api: Api, db: psycopg.Connection, world: World, name: str
):
    (route,) = (route for route in ROUTES if route.name == name)
    before = everything(db)
    reply = await call(api.client(make_token(db, "reader")), route, world)
    assert reply.status == (403 if route.changes else 200), reply.body
    assert everything(db) == before
    assert "whsec_" not in str(reply.body)


async def test_a_tenant_cannot_make_a_webhook_for_another(api: Api, db: psycopg.Connection):
    tenant = api.client(make_token(db, "tenant", "1"))
    refused = await tenant.post("/webhooks", json={**BODIES["create_webhook"], "company_id": "2"})
    assert (refused.status, refused.faults[0]["pointer"]) == (422, "/company_id")
    refused = await tenant.patch("/webhooks/1", 1, json={"company_id": "2"})
    assert (refused.status, refused.faults[0]["pointer"]) == (422, "/company_id")


async def test_a_connection_serves_one_after_another_without_a_trace_of_the_one_before(
    api: Api, db: psycopg.Connection, world: World
):
    mine, admin = api.client(make_token(db, "tenant", "1")), api.client(make_token(db, "admin"))
    for _ in range(3):
        assert (await mine.get("/webhooks")).body["items"] == []
        assert len((await admin.get("/webhooks")).body["items"]) == 1
        assert (await mine.get(f"/webhooks/{world.webhook_id}")).status == 404


async def test_a_token_ends_the_moment_it_is_revoked(api: Api, db: psycopg.Connection):
    admin = api.client(make_token(db, "admin"))
    assert (await admin.get("/token")).body["role"] == "admin"
    used = db.execute("select last_used_at is not null from pgrelay.api_tokens").fetchone()
    assert used == (True,)
    db.execute("select pgrelay.revoke_token(1)")
    assert (await admin.get("/token")).status == 401


async def test_who_fails_too_often_must_wait_and_others_behind_the_same_address_need_not(
    api: Api, db: psycopg.Connection
):
    good = api.client(make_token(db, "admin"))
    assert (await good.get("/token")).status == 200
    bad = api.client("pgrelay_guessed")
    assert [(await bad.get("/token")).status for _ in range(12)] == [401] * 10 + [429] * 2
    refused = await bad.get("/token")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert (await good.get("/token")).status == 200
    assert [one.address for one in api.observed if isinstance(one, LoginRefused)] == ["127.0.0.1"] * 10


async def test_a_role_that_may_not_act_for_tenants_is_told_in_the_log_which_grant_it_lacks(
    db: psycopg.Connection, role: Callable[..., Role]
):
    made = role("api")
    db.execute(f"grant pgrelay_admin to {made.name}".encode())
    async with serving_api(made.dsn) as api:
        refused = await api.client(make_token(db, "tenant", "1")).get("/webhooks")
        assert (refused.status, refused.body["type"]) == (503, "urn:pgrelay:problem:not-granted")
        assert made.name not in str(refused.body)
        (told,) = (one for one in api.observed if isinstance(one, ApiFailed))
        assert f"grant pgrelay_tenant to {made.name};" in told.reason
        assert (await api.client(make_token(db, "admin")).get("/webhooks")).status == 200


async def test_where_the_role_does_not_exist_tenants_are_refused_and_admins_are_not(
    api: Api, db: psycopg.Connection
):
    tenant, admin = api.client(make_token(db, "tenant", "1")), api.client(make_token(db, "admin"))
    db.execute("alter role pgrelay_tenant rename to pgrelay_tenant_hidden")
    try:
        refused = await tenant.get("/webhooks")
        assert (refused.status, refused.body["type"]) == (503, "urn:pgrelay:problem:not-granted")
        (told,) = (one for one in api.observed if isinstance(one, ApiFailed))
        assert "create role pgrelay_tenant" in told.reason
        assert (await admin.get("/webhooks")).status == 200
    finally:
        db.execute("alter role pgrelay_tenant_hidden rename to pgrelay_tenant")
    assert (await tenant.get("/webhooks")).status == 200


async def test_more_requests_than_connections_wait_their_turn(api: Api, db: psycopg.Connection):
    clients = [api.client(make_token(db, "tenant", str(number))) for number in range(5)]
    add_webhook(db, "3")
    answers = await asyncio.gather(*(client.get("/webhooks") for client in clients * 10))
    assert {answer.status for answer in answers} == {200}
    assert [len(answer.body["items"]) for answer in answers] == [0, 0, 0, 1, 0] * 10
    connections = "select count(*) from pg_stat_activity where application_name = 'pgrelay api'"
    assert value(db, connections) <= CONNECTIONS


async def test_a_client_that_hangs_up_leaves_nothing_behind(api: Api, db: psycopg.Connection):
    admin = api.client(make_token(db, "admin"))
    webhook = add_webhook(db)
    with db.transaction():
        db.execute("select from pgrelay.webhook_configurations for update")
        for _ in range(CONNECTIONS + 1):
            with pytest.raises(TimeoutError):
                await admin.patch(
                    f"/webhooks/{webhook}", 1, json={"name": "x"}, timeout=aiohttp.ClientTimeout(total=0.2)
                )
        while value(db, "select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)
    assert (await admin.get(f"/webhooks/{webhook}")).body["name"] == "orders"
    assert not [one for one in api.observed if isinstance(one, ApiFailed)]
    assert (await admin.patch(f"/webhooks/{webhook}", 1, json={"name": "y"})).status == 200


async def test_a_connection_that_died_while_nobody_used_it_is_not_noticed(api: Api, db: psycopg.Connection):
    admin = api.client(make_token(db, "admin"))
    assert (await admin.get("/webhooks")).status == 200
    db.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'pgrelay api'"
    )
    assert (await admin.get("/webhooks")).status == 200


async def test_a_database_that_is_away_is_a_problem_and_not_a_crash(
    database: Database, db: psycopg.Connection
):
    async with serving_api(re.sub("port=[0-9]+", "port=1", database.tcp_dsn)) as api:
        refused = await api.client(make_token(db, "admin")).get("/webhooks")
        assert (refused.status, refused.body["type"]) == (503, "urn:pgrelay:problem:database-unavailable")


async def test_every_answer_carries_the_headers_that_keep_browsers_out(api: Api, db: psycopg.Connection):
    admin = api.client(make_token(db, "admin"))
    for reply in (
        await admin.get("/webhooks"),
        await admin.get("/nowhere"),
        await api.client().get("/webhooks"),
        await admin.get("/openapi.json"),
    ):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert "aiohttp" not in reply.headers["Server"]


async def test_a_path_or_a_method_that_is_not_there_is_a_problem(api: Api, db: psycopg.Connection):
    admin = api.client(make_token(db, "admin"))
    for path in ("/nowhere", "/webhooks/x", "/webhooks/99999999999999999999", "/webhooks/0"):
        missing = await admin.get(path)
        assert (missing.status, missing.faults) == (404, [])
    wrong = await admin.request("PUT", "/webhooks/1")
    assert (wrong.status, wrong.faults) == (405, [])
    assert {"GET", "PATCH", "DELETE"} <= set(wrong.headers["Allow"].split(","))
