"""`pgrelay replay` and `pgrelay recapture`: events once more, or at last."""

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Row
from pgrelay.cli.parser import UsageError
from pgrelay.cli.text import count, duration, printable, relative
from pgrelay.db import admin_upkeep, admin_webhooks


async def replay(context: Context) -> int:
    out, webhook_id = context.out, context.argument("webhook")
    async with context.admin() as admin:
        since = context.argument("since")
        until = context.argument("until") or await admin.now()
        if since >= until:
            raise UsageError("--since is not before --until", "For example: --since 3h --until 1h")
        webhook = await admin_webhooks.webhook(admin, webhook_id)
        events = await admin_upkeep.replay_count(admin, webhook_id, since, until)
        facts = {"webhook_id": webhook_id, "since": since, "until": until, "events": events}
        length = duration((until - since).total_seconds())
        to = f"webhook {webhook_id} ({printable(webhook['name'])})"
        what = f"{count(events, 'event')} of {length} to {to}, delivered before or not"
        if context.argument("dry_run") or not events:
            out.value({**facts, "deliveries": 0})
            out.print(f"It would send {what}." if events else f"There is nothing to send: {what}.")
            if not events:
                out.say(
                    "Events that nobody subscribed to are kept only where the source says record: always."
                )
            return 0
        out.confirm(f"Send {what}?", yes=context.argument("yes"))
        made = await admin_upkeep.replay(admin, webhook_id, since, until)
        out.value({**facts, "deliveries": made})
        out.print(
            f"{count(made, 'delivery', 'deliveries')} made. See pgrelay deliveries list --webhook {webhook_id}"
        )
    return 0


async def recapture(context: Context) -> int:
    """1 if some failed again."""
    out = context.out
    async with context.admin() as admin:
        now = await admin.now()
        results = await admin_upkeep.recapture(admin, context.argument("source"), context.argument("id"))
        out.table(
            results,
            [
                Column("id", right=True),
                Column("source"),
                Column("event_type", "event"),
                Column("resource_id", "resource"),
                Column("occurred_at", "happened", lambda row: relative(row["occurred_at"], now)),
                Column("result", show=_result, style=lambda row: "red" if row["message"] else ""),
            ],
            empty="There are no open capture errors.",
        )
        failed = sum(row["message"] is not None for row in results)
        if failed:
            out.say(
                f"{failed:,} of {len(results):,} failed again and stay open. Mend the rule: pgrelay apply --plan"
            )
    return 1 if failed else 0


def _result(row: Row) -> str:
    if row["message"] is not None:
        return str(row["message"])
    return "event made" if row["event_made"] else "no event: the rule, as it is now, does not fire"
