"""`pgrelay api`: the REST API alone, without a daemon."""

import asyncio
import signal
import sys

from pgrelay.cli.context import Context


async def api(context: Context) -> int:
    from pgrelay.api.app import SERVICES, api_app, make_app
    from pgrelay.api.server import serving
    from pgrelay.cli import findings
    from pgrelay.db import admin_checks
    from pgrelay.db.connect import Connection, connect
    from pgrelay.db.guard import refuse_public, refuse_standby, refuse_unknown_schema
    from pgrelay.doctor.trial import try_out
    from pgrelay.logs import configure, log_observation
    from pgrelay.observation import HttpServing
    from pgrelay.page.site import add_page

    settings = context.settings
    listen = context.argument("listen")
    async with context.admin() as admin:
        await refuse_public(admin.connection, listen)
        for finding in findings.of_api(await admin_checks.roles_not_taken(admin), [], admin.role):
            context.out.say(f"Warning: {finding.message}.\n  {finding.mend}")

    async def open_connection() -> Connection:
        connection = await connect(
            settings.database.dsn,
            application_name="pgrelay api",
            connect_timeout=settings.database.connect_timeout,
            statement_timeout=settings.database.statement_timeout,
        )
        try:
            await refuse_standby(connection)
            await refuse_unknown_schema(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    configure(settings.log.level, settings.log.format, sys.stdout)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    api = api_app(open_connection, log_observation, context.keys, lambda webhook: try_out(settings, webhook))
    served = make_app(unready=lambda: None, render_metrics=lambda _: (b"", "text/plain"), api=api)
    add_page(served, api[SERVICES])
    async with serving(served, listen) as url:
        log_observation(HttpServing(url))
        await stopping.wait()
    return 0
