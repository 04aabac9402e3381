"""Replays: what one would send, those there are, started, stopped and resumed."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pgrelay.db.admin import Admin, Row


class Wanted(NamedTuple):
    """Which events are to be sent again, to which webhook. None for all types that it subscribes to."""

    webhook_id: int
    since: datetime
    until: datetime
    event_types: Sequence[str] | None = None


async def preview(admin: Admin, wanted: Wanted) -> Row:
    """How many events, bytes and seconds, of which types, and what to know before. Refused if there is no webhook."""
    found = await admin.one(
        f"select * from {admin.schema}preview_replay(%s, %s, %s, %s::text[])", *_listed(wanted)
    )
    return found or {}


async def start(admin: Admin, wanted: Wanted, created_by: str | None = None) -> Row:
    """Send them again; the replay. `created_by` is who connected if left out."""
    replay_id = await admin.value(
        f"select {admin.schema}start_replay(%s, %s, %s, %s::text[], coalesce(%s::text, session_user))",
        *_listed(wanted),
        created_by,
    )
    found = await replay(admin, int(replay_id))
    return found or {}


def _listed(wanted: Wanted) -> tuple[object, ...]:
    types = wanted.event_types
    return wanted.webhook_id, wanted.since, wanted.until, None if types is None else list(types)


async def replay(admin: Admin, replay_id: int) -> Row | None:
    """One replay and how far it is; None if there is none."""
    return await admin.one(f"select * from {admin.schema}replay_progress where id = %s", replay_id)


async def replays(
    admin: Admin,
    *,
    webhook: int | None = None,
    status: str | None = None,
    company: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[Row]:
    """The newest; `before`: id of the last one of the page before."""
    return await admin.rows(
        f"select * from {admin.schema}replay_progress"
        " where (%(webhook)s::bigint is null or webhook_id = %(webhook)s)"
        " and (%(status)s::text is null or status = %(status)s)"
        " and (%(company)s::text is null or company_id = %(company)s)"
        " and (%(before)s::bigint is null or id < %(before)s) order by id desc limit %(limit)s",
        webhook=webhook,
        status=status,
        company=company,
        before=before,
        limit=limit,
    )


async def stop(admin: Admin, replay_id: int) -> bool:
    """Queue no more of it. False if it is not running."""
    return bool(await admin.value(f"select {admin.schema}stop_replay(%s)", replay_id))


async def resume(admin: Admin, replay_id: int) -> bool:
    """Go on with a stopped one. False if it is not stopped; Refused if its webhook is gone or inactive."""
    return bool(await admin.value(f"select {admin.schema}resume_replay(%s)", replay_id))
