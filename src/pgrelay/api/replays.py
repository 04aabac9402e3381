"""Replays: counted, started, watched, stopped and resumed."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from pgrelay.api import webhooks
from pgrelay.api.call import Answer, Call, page
from pgrelay.api.fields import page_of, ref
from pgrelay.api.problems import Fault, impossible, invalid, not_found
from pgrelay.api.route import COMPANY, WEBHOOK_ID, Route, listed
from pgrelay.api.validate import moment
from pgrelay.db import admin_replays
from pgrelay.db.admin import Admin, Row
from pgrelay.db.admin_replays import Wanted


async def replay(call: Call) -> Answer:
    webhook_id = (await webhooks.found(call))["id"]
    since = moment(call.body["since"])
    until = moment(call.body["until"]) if "until" in call.body else datetime.now(UTC)
    if since >= until:
        raise invalid([Fault("it must be before until", pointer="/since")])
    wanted = Wanted(webhook_id, since, until, call.body.get("event_types"))
    if call.body.get("dry_run"):
        preview = await admin_replays.preview(call.admin, wanted)
        return _accepted({"deliveries": preview["events"], "replay_id": None}, dry_run=True, preview=preview)

    async def start() -> dict[str, Any]:
        made = await admin_replays.start(call.admin, wanted, f"API token {call.access.name}")
        return {"deliveries": made["events"], "replay_id": made["id"]}

    return _accepted(await call.once(start), dry_run=False, preview=None)


def _accepted(counted: dict[str, Any], **rest: Any) -> Answer:
    made = counted["replay_id"]
    where = {"Location": f"/api/v1/replays/{made}"} if made else {}
    return Answer({**counted, **rest}, HTTPStatus.ACCEPTED, where)


async def list_replays(call: Call) -> Answer:
    (before,) = call.cursor(int) or (None,)
    rows = await admin_replays.replays(
        call.admin,
        webhook=call.query.get("webhook_id"),
        status=call.query.get("status"),
        company=call.company,
        before=before,
        limit=call.limit + 1,
    )
    return page(rows, call.limit, "id")


async def read(call: Call) -> Answer:
    return Answer(await _found(call))


async def stop(call: Call) -> Answer:
    return await _done(call, admin_replays.stop, "stopped")


async def resume(call: Call) -> Answer:
    return await _done(call, admin_replays.resume, "resumed")


async def _done(call: Call, verb: Callable[[Admin, int], Awaitable[bool]], word: str) -> Answer:
    replay_id = (await _found(call))["id"]
    if not await verb(call.admin, replay_id):
        raise impossible("replay", replay_id, word, f"it is {(await _found(call))['status']}")
    return Answer(await _found(call))


async def _found(call: Call) -> Row:
    replay_id = call.path["replay_id"]
    row = await admin_replays.replay(call.admin, replay_id)
    if row is None:
        raise not_found("replay", replay_id)
    return row


_REPLAY = ref("Replay")

ROUTES = [
    Route(
        "POST",
        "/webhooks/{webhook_id}/replay",
        "replay",
        "Send past events to it again, delivered before or not",
        replay,
        ref("ReplayStarted"),
        HTTPStatus.ACCEPTED,
        body="ReplayRequest",
        idempotent_by_key=True,
        may_conflict=True,
        description="It goes on behind the webhook's live deliveries: see it at the Location of the answer.",
    ),
    Route(
        "GET",
        "/replays",
        "list_replays",
        "Replays, newest first",
        list_replays,
        page_of("Replay"),
        query=listed(
            webhook_id=WEBHOOK_ID,
            status={"type": "string", "enum": ["running", "stopped", "done"]},
            company_id=COMPANY,
        ),
    ),
    Route("GET", "/replays/{replay_id}", "read_replay", "How far a replay is", read, _REPLAY),
    Route(
        "POST",
        "/replays/{replay_id}/stop",
        "stop_replay",
        "Queue no more of it; what is queued goes out",
        stop,
        _REPLAY,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/replays/{replay_id}/resume",
        "resume_replay",
        "Go on where it was stopped",
        resume,
        _REPLAY,
        may_conflict=True,
    ),
]
