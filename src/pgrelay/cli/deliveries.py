"""`pgrelay deliveries`: list, show, retry, cancel."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Row
from pgrelay.cli.parser import UsageError
from pgrelay.cli.story import print_story
from pgrelay.cli.text import count, printable
from pgrelay.db import admin_deliveries, admin_previews, admin_upkeep
from pgrelay.db.admin import Admin
from pgrelay.db.admin_deliveries import Filters
from pgrelay.errors import Refused
from pgrelay.spans import relative

_STYLES = {"succeeded": "green", "failed": "red", "in_flight": "cyan", "cancelled": "dim", "expired": "dim"}
#: Impossible ones that are told one by one.
_TOLD = 10


def _filters(context: Context, status: str | None = None) -> Filters:
    return Filters(
        context.argument("webhook"),
        context.argument("status") or status,
        context.argument("event"),
        context.argument("resource"),
        context.argument("since"),
    )


async def list_deliveries(context: Context) -> int:
    limit = context.argument("limit")
    async with context.admin() as admin:
        now = await admin.now()
        rows = await admin_deliveries.deliveries(admin, _filters(context), limit)
        context.out.table(
            rows,
            [
                Column("id", right=True),
                Column("status", style=lambda row: _STYLES.get(row["status"], "")),
                Column("event_type", "event"),
                Column("resource_id", "resource"),
                Column(
                    "webhook", show=lambda row: f"{row['webhook_id']} {row['webhook_name'] or '(deleted)'}"
                ),
                Column("attempts", right=True),
                Column("created_at", "made", lambda row: relative(row["created_at"], now)),
                Column("when", "ended, or next", lambda row: _when(row, now)),
                Column("last_error", "last answer", _answer),
            ],
            empty="No delivery matches.",
        )
        if len(rows) == limit:
            context.out.say(f"The newest {limit}; --limit shows more.")
    return 0


def _when(row: Row, now: datetime) -> str:
    never = "being sent" if row["status"] == "in_flight" else "after an earlier one"
    return relative(row["finished_at"] or row["next_attempt_at"], now, never=never)


def _answer(row: Row) -> object:
    return row["last_error"] or row["last_status_code"]


async def show(context: Context) -> int:
    async with context.admin() as admin:
        story = await admin_deliveries.story(admin, context.argument("id"))
        if context.argument("body"):
            if story["event"] is None:
                raise Refused(
                    "its event is older than its retention", "Raise retention.events to keep events longer."
                )
            # as it is sent, to be piped on: no masking of control characters, no line break added
            context.out.out.write(await _body(admin, story))
            return 0
        if context.out.json:
            context.out.value(story)
        else:
            health = await admin_upkeep.health(admin)
            print_story(context.out, story, await admin.now(), daemons_alive=health["daemons_alive"])
    return 0


async def _body(admin: Admin, story: Row) -> str:
    """What is sent to its webhook as that is now; of a webhook that is gone, the event's body. Raises Refused."""
    event, webhook = story["event"], story["webhook"]
    if webhook is None or webhook["payload_format"] == "standard":
        return str(event["body"])
    shown = await admin_previews.show(admin, webhook["id"], admin_previews.Wish(event_id=event["id"], last=0))
    if shown["error"] is not None:
        raise Refused(
            f"it cannot be sent as {webhook['payload_format']}: {shown['error']}",
            f"See pgrelay webhooks preview {webhook['id']} --event-id {event['id']}",
        )
    return str(shown["body"])


async def retry(context: Context) -> int:
    return await _to_many(context, "Retry", "will be tried", admin_deliveries.retry)


async def cancel(context: Context) -> int:
    return await _to_many(context, "Cancel", "cancelled", admin_deliveries.cancel)


async def _to_many(
    context: Context, verb: str, done: str, act: Callable[[Admin, Sequence[int]], Awaitable[Sequence[Row]]]
) -> int:
    """One verb for the deliveries that are named, or for all that match. 1 if it was impossible for some."""
    out, ids = context.out, context.argument("ids")
    given = any(
        context.argument(name) is not None for name in ("webhook", "status", "event", "resource", "since")
    )
    if bool(ids) == given:
        raise UsageError(
            "name deliveries by id, or say which with --webhook, --status, --event, --resource, --since; not both",
            f"For example: pgrelay deliveries {verb.lower()} --webhook 3 --since 2h",
        )
    async with context.admin() as admin:
        if given:
            status = context.argument("status") or context.argument("usual_status")
            ids = await admin_deliveries.matching(admin, _filters(context, status))
            if not ids:
                out.value([])
                out.say(f"No {status} delivery matches.")
                return 0
            matched = count(len(ids), f"{status} delivery", f"{status} deliveries")
            out.confirm(f"{verb} {matched}?", yes=context.argument("yes"))
        results = await act(admin, ids)
    out.value(results)
    failed = [row for row in results if not row["done"]]
    if len(failed) < len(results):
        out.print(f"{count(len(results) - len(failed), 'delivery', 'deliveries')} {done}.")
    for row in failed[:_TOLD]:
        out.say(f"Delivery {row['id']}: {printable(row['message'])}.")
    if len(failed) > _TOLD:
        out.say(f"… and {len(failed) - _TOLD:,} more.")
    return 1 if failed else 0
