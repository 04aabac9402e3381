"""`pgrelay webhooks test`: a test event to a real endpoint, and the story of what came back."""

import asyncio
import time

from pgrelay.cli.context import Context
from pgrelay.cli.story import print_attempt
from pgrelay.db import admin_deliveries, admin_upkeep, admin_webhooks
from pgrelay.db.admin import Admin, Row
from pgrelay.spans import duration

#: Seconds between looks for the result.
_PAUSE = 0.1


async def test(context: Context) -> int:
    """0 if the endpoint answered 2xx, 1 if it did not, or nobody sent it in time."""
    if context.argument("explain"):
        from pgrelay.cli.doctor import explain

        return await explain(context)
    out, webhook_id, wait = context.out, context.argument("id"), context.argument("wait")
    async with context.admin() as admin:
        event_id = await admin_webhooks.send_test(admin, webhook_id)
        health = await admin_upkeep.health(admin)
        if not health["daemons_alive"]:
            out.value({"event_id": event_id, "result": "no daemon is running"})
            out.say("The test event waits: no daemon is running to send it. Start one: pgrelay run")
            return 1
        story = await _attempted(admin, event_id, webhook_id, wait)
        out.value(story or {"event_id": event_id, "result": f"nothing happened within {wait:g} s"})
        if story is None:
            again = f"Look again: pgrelay deliveries list --webhook {webhook_id}"
            out.say(f"Nothing came back within {duration(wait)}. {again}")
            return 1
        attempt = story["attempts_made"][-1]
        if not out.json:
            print_attempt(out, attempt, await admin.now())
        if attempt["error_kind"] is None:
            return 0
        if story["status"] == "pending":
            out.say(f"It will be tried again. Stop that: pgrelay deliveries cancel {story['id']}")
        return 1


async def _attempted(admin: Admin, event_id: int, webhook_id: int, wait: float) -> Row | None:
    """The story of the test's delivery as soon as it has an attempt; None if it has none in time."""
    until = time.monotonic() + wait
    while time.monotonic() < until:
        delivery = await admin_webhooks.delivery_of(admin, event_id, webhook_id)
        if delivery is not None and delivery["attempts"]:
            story = await admin_deliveries.story(admin, delivery["id"])
            if story["attempts_made"]:
                return story
        await asyncio.sleep(_PAUSE)
    return None
