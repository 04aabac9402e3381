"""The doctor: a signed test request past the queue, and what each step of it tells."""

import asyncio
from http import HTTPStatus

from pgrelay.api.problems import Problem
from pgrelay.db import admin_webhooks
from pgrelay.doctor import diagnosis
from pgrelay.page.view import Later, Page, View

#: Requests at a time; a receiver may take two minutes to answer.
_AT_ONCE = 4
_places = asyncio.Semaphore(_AT_ONCE)


async def explain(view: View) -> Later:
    view.refuse_readers()
    row = await view.ask("read_webhook")
    webhook = await admin_webhooks.opened(view.admin, row["id"], view.keys)

    async def work() -> Page:
        if _places.locked():
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-many-tests",
                "too many receivers are tried out at the moment; come back in a few seconds",
                headers={"Retry-After": "10"},
            )
        async with _places:
            request, found = await view.try_out(webhook)
        values = {
            "webhook": row,
            "well": diagnosis.answered_well(found),
            "findings": diagnosis.findings(found, request, row),
        }
        return Page("explained.html", values)

    return Later(work)


PATHS = [("POST", "/webhooks/{webhook_id:[0-9]+}/explain", explain)]
