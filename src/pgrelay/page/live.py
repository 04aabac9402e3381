"""Live: the newest attempts, looked at again and again; and what becomes of a test.

A page like the others, which the script fetches again (static/page.js): no connection stays open, so nothing is held
for one who hangs up, and no proxy has to let a stream through. At most `_PLACES` are made at a time, so that those who
only look on do not take all connections; who comes too many is asked to come later, which the script does by itself.
"""

from collections.abc import Mapping
from typing import Any

from pgrelay.api.places import Places
from pgrelay.db import admin_page
from pgrelay.page.view import Page, View

_ROWS = 50
_EVERY = 2
#: A delivery that is over does not change any more.
_OVER = {"succeeded", "failed", "cancelled", "expired"}
_PLACES = Places(2, "too-many-watch", "look on", retry_after=3)


async def show(view: View) -> Page:
    async with _PLACES.one():
        return await _shown(view)


async def _shown(view: View) -> Page:
    text = view.query.get("webhook_id", "")
    webhook_id = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    failed = view.query.get("failed") == "1"
    webhooks = await view.ask("list_webhooks", query={"limit": "100"})
    values = {
        "attempts": await admin_page.latest(view.admin, webhook_id, failed, _ROWS),
        "webhooks": webhooks["items"],
        "webhook_id": webhook_id,
        "failed": failed,
        "refresh": _EVERY,
    }
    return Page("live.html", values)


async def show_test(view: View) -> Page:
    """What becomes of a test event: until it is delivered, or given up."""
    webhook = await view.ask("read_webhook", webhook_id=view.path["webhook_id"])
    event_id = view.path["event_id"]
    found = await view.ask(
        "list_deliveries", query={"event_id": str(event_id), "webhook_id": str(webhook["id"]), "limit": "1"}
    )
    delivery: Mapping[str, Any] | None = next(iter(found["items"]), None)
    attempts, why = [], None
    if delivery is not None:
        of = {"delivery_id": delivery["id"]}
        attempts = (await view.ask("list_attempts_of_delivery", query={"limit": "20"}, **of))["items"]
        why = await admin_page.why_waiting(view.admin, delivery["id"])
    values = {
        "webhook": webhook,
        "event_id": event_id,
        "delivery": delivery,
        "attempts": attempts,
        "why": why,
        "refresh": None if delivery is not None and delivery["status"] in _OVER else 1,
    }
    return Page("test.html", values)


PATHS = [
    ("GET", "/live", show),
    ("GET", "/webhooks/{webhook_id:[0-9]+}/tests/{event_id:[0-9]+}", show_test),
]
