"""What is watched, for `apply`, `check` and `uninstall`: the state of installed sources, and changing it.

All that one command changes is one transaction; the locks it needs are asked for as Admin.patiently() does.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from pgrelay.db.admin import Admin, LockRefused, Row, quoted
from pgrelay.errors import NotPermitted, PgrelayError, Refused
from pgrelay.plan import Change, Installed, Kind

# Tables are found by joining the catalogs: to_regclass() raises where the role has no USAGE on the schema.
_INSTALLED = """
select s.name, s.owner, s.watched_table as "table", s.definition, c.oid is not null as table_exists,
       case when c.oid is null then (
           select format('%I.%I', rn.nspname, r.relname) from pg_trigger g join pg_class r on r.oid = g.tgrelid
           join pg_namespace rn on rn.oid = r.relnamespace join pg_proc p on p.oid = g.tgfoid
           where g.tgname = any (s.triggers) and g.tgparentid = 0 and p.proname = 'capture_' || s.name
             and p.pronamespace = 'pgrelay'::regnamespace limit 1) end as renamed_to,
       array(select t from unnest(s.triggers) as t
             where not exists (select from pg_trigger g where g.tgrelid = c.oid and g.tgname = t)) as triggers_missing,
       array(select distinct g.tgname::text from pg_trigger g
             where g.tgname = any (s.triggers) and g.tgenabled in ('D', 'R')
               and g.tgrelid in (select c.oid union select relid from pg_partition_tree(c.oid))) as triggers_disabled,
       array(select f from unnest(array['capture_', 'body_', 'recapture_', 'fire_']) as p, concat(p, s.name) as f
             where (p <> 'fire_' or exists (select from pgrelay.event_rules r
                                            where r.source_id = s.id and r.deadline is not null))
               and not exists (select from pg_proc where pronamespace = 'pgrelay'::regnamespace and proname = f))
             as functions_missing,
       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             and not a.attname = any (s.columns) order by a.attnum) as columns_added,
       array(select k from unnest(s.columns) as k
             where not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = k
                               and a.attnum > 0 and not a.attisdropped)) as columns_gone
from pgrelay.sources s
left join (pg_class c join pg_namespace n on n.oid = c.relnamespace)
    on format('%I.%I', n.nspname, c.relname) = s.watched_table and c.relkind in ('r', 'p')
order by s.name
"""

_STALE = """
with made as (select statement, substring(statement from '^create or replace function pgrelay\\.([a-z0-9_]+)') as name
              from pgrelay.watch_sql(%s::jsonb) as statement)
select name from made join pg_proc p on p.pronamespace = 'pgrelay'::regnamespace and p.proname = made.name
where p.prosrc <> split_part(made.statement, '$pgrelay$', 2) order by name
"""

_ENABLE = """
select format('alter table %%s enable trigger %%I', g.tgrelid::regclass, g.tgname) as statement
from pg_trigger g where g.tgname = any (%s) and g.tgenabled in ('D', 'R') and g.tgparentid = 0 order by 1
"""

_HOLDERS = """
select a.pid, a.usename, a.application_name, a.state,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds
from pg_stat_activity a
where a.pid <> pg_backend_pid() and a.pid in (
    select l.pid from pg_locks l join pg_class c on c.oid = l.relation join pg_namespace n on n.oid = c.relnamespace
    where l.granted and format('%%I.%%I', n.nspname, c.relname) = any (%s))
order by a.xact_start nulls last limit 3
"""


async def installed(admin: Admin) -> list[Installed]:
    """All sources, of all owners, each with what is wrong with it."""
    found = []
    for row in await admin.rows(_INSTALLED):
        stale, misfit = await _recompiled(admin, row["definition"]) if row["table_exists"] else ((), "")
        lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
        found.append(Installed(**{**row, **lists}, functions_stale=stale, misfit=misfit))
    return found


async def _recompiled(admin: Admin, definition: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Functions that the definition would give another text now, and why it gives none."""
    try:
        async with admin.connection.transaction():
            rows = await admin.rows(_STALE, json.dumps(definition))
    except NotPermitted:
        return (), ""  # only who may apply can tell
    except Refused as error:
        # an expression over tables that this role may not read: captures run as another, so it says nothing of them
        return (), "" if "permission denied" in error.message else error.message
    return tuple(row["name"] for row in rows), ""


async def statements(admin: Admin, change: Change) -> list[str]:
    """What would run for a change, in order. Runs nothing."""
    found: list[str] = []
    known, wanted = change.installed, change.definition
    moved = known is not None and wanted is not None and known.definition.get("table") != wanted["table"]
    if known is not None and (change.kind is Kind.UNWATCH or moved):
        found += [row["s"] for row in await admin.rows("select pgrelay.unwatch_sql(%s) as s", change.name)]
    if wanted is not None:
        rows = await admin.rows("select pgrelay.watch_sql(%s::jsonb) as s", json.dumps(wanted))
        found += [row["s"] for row in rows]
    if known is not None and wanted is not None and not moved:
        found += await _enabling(admin, known)
    return found


