"""A signed test request past the queue, and what each step of it tells. As many at a time as `place` lets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from pgrelay.api import webhooks
from pgrelay.api.call import Answer, Call, Later
from pgrelay.api.fields import ref
from pgrelay.api.problems import Problem
from pgrelay.api.route import Route
from pgrelay.db import admin_webhooks
from pgrelay.doctor import diagnosis
from pgrelay.doctor.account import as_row
from pgrelay.doctor.trial import TryOut

#: Requests at a time; a receiver may take two minutes to answer.
_AT_ONCE = 4
_places = asyncio.Semaphore(_AT_ONCE)


async def explain(call: Call) -> Later:
    row = await webhooks.found(call)
    webhook = await admin_webhooks.opened(call.admin, row["id"], call.keys)

    async def work(try_out: TryOut) -> Answer:
        async with place():
            request, found = await try_out(webhook)
        return Answer(as_row(row["id"], request, found, diagnosis.findings(found, request, row)))

    return Later(work)


@asynccontextmanager
async def place() -> AsyncIterator[None]:
    """Room for one test request. Raises Problem (503) where there is none."""
    if _places.locked():
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "too-many-tests",
            "too many receivers are tried out at the moment; come back in a few seconds",
            headers={"Retry-After": "10"},
        )
    async with _places:
        yield


ROUTES = [
    Route(
        "POST",
        "/webhooks/{webhook_id}/explain",
        "explain_webhook",
        "Send it a test request now, and see what each step of it tells",
        explain,
        ref("Explained"),
        description="Past the queue, also to a paused or inactive webhook; no delivery is recorded."
        " The answer comes when the receiver's has, or its timeout_seconds are over.",
        may_conflict=True,
    )
]
