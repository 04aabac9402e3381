"""Replay: counted first, then begun for exactly the time that was counted, watched, stopped and resumed."""

import secrets
from datetime import UTC, datetime

from pgrelay.page.view import Goto, Page, View, faults_by_field

#: Seconds after which a list with one that moves is looked at again.
_LIST_EVERY = 5


async def show_list(view: View) -> Page:
    query = {name: view.query[name] for name in ("webhook_id", "cursor") if name in view.query}
    found = await view.ask("list_replays", query={**query, "limit": "50"})
    moves = any(map(_moves, found["items"]))
    return Page("replays.html", {**found, "query": query, "refresh": _LIST_EVERY if moves else None})


async def show(view: View) -> Page:
    return await _shown(view)


async def _shown(view: View, said: str | None = None) -> Page:
    found = await view.ask("read_replay")
    return Page("replay.html", {"replay": found, "said": said, "refresh": _moves(found)})


def _moves(replay: dict[str, object]) -> int | None:
    """Seconds after which to look again."""
    return 2 if replay["status"] == "running" or replay["unfinished"] else None


async def act(view: View) -> Page | Goto:
    """Stop or resume. What cannot be done as things stand is said on the same page."""
    verb = "resume" if view.form.get("do") == "resume" else "stop"
    _, problem = await view.attempt(f"{verb}_replay")
    if problem is None:
        done = {"stop": "replay-stopped", "resume": "replay-resumed"}[verb]
        return Goto(f"/replays/{view.path['replay_id']}?done={done}")
    return (await _shown(view, problem.detail))._replace(status=problem.status)


async def show_form(view: View) -> Page:
    view.refuse_readers()
    return await _form(view, {"since": "", "until": "", "event_types": ""})


async def send(view: View) -> Page | Goto:
    """Count, or begin when it was counted. Times without an offset are UTC, as the form says."""
    now = datetime.now(UTC).isoformat()
    typed = {name: view.form.get(name, "").strip() for name in ("since", "until", "event_types")}
    body: dict[str, object] = {
        "since": _moment(typed["since"]),
        "until": _moment(typed["until"] or now),
    }
    if types := typed["event_types"].replace(",", " ").split():
        body["event_types"] = types
    if view.form.get("do") == "send":
        done, problem = await view.attempt("replay", body=body, key=view.form.get("key"))
        if problem is None:
            return Goto(f"/replays/{done['replay_id']}?done=replay-begun")
    else:
        done, problem = await view.attempt("replay", body={**body, "dry_run": True})
    preview = done["preview"] if done else None
    page = await _form(view, typed, counted=body, preview=preview, faults=faults_by_field(problem))
    return page if problem is None else page._replace(status=problem.status)


async def _form(view: View, typed: dict[str, str], **more: object) -> Page:
    values = {
        "webhook": await view.ask("read_webhook"),
        "values": typed,
        "counted": None,
        "preview": None,
        "faults": {},
        "key": secrets.token_urlsafe(),
        **more,
    }
    return Page("replay_form.html", values)


def _moment(text: str) -> str:
    """What a browser's field for a date and time holds has no offset; what cannot be read is left for the schema."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return text


PATHS = [
    ("GET", "/webhooks/{webhook_id:[0-9]+}/replay", show_form),
    ("POST", "/webhooks/{webhook_id:[0-9]+}/replay", send),
    ("GET", "/replays", show_list),
    ("GET", "/replays/{replay_id:[0-9]+}", show),
    ("POST", "/replays/{replay_id:[0-9]+}", act),
]
