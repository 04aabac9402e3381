"""What `check` looks at: facts about the server, the installation and those who use it. Judged elsewhere."""

import time
from datetime import datetime
from secrets import token_hex

from psycopg import AsyncConnection, sql

from pgrelay.db.admin import Admin, Row
from pgrelay.db.admin_webhooks import HEALTH

#: What a daemon calls, and the tables that it writes: these functions run with its own rights.
DAEMON_VERBS = (
    "cancel_orphans copy_problem claim expand expire_deliveries feed_replays finish_pending fire_deadlines fold_metrics"
    " glance give_back give_back_unknown heartbeat note_results pending_webhooks prune record_outcomes release_lapsed"
    " rotate seal_webhook seal_with sign_off sign_on sweep webhooks_to_seal"
)
_DAEMON_WRITES = (
    "daemons delivery_attempts delivery_history delivery_queue feed_windows metric_deltas webhook_health"
    " webhook_owners"
)

#: Sequences that an insert draws from, and where their numbers are.
_SEQUENCES = """
select sequence, last_value, highest from (
    select sequence, highest,
           case when has_sequence_privilege(sequence, 'select')
                then coalesce(pg_sequence_last_value(sequence::regclass), 0) end as last_value
    from (
        select 'pgrelay.outbox_id_seq' as sequence, (select max(id) from pgrelay.outbox) as highest
        union all select 'pgrelay.delivery_queue_id_seq', greatest((select max(id) from pgrelay.delivery_queue),
                                                                   (select max(id) from pgrelay.delivery_history))
        union all select 'pgrelay.webhook_configurations_id_seq', (select max(id) from pgrelay.webhook_configurations)
        union all select 'pgrelay.sources_id_seq', (select max(id) from pgrelay.sources)) as s) as t
where highest > last_value
"""


async def server(admin: Admin) -> Row:
    """Which server, which encoding, standby or not, and whether captures may notify."""
    row = await admin.one(
        "select current_setting('server_version') as version,"
        " current_setting('server_version_num')::integer as version_num,"
        " current_setting('server_encoding') as encoding, pg_is_in_recovery() as standby,"
        " current_setting('max_prepared_transactions')::integer as max_prepared_transactions,"
        " pg_notification_queue_usage() as notification_queue_usage"
    )
    return row or {}


async def clock_difference(admin: Admin, tries: int = 3) -> float:
    """Seconds by which this machine's clock is ahead of the database's, taken in the middle of the quickest answer."""
    best: tuple[float, float] | None = None
    for _ in range(tries):
        before, started = time.time(), time.monotonic()
        theirs: datetime = await admin.now()
        took = time.monotonic() - started
        if best is None or took < best[0]:
            best = took, before + took / 2 - theirs.timestamp()
    return best[1] if best else 0.0


async def missing_for_daemon(admin: Admin) -> list[str]:
    """Functions and tables that this role may not use as a daemon must."""
    rows = await admin.rows(
        "select 'pgrelay.' || p.proname || '()' as what from pg_proc p"
        " where p.pronamespace = 'pgrelay'::regnamespace and p.proname = any (%s)"
        " and not has_function_privilege(p.oid, 'execute')"
        " union select 'pgrelay.' || c.relname from pg_class c where c.relnamespace = 'pgrelay'::regnamespace"
        " and c.relname = any (%s)"
        " and not (has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert'))"
        " order by what",
        DAEMON_VERBS.split(),
        _DAEMON_WRITES.split(),
    )
    return [row["what"] for row in rows]


async def may_apply(admin: Admin, tables: list[str]) -> Row:
    """Whether this role could apply: CREATE on the schema, watch(), and TRIGGER on these tables (those it lacks)."""
    row = await admin.one(
        "select has_schema_privilege('pgrelay', 'create') as create_schema,"
        " has_function_privilege('pgrelay.watch(jsonb, text)', 'execute') as watch,"
        " (select nspowner::regrole::text from pg_namespace where nspname = 'pgrelay') as owner,"
        " array(select format('%%I.%%I', n.nspname, c.relname)"
        "       from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        "       where format('%%I.%%I', n.nspname, c.relname) = any (%s)"
        "       and not has_table_privilege(c.oid, 'trigger')) as no_trigger",
        tables,
    )
    return row or {}


async def missing_roles(admin: Admin) -> list[str]:
    """Group roles that do not exist in the cluster."""
    rows = await admin.rows(
        "select r from unnest(array['pgrelay_daemon', 'pgrelay_admin', 'pgrelay_reader', 'pgrelay_tenant']) as r"
        " where not exists (select from pg_roles where rolname = r)"
    )
    return [row["r"] for row in rows]


