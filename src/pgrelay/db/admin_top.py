"""What `pgrelay top` shows of the database, each figure by a query that reads little."""

from typing import Any

from pgrelay.db import admin_upkeep
from pgrelay.db.admin import Admin, Row


async def figures(admin: Admin, *, webhooks: int, failures: int) -> dict[str, Any]:
    """One moment: health, daemons, counts since the installation, the last minute or two, webhooks, latest failures."""
    return {
        "at": await admin.now(),
        "database": admin.database,
        "health": await admin_upkeep.health(admin),
        "daemons": await _daemons(admin),
        "counters": await _counters(admin),
        "lately": await _lately(admin),
        "webhooks": await _webhooks(admin, webhooks),
        "failures": await _failures(admin, failures),
    }


async def _daemons(admin: Admin) -> list[Row]:
    """Daemons that have not ended, whether or not they still beat."""
    return await admin.rows(
        "select id, name, host, pid, version, started_at, heartbeat_at, listening, note,"
        " lease_until > clock_timestamp() as alive"
        " from pgrelay.daemons where ended_at is null order by id"
    )


async def _counters(admin: Admin) -> Row:
    """Attempts and deliveries since the installation: two readings make a rate."""
    found = await admin.one(
        "select coalesce(sum(attempts), 0)::bigint as attempts, coalesce(sum(ok), 0)::bigint as succeeded,"
        " coalesce(sum(failed), 0)::bigint as failed from ("
        " select attempts, successful_deliveries as ok, failed_deliveries as failed from pgrelay.webhook_totals"
        " union all"
        " select attempts, deliveries_succeeded, deliveries_failed from pgrelay.metric_deltas) as x"
    )
    return found or {}


async def _lately(admin: Admin) -> Row:
    """The minute before and the one that runs, and how many seconds that is."""
    # now() and no join: such a condition reaches the index of minutes through the view, clock_timestamp() does not
    found = await admin.one(
        "select extract(epoch from clock_timestamp() - date_trunc('minute', now()))::float8 + 60 as seconds,"
        " coalesce(sum(attempts), 0)::bigint as attempts,"
        " coalesce(sum(attempts_failed), 0)::bigint as attempts_failed,"
        " coalesce(sum(deliveries_succeeded), 0)::bigint as succeeded,"
        " coalesce(sum(deliveries_failed), 0)::bigint as failed,"
        " (sum(duration_ms_sum) / nullif(sum(attempts), 0))::float8 as mean_ms"
        " from pgrelay.metrics where minute >= date_trunc('minute', now()) - interval '1 minute'"
    )
    return found or {}


async def _webhooks(admin: Admin, limit: int) -> list[Row]:
    """Of the webhooks with attempts in the same time: those with most of them, and those with most that failed."""
    return await admin.rows(
        "select m.webhook_id, w.name, w.company_id, m.attempts, m.attempts_failed, m.succeeded, m.failed, m.mean_ms,"
        " coalesce(w.paused, false) as paused, coalesce(w.is_active, false) as is_active,"
        " q.pending_deliveries, q.oldest_pending_at, h.held_until, h.failing_since,"
        " h.probe_wait is not null as circuit_open from ("
        "   select x.*, row_number() over (order by attempts desc, webhook_id) as busiest,"
        "   row_number() over (order by attempts_failed desc, webhook_id) as worst from ("
        "     select webhook_id, sum(attempts)::bigint as attempts, sum(attempts_failed)::bigint as attempts_failed,"
        "     sum(deliveries_succeeded)::bigint as succeeded, sum(deliveries_failed)::bigint as failed,"
        "     (sum(duration_ms_sum) / nullif(sum(attempts), 0))::float8 as mean_ms from pgrelay.metrics"
        "     where minute >= date_trunc('minute', now()) - interval '1 minute' group by webhook_id) as x"
        " ) as m left join pgrelay.webhook_configurations w on w.id = m.webhook_id"
        " left join pgrelay.webhook_health h on h.webhook_id = m.webhook_id"
        " cross join lateral (select count(*) as pending_deliveries, min(created_at) as oldest_pending_at"
        "   from pgrelay.delivery_queue q where q.webhook_id = m.webhook_id and q.status = 'pending') as q"
        " where m.busiest <= %(limit)s or m.worst <= %(limit)s order by m.attempts desc, m.webhook_id",
        limit=limit,
    )


async def _failures(admin: Admin, limit: int) -> list[Row]:
    """The attempts that failed last, newest first."""
    return await admin.rows(
        "select a.started_at, a.delivery_id, a.webhook_id, w.name, a.attempt,"
        " a.error_kind, a.error_message, a.status_code"
        " from pgrelay.delivery_attempts a left join pgrelay.webhook_configurations w on w.id = a.webhook_id"
        " where a.error_kind is not null order by a.started_at desc limit %s",
        limit,
    )
