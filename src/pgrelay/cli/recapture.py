"""`pgrelay recapture`: events at last, of changes that could not be captured."""

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Row
from pgrelay.db import admin_upkeep
from pgrelay.spans import relative


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
                Column("result", show=_result, style=lambda row: "red" if row["stays_open"] else ""),
            ],
            empty="There are no open capture errors.",
        )
        failed = sum(row["stays_open"] for row in results)
        if failed:
            out.say(
                f"{failed:,} of {len(results):,} failed again and stay open. Mend the rule: pgrelay apply --plan"
            )
    return 1 if failed else 0


def _result(row: Row) -> str:
    if row["message"] is not None:
        return str(row["message"])
    return "event made" if row["event_made"] else "no event: the rule, as it is now, does not fire"