async def roles_not_taken(admin: Admin) -> list[str]:
    """Roles of which this role would have to be a member to act for all who may use the API."""
    rows = await admin.rows(
        "select r from unnest(array['pgrelay_reader', 'pgrelay_tenant']) as r"
        " where not coalesce(pg_has_role(to_regrole(r), 'member'), false)"
        " union all select 'pgrelay_admin' where not has_table_privilege('pgrelay.webhook_configurations', 'insert')"
        " order by r"
    )
    return [row["r"] for row in rows]


async def lagging_sequences(admin: Admin) -> list[Row]:
    """Sequences that would give a number that is taken."""
    return await admin.rows(_SEQUENCES)


async def long_transactions(admin: Admin, longer_than: float) -> list[Row]:
    """What has held the xmin horizon of this database for longer than so many seconds, as far as this role may see."""
    return await admin.rows(
        "select format('pid %%s (%%s, %%s, %%s)', pid, coalesce(usename::text, 'replication'),"
        " coalesce(nullif(application_name, ''), 'no name'), state) as who,"
        " extract(epoch from clock_timestamp() - xact_start)::float8 as seconds"
        " from pg_stat_activity where (datname = current_database() or datname is null) and backend_xmin is not null"
        " and pid <> pg_backend_pid() and xact_start < clock_timestamp() - %(longer)s * interval '1 second'"
        " union all select format('prepared transaction %%s of %%s', gid, owner),"
        " extract(epoch from clock_timestamp() - prepared)::float8"
        " from pg_prepared_xacts where database = current_database()"
        " and prepared < clock_timestamp() - %(longer)s * interval '1 second' order by seconds desc limit 5",
        longer=longer_than,
    )


async def secrets(admin: Admin) -> Row:
    """How webhooks' secrets are kept: how many in which way, and with which keys."""
    row = await admin.one(
        "select (select sealed_with from pgrelay.installation) as sealed_with,"
        " count(*) filter (where secrets = 'plain') as plain, count(*) filter (where secrets = 'awaited') as awaited,"
        " array(select distinct k from pgrelay.webhooks, unnest(sealed_with) as k order by k) as key_ids"
        " from pgrelay.webhooks"
    )
    return row or {}


async def urls(admin: Admin) -> list[Row]:
    """Id, name and URL of active webhooks; what is masked in them does not matter for where they lead."""
    return await admin.rows("select id, name, url from pgrelay.webhooks where is_active order by id")


async def unmade_events(admin: Admin, webhook_id: int | None = None) -> list[Row]:
    """What active webhooks (or this one) subscribe to and no source makes: a misspelt type, or one that is emitted."""
    return await admin.rows(
        "with known as materialized (select array(select distinct p from pgrelay.event_types() as t,"
        "                            unnest(pgrelay.event_patterns(t.event_type)) as p) as patterns)"
        " select w.id, w.name, s as subscribed from known, pgrelay.webhooks w, unnest(w.subscribed_events) as s"
        " where w.is_active and w.company_id <> 'pgrelay' and cardinality(known.patterns) > 0"
        " and s <> all (known.patterns) and (%(id)s::bigint is null or w.id = %(id)s) order by w.id, s limit 20",
        id=webhook_id,
    )


async def troubled_webhooks(admin: Admin) -> list[Row]:
    """Webhooks that were disabled, whose circuit is open, or whose receiver asked to be left alone."""
    return await admin.rows(
        f"select w.id, w.name, w.is_active, w.disabled_at, w.disabled_reason, {HEALTH}"
        " from pgrelay.webhook_configurations w left join pgrelay.webhook_health h on h.webhook_id = w.id"
        " where w.disabled_at is not null or h.probe_wait is not null or h.held_until > clock_timestamp()"
        " order by w.disabled_at desc nulls last, h.failing_since, w.id"
    )


async def notification_arrives(admin: Admin, wait: float) -> bool:
    """Whether a notification from another session comes to this connection within so many seconds."""
    connection = admin.connection
    info = connection.info
    with admin.translated():
        # from another: a pooler in transaction mode passes on what comes during a statement of one's own
        async with await AsyncConnection.connect(info.dsn, password=info.password, autocommit=True) as other:
            channel = f"pgrelay_check_{token_hex(8)}"
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
            try:
                await other.execute("select pg_notify(%s, '')", (channel,))
                async for note in connection.notifies(timeout=wait, stop_after=1):
                    return note.channel == channel
                return False
            finally:
                if not connection.closed:
                    await connection.execute(sql.SQL("unlisten {}").format(sql.Identifier(channel)))
