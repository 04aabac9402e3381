"""The API does what its own document says: schemathesis makes requests of all kinds, good and bad, from the document.

Each route in turn, on a Postgres with something in it. Answers must be of a status, a type and a schema that the document
names; bad requests must be refused; nothing may be a fault of ours. How many requests: PGRELAY_TEST_EXAMPLES.
"""

import asyncio
import os
import threading
from collections.abc import Iterator

import hypothesis
import psycopg
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks

from pgrelay.api import auth, openapi
from pgrelay.observation import ApiFailed
from support.api import Api, make_token, nothing_sent, serving_api
from support.database import Database
from support.queue import add_event, add_webhook, expand, failed, record, sign_on

_EXAMPLES = int(os.environ.get("PGRELAY_TEST_EXAMPLES", "10"))
_CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {"missing_required_header": {"expected-statuses": [401, 422, 428]}}
    }  # 428: RFC 6585 for If-Match
)
schema = schemathesis.openapi.from_dict(openapi.document(), config=_CONFIG)


@pytest.fixture
def served(
    database: Database, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Api, dict[str, str]]]:
    """The API in a thread of its own, for the client of schemathesis blocks; headers with a good token."""
    monkeypatch.setattr(auth, "_FAILURES", 1_000_000)  # it tries many bad tokens, on purpose
    for company in ("1", "2"):
        add_webhook(db, company)
        add_event(db, company_id=company)
    daemon = sign_on(db)
    assert record(db, daemon, *map(failed, expand(db, daemon).leases)) == []
    token = make_token(db, "admin")
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    made: list[Api] = []

    async def serve() -> None:
        async with serving_api(database.dsn, send=nothing_sent) as api:
            made.append(api)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield made[0], {"Authorization": f"Bearer {token}"}
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@schema.parametrize()
@hypothesis.settings(
    max_examples=_EXAMPLES,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_a_route_keeps_to_its_document(case: schemathesis.Case, served: tuple[Api, dict[str, str]]):
    api, headers = served
    part = case.meta.components.get(ParameterLocation.HEADER) if case.meta else None
    if case.meta and case.meta.generation.mode is GenerationMode.POSITIVE:
        # ids drawn at random would find nothing, tags of versions not fit: most become some that do
        case.path_parameters = {
            name: number % 2 + 1 if isinstance(number, int) and number % 4 else number
            for name, number in (case.path_parameters or {}).items()
        }
        if case.headers.get("If-Match") and len(case.headers["If-Match"]) % 2:
            case.headers["If-Match"] = "*"
    elif part is not None and part.mode is GenerationMode.NEGATIVE:
        headers = {}  # the bad header may be that of the token
    case.call_and_validate(
        base_url=f"{api.url}/api/v1",
        headers=headers,
        # what the document cannot say is refused too: a URL without a host, a time before another, an unknown cursor
        excluded_checks=[checks.positive_data_acceptance],
    )
    assert [one for one in api.observed if isinstance(one, ApiFailed)] == []
