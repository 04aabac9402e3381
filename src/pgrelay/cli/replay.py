"""`pgrelay replay` and `pgrelay replays`: past events once more, counted, watched, stopped and resumed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Output, Row
from pgrelay.cli.parser import UsageError
from pgrelay.cli.text import bytes_of, count, listed, printable
from pgrelay.db import admin_replays, admin_webhooks
from pgrelay.db.admin import Admin
from pgrelay.db.admin_replays import Wanted
from pgrelay.errors import Refused
from pgrelay.spans import duration, relative

_EVERY = 1.0
_STYLES = {"running": "green", "stopped": "yellow"}


async def replay(context: Context) -> int:
    out, webhook_id = context.out, context.argument("webhook")
    async with context.admin() as admin:
        since = context.argument("since")
        until = context.argument("until") or await admin.now()
        if since >= until:
            raise UsageError("--since is not before --until", "For example: --since 3h --until 1h")
        webhook = await admin_webhooks.webhook(admin, webhook_id)
        wanted = Wanted(webhook_id, since, until, context.argument("event"))
        preview = await admin_replays.preview(admin, wanted)
        facts = {"webhook_id": webhook_id, "since": since, "until": until, **preview}
        length = duration((until - since).total_seconds())
        to = f"webhook {webhook_id} ({printable(webhook['name'])})"
        what = f"{count(preview['events'], 'event')} of {length} to {to}, delivered before or not"
        if context.argument("dry_run") or not preview["events"]:
            out.value({**facts, "deliveries": 0})
            out.print(f"It would send {what}." if preview["events"] else f"There is nothing to send: {what}.")
            _print_preview(out, preview)
            if not preview["events"]:
                out.say(
                    "Events that nobody subscribed to are kept only where the source says record: always."
                )
            return 0
        if not out.json:
            _say_preview(out, preview)
        out.confirm(f"Send {what}?", yes=context.argument("yes"))
        made = await admin_replays.start(admin, wanted)
        if not context.argument("watch"):
            out.value({**facts, "deliveries": made["events"], "replay_id": made["id"]})
            out.print(
                f"Replay {made['id']} has begun: {count(made['events'], 'delivery', 'deliveries')},"
                f" behind the live ones. See pgrelay replays show {made['id']} --watch"
            )
            return 0
        return await _watch(admin, out, made["id"])


def _lines_of(preview: Row) -> list[str]:
    lines = []
    if preview["events"]:
        kinds = sorted(preview["event_types"].items(), key=lambda item: (-item[1], item[0]))
        seconds, pace = preview["estimated_seconds"], preview["per_second"]
        lines = [
            f"  {listed(f'{number:,} {kind}' for kind, number in kinds)}; {bytes_of(preview['bytes'])} in all",
            f"  captured {_written(preview['first_event_at'])} to {_written(preview['last_event_at'])}",
            f"  about {duration(seconds)}, at {pace:,.4g} a second at most and behind live deliveries",
        ]
    return lines


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _print_preview(out: Output, preview: Row) -> None:
    for line in _lines_of(preview):
        out.print(line)
    for warning in preview["warnings"]:
        out.print(out.style(f"  Note: {warning}", "yellow"))


def _say_preview(out: Output, preview: Row) -> None:
    for line in [*_lines_of(preview), *(f"  Note: {warning}" for warning in preview["warnings"])]:
        out.say(line)


async def list_replays(context: Context) -> int:
    out = context.out
    async with context.admin() as admin:
        now = await admin.now()
        rows = await admin_replays.replays(
            admin,
            webhook=context.argument("webhook"),
            status="running" if context.argument("running") else None,
            limit=context.argument("limit"),
        )
        table(out, rows, now, empty="There is no replay. Start one: pgrelay replay --help")
    return 0


def table(out: Output, rows: Sequence[Row], now: datetime, *, empty: str = "") -> None:
    """Replays, one a line."""
    out.table(
        rows,
        [
            Column("id", right=True),
            Column(
                "webhook_name", "webhook", lambda row: row["webhook_name"] or f"{row['webhook_id']} (deleted)"
            ),
            Column("status", style=lambda row: _STYLES.get(row["status"], "")),
            Column("events", right=True),
            Column("queued", right=True),
            Column("succeeded", right=True),
            Column("failed", right=True),
            Column("unfinished", right=True),
            Column("created_at", "started", lambda row: relative(row["created_at"], now)),
            Column("why", show=lambda row: row["waits_because"] or row["note"] or ""),
        ],
        empty=empty,
    )


async def show(context: Context) -> int:
    async with context.admin() as admin:
        row = await _found(admin, context.argument("id"))
        if context.argument("watch"):
            return await _watch(admin, context.out, row["id"])
        _print(context.out, row, await admin.now())
    return 0


def _print(out: Output, row: Row, now: datetime) -> None:
    if out.json:
        return out.value(row)
    webhook = printable(row["webhook_name"]) if row["webhook_name"] is not None else "deleted"
    title = out.style(f"Replay {row['id']}", "bold")
    out.print(
        f"{title} to webhook {row['webhook_id']} ({webhook}):"
        f" {out.style(row['status'], _STYLES.get(row['status'], ''))}"
    )
    types = f", of {listed(row['event_types'])}" if row["event_types"] else ""
    out.print(f"  events from {_written(row['since'])} until {_written(row['until'])}{types}")
    out.print(f"  {line(row)}")
    if row["waits_because"] or row["note"]:
        out.print(out.style(f"  {row['waits_because'] or row['note']}", "yellow"))
    who = f" by {printable(row['created_by'])}" if row["created_by"] else ""
    out.print(f"  started {relative(row['created_at'], now)}{who}")
    if row["status"] == "stopped":
        out.print(f"  Go on: pgrelay replays resume {row['id']}")


def line(row: Row) -> str:
    """How far it is, on one line."""
    words = [
        f"{row['queued']:,} of {count(row['events'], 'event')} queued",
        f"{row['succeeded']:,} succeeded",
        f"{row['failed']:,} failed",
        f"{row['unfinished']:,} unfinished",
    ]
    if row["cancelled"]:
        words.append(f"{row['cancelled']:,} cancelled")
    if row["skipped"]:
        words.append(f"{row['skipped']:,} skipped (no longer kept, or not subscribed to)")
    if row["estimated_seconds"]:
        words.append(f"about {duration(row['estimated_seconds'])} left")
    return ", ".join(words)


async def _watch(admin: Admin, out: Output, replay_id: int) -> int:
    """A line whenever something changed, until nothing more will. 1 if some failed, or it was stopped."""
    said = None
    while True:
        row = await _found(admin, replay_id)
        now = line(row) + (f"; waits: {row['waits_because']}" if row["waits_because"] else "")
        if now != said:
            said = now
            if out.json:
                out.line(row)
            else:
                out.print(now)
            out.flush()
        if row["status"] != "running" and not row["unfinished"]:
            out.print(f"Replay {replay_id} is {row['status']}{': ' + row['note'] if row['note'] else ''}.")
            return 1 if row["failed"] or row["status"] == "stopped" else 0
        await asyncio.sleep(_EVERY)


async def stop(context: Context) -> int:
    return await _done(context, admin_replays.stop, "running")


async def resume(context: Context) -> int:
    return await _done(context, admin_replays.resume, "stopped")


async def _done(context: Context, verb: Callable[[Admin, int], Awaitable[bool]], needed: str) -> int:
    """What the verb makes of a replay that is as `needed`."""
    async with context.admin() as admin:
        row = await _found(admin, context.argument("id"))
        if not await verb(admin, row["id"]):
            raise Refused(
                f"replay {row['id']} is not {needed}: it is {row['status']}", "See pgrelay replays list"
            )
        _print(context.out, await _found(admin, row["id"]), await admin.now())
    return 0


async def _found(admin: Admin, replay_id: int) -> Row:
    row = await admin_replays.replay(admin, replay_id)
    if row is None:
        raise Refused(f"there is no replay {replay_id}", "See pgrelay replays list")
    return row
