"""`pgrelay migrate`: install or upgrade the schema."""

from pgrelay.cli.context import Context
from pgrelay.cli.text import count
from pgrelay.db import migrations
from pgrelay.errors import DatabaseUnavailable


async def migrate(context: Context) -> int:
    out, settings = context.out, context.settings
    if context.argument("sql"):
        out.print(await _script(context))
        return 0
    async with context.admin(any_schema=True) as admin:
        applied = await migrations.migrate(admin.connection, settings.environment)
        out.value(applied)
        for name in applied:
            out.print(name)
        if applied:
            out.say(
                f"{count(len(applied), 'file')} applied to database {admin.database}. Next: pgrelay apply --plan"
            )
        else:
            out.say(f"Nothing to do: the schema in database {admin.database} is up to date.")
    return 0


async def _script(context: Context) -> str:
    """What would run in this database; the whole installation where there is none to look at."""
    try:
        async with context.admin(any_schema=True) as admin:
            return await migrations.script(admin.connection, context.settings.environment)
    except DatabaseUnavailable as error:
        context.out.say(f"{error.message}\nSo this is the whole installation, for a new database:")
        return await migrations.script(None, context.settings.environment)
