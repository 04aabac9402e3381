"""Deliveries: the list with its filters, and one with its attempts and its buttons."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pgrelay.db import admin_page
from pgrelay.delivery import Status
from pgrelay.page.view import Goto, Page, View, faults_by_field

_FILTERS = ("status", "webhook_id", "event_type", "event_id", "resource_id", "replay_id")
_PAGE = "50"
_ATTEMPTS = "50"


async def show_list(view: View) -> Page:
    query = {name: view.query[name].strip() for name in (*_FILTERS, "cursor") if name in view.query}
    found, problem = await view.attempt("list_deliveries", query={**query, "limit": _PAGE})
    filters = {name: query[name] for name in _FILTERS if name in query}
    values = {
        **(found or {"items": [], "next_cursor": None}),
        "filters": filters,
        "filtered": urlencode(filters),
        "paged": "cursor" in query,
        "webhooks": await _named(view),
        "statuses": [str(status) for status in Status],
        "faults": faults_by_field(problem),
    }
    page = Page("deliveries.html", values)
    return page if problem is None else page._replace(status=problem.status)


async def _named(view: View) -> dict[str, str]:
    """Names of webhooks by id, to choose from; none where there are too many for that."""
    found = await view.ask("list_webhooks", query={"limit": "100"})
    return {} if found["next_cursor"] else {str(one["id"]): one["name"] for one in found["items"]}


async def show(view: View) -> Page:
    return await _shown(view)


async def _shown(view: View, said: str | None = None) -> Page:
    delivery = await view.ask("read_delivery")
    attempts = await view.ask("list_attempts_of_delivery", query={"limit": _ATTEMPTS})
    event, _ = (
        await view.attempt("read_event", event_id=delivery["event_id"])
        if delivery["event_type"]
        else (None, None)
    )
    values = {
        "delivery": delivery,
        "attempts": attempts["items"],
        "more": attempts["next_cursor"] is not None,
        "event": event,
        "sent": await _sent(view, delivery) if event else None,
        "why": await admin_page.why_waiting(view.admin, delivery["id"]),
        "said": said,
        "refresh": 2 if delivery["status"] in ("pending", "in_flight") else None,
    }
    return Page("delivery.html", values)


async def _sent(view: View, delivery: Mapping[str, Any]) -> Any:
    """What is made of the event for its webhook; None if that is the event's body, or nobody knows."""
    if delivery["webhook_name"] is None:
        return None
    webhook_id = delivery["webhook_id"]
    webhook = await view.ask("read_webhook", webhook_id=webhook_id)
    if webhook["payload_format"] == "standard":
        return None
    made, problem = await view.attempt(
        "preview_webhook", webhook_id=webhook_id, body={"event_id": delivery["event_id"], "last": 1}
    )
    return (
        made
        if problem is None
        else {"payload_format": webhook["payload_format"], "not_shown": problem.detail}
    )


async def act(view: View) -> Page | Goto:
    """Retry or cancel. What cannot be done as things stand is said on the same page."""
    verb = "cancel" if view.form.get("do") == "cancel" else "retry"
    _, problem = await view.attempt(f"{verb}_delivery")
    if problem is None:
        done = {"cancel": "cancelled", "retry": "retried"}[verb]
        return Goto(f"/deliveries/{view.path['delivery_id']}?done={done}")
    return (await _shown(view, problem.detail))._replace(status=problem.status)


PATHS = [
    ("GET", "/deliveries", show_list),
    ("GET", "/deliveries/{delivery_id:[0-9]+}", show),
    ("POST", "/deliveries/{delivery_id:[0-9]+}", act),
]
