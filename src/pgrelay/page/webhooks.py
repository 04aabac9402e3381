"""Webhooks: the list, one of them, and the buttons on its page."""

import secrets
from datetime import UTC, datetime
from urllib.parse import urlencode

from pgrelay.db import admin_page
from pgrelay.db.webhook_states import STATES
from pgrelay.page.view import Goto, Page, View, faults_by_field

_LATEST = "10"
_FILTERS = ("name", "state", "company_id")


async def show_list(view: View) -> Page:
    query = {name: view.query[name].strip() for name in (*_FILTERS, "cursor") if name in view.query}
    found, problem = await view.attempt("list_webhooks", query={**query, "limit": "50"})
    found = found or {"items": [], "next_cursor": None}
    filters = {name: query[name] for name in _FILTERS if name in query}
    values = {
        **found,
        "conditions": await admin_page.conditions(view.admin, [row["id"] for row in found["items"]]),
        "filters": filters,
        "filtered": urlencode(filters),
        "paged": "cursor" in query,
        "states": STATES,
        "faults": faults_by_field(problem),
    }
    page = Page("webhooks.html", values)
    return page if problem is None else page._replace(status=problem.status)


async def show(view: View) -> Page:
    return await shown(view)


async def shown(view: View, **more: object) -> Page:
    """The page of one webhook; `more`: what was just done."""
    webhook = await view.ask("read_webhook")
    latest = await view.ask("list_deliveries", query={"webhook_id": str(webhook["id"]), "limit": _LATEST})
    values = {
        "webhook": webhook,
        "condition": (await admin_page.conditions(view.admin, [webhook["id"]]))[webhook["id"]],
        "deliveries": latest["items"],
        "overlaps": (ends := webhook["previous_secret_expires_at"]) is not None and ends > datetime.now(UTC),
        "key": secrets.token_urlsafe(),
        "secret": None,
        "said": None,
        **more,
    }
    return Page("webhook.html", values)


async def act(view: View) -> Page | Goto:
    """One of the buttons. What cannot be done as things stand is said on the same page."""
    webhook_id, verb = view.path["webhook_id"], view.form.get("do", "")
    if verb == "test":
        made, problem = await view.attempt("test_webhook", key=view.form.get("key"))
        if problem is None:
            return Goto(f"/webhooks/{webhook_id}/tests/{made['event_id']}")
    elif verb == "delete":
        _, problem = await view.attempt("delete_webhook")
        if problem is None:
            return Goto("/webhooks?done=deleted")
    elif verb in ("rotate", "reveal"):
        made, problem = await view.attempt(f"{verb}_secret", body={})
        if problem is None:
            return await shown(view, secret=made["secret_key"] or "")
    elif verb == "end":
        version = view.form.get("version", "")
        _, problem = await view.attempt("end_overlap", version=int(version) if version.isdecimal() else 0)
        if problem is None:
            return Goto(f"/webhooks/{webhook_id}?done=ended")
    else:
        operation, body, done = _VERBS.get(verb, _VERBS["pause"])
        _, problem = await view.attempt(operation, body=body)
        if problem is None:
            return Goto(f"/webhooks/{webhook_id}?done={done}")
    page = await shown(view, said=problem.detail)
    return page._replace(status=problem.status)


_VERBS: dict[str, tuple[str, dict[str, object], str]] = {
    "enable": ("enable_webhook", {}, "enabled"),
    "disable": ("disable_webhook", {}, "disabled"),
    "pause": ("change_webhook", {"paused": True}, "paused"),
    "resume": ("change_webhook", {"paused": False}, "resumed"),
}

PATHS = [
    ("GET", "/webhooks", show_list),
    ("GET", "/webhooks/{webhook_id:[0-9]+}", show),
    ("POST", "/webhooks/{webhook_id:[0-9]+}", act),
]
