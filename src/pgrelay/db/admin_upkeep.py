"""What an operator asks of the installation as a whole: whose copy it is, who runs, how it goes."""

from pgrelay.db.admin import Admin, Row
from pgrelay.db.admin_webhooks import HEALTH


async def copy_problem(admin: Admin, environment: str) -> str | None:
    """Why nothing may be sent from this database; None when it is the original."""
    found: str | None = await admin.value("select pgrelay.copy_problem(%s)", environment)
    return found


async def unexpanded(admin: Admin) -> int:
    """How many committed events no daemon has turned into deliveries yet."""
    found: int = await admin.value("select events from pgrelay.unexpanded_events()")
    return found


async def unfinished(admin: Admin) -> int:
    """Deliveries that are pending or in flight."""
    return int(await admin.value("select count(*) from pgrelay.delivery_queue"))


async def adopt(admin: Admin, environment: str, pending: str) -> None:
    """Declare this database the original; `pending` is keep or cancel."""

    async def adopt_now() -> None:
        await admin.rows("select pgrelay.adopt(%s, %s)", environment, pending)

    await admin.patiently(adopt_now)


async def daemons(admin: Admin) -> list[Row]:
    """Daemons that run, and those that ended or fell silent within a day."""
    return await admin.rows(
        "select id, name, host, pid, version, started_at, heartbeat_at, ended_at, listening, note,"
        " ended_at is null and lease_until > clock_timestamp() as alive,"
        " ended_at is null and lease_until <= clock_timestamp() as lapsed"
        " from pgrelay.daemons where ended_at is null or ended_at > clock_timestamp() - interval '1 day'"
        " order by alive desc, id desc"
    )


async def health(admin: Admin) -> Row:
    """The one row of pgrelay.health."""
    found = await admin.one("select * from pgrelay.health")
    return found or {}


async def totals(admin: Admin) -> list[Row]:
    """Deliveries and attempts of the last hour and the last day, from pgrelay.metrics."""
    return await admin.rows(
        "select period, coalesce(sum(deliveries_succeeded), 0)::bigint as succeeded,"
        " coalesce(sum(deliveries_failed), 0)::bigint as failed, coalesce(sum(attempts), 0)::bigint as attempts,"
        " coalesce(sum(attempts_failed), 0)::bigint as attempts_failed,"
        " (sum(duration_ms_sum) / nullif(sum(attempts), 0))::float8 as mean_ms"
        " from (values ('hour', interval '1 hour'), ('day', interval '1 day')) as p (period, length)"
        " left join (select * from pgrelay.metrics where minute > now() - interval '1 day') as m"
        " on m.minute > now() - p.length"
        " group by period, length order by length"
    )


async def webhooks_by_health(admin: Admin, limit: int) -> list[Row]:
    """Webhooks, those that fail now first, then those with the oldest backlog."""
    return await admin.rows(
        "select s.webhook_id, s.company_id, s.name, s.is_active, s.paused,"
        f" w.disabled_at, w.disabled_reason, {HEALTH},"
        " coalesce(m.succeeded, 0) as succeeded_last_hour,"
        " coalesce(m.failed, 0) as failed_last_hour, coalesce(m.attempts_failed, 0) as attempts_failed_last_hour,"
        " s.success_rate::float8 as success_rate, s.pending_deliveries, s.oldest_pending_at, s.last_triggered_at"
        " from pgrelay.webhook_stats s join pgrelay.webhook_configurations w on w.id = s.webhook_id"
        " left join pgrelay.webhook_health h on h.webhook_id = s.webhook_id left join ("
        "   select webhook_id, sum(deliveries_succeeded)::bigint as succeeded,"
        "   sum(deliveries_failed)::bigint as failed,"
        "   sum(attempts_failed)::bigint as attempts_failed from pgrelay.metrics"
        "   where minute > now() - interval '1 hour' group by webhook_id) m on m.webhook_id = s.webhook_id"
        " order by circuit_open desc, coalesce(m.failed, 0) desc, coalesce(m.attempts_failed, 0) desc,"
        " s.oldest_pending_at nulls last, s.last_triggered_at desc nulls last, s.webhook_id limit %s",
        limit,
    )


async def capture_errors(admin: Admin) -> list[Row]:
    """Open capture errors by source and rule, with the last message of each."""
    return await admin.rows(
        "select source, event_type, count(*) as errors, max(occurred_at) as last_at,"
        " (array_agg(message order by id desc))[1] as message"
        " from pgrelay.capture_errors where recaptured_at is null"
        " group by source, event_type order by last_at desc limit 20"
    )


async def deadlines(admin: Admin) -> list[Row]:
    """Armed deadlines by event type: how many, and the next one."""
    return await admin.rows(
        "select source, event_type, count(*) as armed, min(fire_at) as next_at"
        " from pgrelay.deadlines group by source, event_type order by next_at"
    )


async def recapture(admin: Admin, source: str | None, error_id: int | None) -> list[Row]:
    """Make the events of open capture errors: of each whether that was done, and what is to be said of it."""
    return await admin.rows(
        "select r.id, e.source, e.event_type, e.resource_id, e.occurred_at, r.event_made, r.message, r.stays_open"
        " from pgrelay.recapture(%s, %s) as r join pgrelay.capture_errors e on e.id = r.id order by r.id",
        source,
        error_id,
    )
