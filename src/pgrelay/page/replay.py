"""Replay: counted first, then sent for exactly the time that was counted."""

import secrets
from datetime import UTC, datetime

from pgrelay.page.view import Page, View, faults_by_field


async def show(view: View) -> Page:
    view.refuse_readers()
    return await _page(view, {"since": "", "until": ""})


async def send(view: View) -> Page:
    """Count, or send when it was counted. Times without an offset are UTC, as the form says."""
    now = datetime.now(UTC).isoformat()
    typed = {name: view.form.get(name, "").strip() for name in ("since", "until")}
    body = {"since": _moment(typed["since"]), "until": _moment(typed["until"] or now)}
    if view.form.get("do") == "send":
        done, problem = await view.attempt("replay", body=body, key=view.form.get("key"))
    else:
        done, problem = await view.attempt("replay", body={**body, "dry_run": True})
    page = await _page(view, typed, counted=body, done=done, faults=faults_by_field(problem))
    return page if problem is None else page._replace(status=problem.status)


async def _page(view: View, typed: dict[str, str], **more: object) -> Page:
    values = {
        "webhook": await view.ask("read_webhook"),
        "values": typed,
        "counted": None,
        "done": None,
        "faults": {},
        "key": secrets.token_urlsafe(),
        **more,
    }
    return Page("replay.html", values)


def _moment(text: str) -> str:
    """What a browser's field for a date and time holds has no offset; what cannot be read is left for the schema."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return text


PATHS = [
    ("GET", "/webhooks/{webhook_id:[0-9]+}/replay", show),
    ("POST", "/webhooks/{webhook_id:[0-9]+}/replay", send),
]