async def _enabling(admin: Admin, known: Installed) -> list[str]:
    if not known.triggers_disabled:
        return []
    rows = await admin.rows(_ENABLE, list(known.triggers_disabled))
    return [row["statement"] for row in rows]


async def apply(admin: Admin, owner: str, decide: Callable[[list[Installed]], list[Change]]) -> list[Change]:
    """Make the changes that `decide` finds for what is installed, all or none. Raises Refused, NotPermitted."""
    await _refuse_who_may_not_watch(admin)
    tables: list[str] = []
    under_way: list[Change] = []

    async def change_all() -> list[Change]:
        # the same lock as in watch() and unwatch(): what is read now is still so when it is changed
        await admin.rows("select pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('watch'))")
        changes = decide(await installed(admin))
        tables[:] = [change.table for change in changes if change.active]
        for change in changes:
            under_way[:] = [change]
            await _make(admin, owner, change)
        return changes

    # who stands in the way is asked after the transaction is over: in an aborted one nothing can be
    try:
        return await admin.patiently(change_all)
    except LockRefused:
        raise await _not_granted(admin, tables) from None
    except NotPermitted as error:
        if "must be owner of" not in error.message or not under_way:
            raise
        raise await _owner_needed(admin, under_way[0], error) from None


async def _make(admin: Admin, owner: str, change: Change) -> None:
    if change.kind is Kind.UNWATCH:
        await admin.rows("select pgrelay.unwatch(%s, %s)", change.name, owner)
    elif change.active:
        if change.installed is not None:
            for statement in await _enabling(admin, change.installed):
                await admin.rows(statement)
        await admin.rows("select pgrelay.watch(%s::jsonb, %s)", json.dumps(change.definition), owner)


async def _owner_needed(admin: Admin, change: Change, error: PgrelayError) -> NotPermitted:
    """Only a table's owner may enable its triggers."""
    owner = await admin.value(
        "select tableowner::text from pg_tables where format('%%I.%%I', schemaname, tablename) = %s",
        change.table,
    )
    message = f"{error.message} (source {change.name}, {change.kind})"
    return NotPermitted(message, f"Run it as {owner}, who owns {change.table}.")


async def _refuse_who_may_not_watch(admin: Admin) -> None:
    row = await admin.one(
        "select n.nspowner::regrole::text as owner, r.rolsuper as owner_is_super,"
        " has_schema_privilege(n.oid, 'create')"
        " and has_function_privilege('pgrelay.watch(jsonb, text)', 'execute') as may"
        " from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'pgrelay'"
    )
    if row is None or row["may"]:
        return
    raise NotPermitted(f"{admin.role} may not change what is watched", _as_owner(admin, row))


async def refuse_who_may_not_uninstall(admin: Admin) -> None:
    """Raise NotPermitted for who does not own the schema, before anything is asked or locked."""
    row = await admin.one(
        "select n.nspowner::regrole::text as owner, r.rolsuper as owner_is_super,"
        " pg_has_role(n.nspowner, 'usage') as may"
        " from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'pgrelay'"
    )
    if row is not None and not row["may"]:
        raise NotPermitted(f"{admin.role} may not drop the schema pgrelay", _as_owner(admin, row))


def _as_owner(admin: Admin, row: Row) -> str:
    """What to do where only who installed the schema may."""
    owner = row["owner"]
    remedy = (
        f"Run it as {owner}, who installed the schema: database.dsn (or PGRELAY_DATABASE_DSN) names the user"
    )
    if not row["owner_is_super"]:
        remedy += f"\nOr let this role act for it: grant {owner} to {quoted(admin.role)};"
    return remedy


async def _not_granted(admin: Admin, tables: list[str]) -> Refused:
    holders = [_holder(row) for row in await admin.rows(_HOLDERS, tables)]
    return Refused(
        "a lock on a watched table was not granted within 3 s; nothing was changed",
        f"Try again when the other session is done{': ' + '; '.join(holders) if holders else ' (see pg_locks)'}.",
    )


def _holder(row: Row) -> str:
    since = f" for {row['seconds']:.0f} s" if row["seconds"] is not None else ""
    return (
        f"pid {row['pid']} ({row['usename']}, {row['application_name'] or 'no name'}, {row['state']}{since})"
    )


async def uninstall_statements(admin: Admin) -> list[str]:
    """What removes everything of pgrelay's from the database, in order."""
    names = await admin.rows("select name from pgrelay.sources order by watched_table, name")
    found = []
    for row in names:
        found += [line["s"] for line in await admin.rows("select pgrelay.unwatch_sql(%s) as s", row["name"])]
    return [*found, "drop schema pgrelay cascade"]


async def uninstall(admin: Admin) -> int:
    """Remove it all; how many sources were watched. Raises LockRefused when a lock is not had in time."""

    async def remove_all() -> int:
        await admin.rows("set local client_min_messages = warning")
        sources = await admin.rows("select name, owner from pgrelay.sources order by watched_table, name")
        for row in sources:
            await admin.rows("select pgrelay.unwatch(%s, %s)", row["name"], row["owner"])
        await admin.rows("drop schema pgrelay cascade")
        return len(sources)

    return await admin.patiently(remove_all)
