"""`pgrelay uninstall`: leave no trace but the group roles, which belong to the whole cluster."""

from pgrelay.cli.context import Context
from pgrelay.cli.text import count
from pgrelay.db import admin_sources, admin_upkeep
from pgrelay.errors import Refused

_ROLES = "drop role if exists pgrelay_daemon, pgrelay_admin, pgrelay_reader, pgrelay_tenant;"


async def uninstall(context: Context) -> int:
    out = context.out
    async with context.admin() as admin:
        if context.argument("sql"):
            statements = await admin_sources.uninstall_statements(admin)
            out.value(statements)
            out.print("\n".join(f"{statement};" for statement in ["begin", *statements, "commit"]))
            out.print(f"-- If no other database of the cluster has pgrelay: {_ROLES}")
            return 0
        await admin_sources.refuse_who_may_not_uninstall(admin)
        alive = [row["name"] for row in await admin_upkeep.daemons(admin) if row["alive"]]
        if alive:
            raise Refused(
                f"still running: {', '.join(alive)}", "Stop the daemons first: systemctl stop pgrelay"
            )
        webhooks = await admin.value("select count(*) from pgrelay.webhook_configurations")
        unfinished = await admin_upkeep.unfinished(admin)
        out.say(
            f"Database {admin.database} would lose {count(webhooks, 'webhook')}, all recorded events and deliveries"
            f" ({unfinished:,} of them unfinished). The application's tables stay."
        )
        out.confirm("Drop the schema pgrelay?", yes=context.argument("yes"))
        sources = await admin_sources.uninstall(admin)
        out.value(
            {"sources_unwatched": sources, "webhooks_dropped": webhooks, "unfinished_deliveries": unfinished}
        )
        out.say(
            f"{count(sources, 'source')} unwatched, the schema pgrelay is gone."
            f"\nIf no other database of the cluster has pgrelay: {_ROLES}"
        )
    return 0
