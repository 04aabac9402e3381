"""Install and upgrade the schema: numbered files once each, the rest again when their text changed.

All in one transaction; one migrator at a time (an advisory lock), and with a lock timeout, so that it never waits long
behind a busy table with others queueing behind it. A program that is older than the schema changes nothing.
"""

import psycopg
from psycopg import AsyncConnection

from pgrelay.db.connect import translate
from pgrelay.db.guard import one, refuse_changed
from pgrelay.errors import NotPermitted, Refused, SchemaMismatch
from pgrelay.sqlfiles import SqlFile, files, migrations

#: How long a table of the schema is waited for: the application's statements queue up behind whoever waits.
LOCK_TIMEOUT = "3s"
#: How long another migrator is waited for; nobody queues up behind that.
TURN_TIMEOUT = "60s"
_LOCK = "select pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('migrate'))"
# What an installation by psql alone leaves open is filled in; what is known is changed by pgrelay.adopt() only.
_ENVIRONMENT = "update pgrelay.installation set environment = {environment} where environment is null"
_GRANTS = "grants.sql"
# Roles that somebody made after the schema, or that this role may make now, lack what grants.sql gives them.
_GRANTS_DUE = """
select exists (
    select from unnest(array['pgrelay_daemon', 'pgrelay_admin', 'pgrelay_reader', 'pgrelay_tenant']) as name
    left join pg_roles r on r.rolname = name
    where case when r.oid is null then (select rolcreaterole or rolsuper from pg_roles where rolname = current_user)
               else not has_schema_privilege(r.oid, 'pgrelay', 'usage') end)
"""


async def migrate(connection: AsyncConnection, environment: str | None = None) -> list[str]:
    """Bring the schema up to date; the names of what was applied, in order (empty: nothing to do).

    `environment` is noted once, for the guard against copies. Raises Refused when a lock could not be had in time,
    NotPermitted, SchemaMismatch for a schema from the future or an altered one.
    """
    try:
        async with connection.transaction():
            # whoever migrated while the lock was waited for must be seen afterwards
            await connection.execute("set transaction isolation level read committed")
            await connection.execute("set local statement_timeout = 0")
            await connection.execute("set local client_min_messages = warning")
            await connection.execute(f"set local lock_timeout = '{TURN_TIMEOUT}'".encode())
            await connection.execute(_LOCK.encode())
            await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'".encode())
            applied = []
            for label, text in await _pending(connection):
                await connection.execute(text.encode())
                applied.append(label)
            if environment is not None:
                await connection.execute(_ENVIRONMENT.format(environment="%s").encode(), (environment,))
            return applied
    except psycopg.errors.LockNotAvailable as error:
        raise Refused(
            "another session holds a lock that the migration needs; nothing was changed",
            "Run pgrelay migrate again; pg_locks and pg_stat_activity show who holds it.",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        user = await one(
            connection,
            "select current_user::text, current_database()::text,"
            " (select nspowner::regrole::text from pg_namespace where nspname = 'pgrelay')",
        )
        role, database, owner = user or ("the role", "the database", None)
        remedy = (
            f"Run it as {owner}, who installed the schema: database.dsn, or PGRELAY_DATABASE_DSN, names the user"
            if owner is not None
            else f'As the database\'s owner: grant create on database "{database}" to "{role}";'
        )
        raise NotPermitted(
            f"{role} may not {'change' if owner is not None else 'install'} the schema:"
            f" {error.diag.message_primary}",
            remedy,
        ) from error
    except psycopg.Error as error:
        raise translate(error) from error


async def pending(connection: AsyncConnection) -> list[str]:
    """What migrate() would apply, by name."""
    try:
        return [label for label, _ in await _pending(connection)]
    except psycopg.Error as error:
        raise translate(error) from error


async def script(connection: AsyncConnection | None, environment: str | None = None) -> str:
    """The SQL that migrate() would run, for psql; the whole installation without a connection."""
    steps = _steps({}, {}) if connection is None else await _pending(connection)
    if not steps:
        return "-- Nothing to do: the schema is up to date.\n"
    literal = "null" if environment is None else "'" + environment.replace("'", "''") + "'"
    parts = [f"-- {label}\n{text}" for label, text in steps]
    opening = f"\\set ON_ERROR_STOP on\nbegin;\nset local lock_timeout = '{LOCK_TIMEOUT}';\n{_LOCK};\n"
    return opening + "\n".join(parts) + f"\n{_ENVIRONMENT.format(environment=literal)};\ncommit;\n"


async def _pending(connection: AsyncConnection) -> list[tuple[str, str]]:
    row = await one(connection, "select to_regclass('pgrelay.schema_migrations') is not null")
    if row is None or not row[0]:
        return _steps({}, {})
    cursor = await connection.execute("select number, breaking, digest from pgrelay.schema_migrations")
    rows = await cursor.fetchall()
    numbers: dict[int, bool] = {number: breaking for number, breaking, _ in rows}
    if not numbers:
        raise SchemaMismatch(
            "the tables of the schema pgrelay are there, but not what was in them (a dump without data?)",
            "If nothing in it is needed: drop schema pgrelay cascade; then run pgrelay migrate.",
        )
    refuse_changed({number: digest for number, _, digest in rows}, migrations())
    cursor = await connection.execute("select path, digest from pgrelay.schema_objects")
    digests: dict[str, str] = dict(await cursor.fetchall())
    due = await one(connection, _GRANTS_DUE)
    if due is not None and due[0]:
        digests.pop(_GRANTS, None)
    return _steps(numbers, digests)


def _steps(applied: dict[int, bool], digests: dict[str, str]) -> list[tuple[str, str]]:
    """(name, SQL) of each step, the note of it in the schema's own tables included."""
    shipped = migrations()
    numbers = {migration.number for migration in shipped}
    foreign = sorted(number for number, breaking in applied.items() if breaking and number not in numbers)
    if foreign:
        raise SchemaMismatch(
            f"the schema has migration {foreign[0]:04d}, which this version of pgrelay does not ship",
            "Upgrade pgrelay to the version that made it.",
        )
    if applied.keys() - numbers:
        return []  # made by a newer version that still works with this one: its functions must stay
    steps = [
        (
            f"migrations/{migration.number:04d}_{migration.name}.sql",
            f"{migration.text}\ninsert into pgrelay.schema_migrations (number, name, digest, breaking)"
            f" values ({migration.number}, '{migration.name}', '{migration.digest}', {str(migration.breaking).lower()})"
            " on conflict (number) do update set digest = excluded.digest, breaking = excluded.breaking;",
        )
        for migration in shipped
        if migration.number not in applied
    ]
    changed = [file for file in files() if digests.get(file.path) != file.digest]
    if changed or steps:
        # functions made anew are executable by everybody until the grants say otherwise
        changed = [file for file in files() if file in changed or file.path == _GRANTS]
    return steps + [(file.path, _with_note(file)) for file in changed]


def _with_note(file: SqlFile) -> str:
    return (
        f"{file.text}\ninsert into pgrelay.schema_objects (path, digest) values ('{file.path}', '{file.digest}')"
        " on conflict (path) do update set digest = excluded.digest, applied_at = clock_timestamp();"
    )
