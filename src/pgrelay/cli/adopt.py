"""`pgrelay adopt`: a person says that this database, though a copy, is the one to send from."""

from pgrelay.cli.context import Context
from pgrelay.cli.parser import UsageError
from pgrelay.cli.text import count
from pgrelay.db import admin_upkeep


async def adopt(context: Context) -> int:
    out, environment = context.out, context.settings.environment
    async with context.admin() as admin:
        problem = await admin_upkeep.copy_problem(admin, environment)
        unfinished = await admin_upkeep.unfinished(admin)
        events = await admin_upkeep.unexpanded(admin)
        out.value(
            {
                "problem": problem,
                "environment": environment,
                "unfinished_deliveries": unfinished,
                "events_waiting": events,
            }
        )
        if problem is None:
            out.say(
                f"Nothing to do: database {admin.database} is the original, for environment {environment}."
            )
            return 0
        out.print(f"Database {admin.database}: {problem}.")
        out.print(
            f"It holds {count(unfinished, 'unfinished delivery', 'unfinished deliveries')}"
            f" and {count(events, 'event')} not yet turned into deliveries."
        )
        if context.argument("keep_pending"):
            pending, consequence = "keep", "and send them from here"
        elif context.argument("cancel_pending"):
            pending, consequence = "cancel", "and cancel them"
        else:
            raise UsageError(
                "say what becomes of what was pending when this database was copied",
                "pgrelay adopt --keep-pending (send it; the original is gone) or\n"
                "pgrelay adopt --cancel-pending (the original sends it itself)",
            )
        out.confirm(f"Adopt it for environment {environment}, {consequence}?", yes=context.argument("yes"))
        await admin_upkeep.adopt(admin, environment, pending)
        out.say(f"Adopted for environment {environment}. Next: pgrelay check, then pgrelay run")
    return 0
