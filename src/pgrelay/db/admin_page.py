"""What the page shows beyond what the API answers: conditions of webhooks, hours for the chart, latest failures."""

from pgrelay.db.admin import EVERYTHING, Admin, Row
from pgrelay.db.webhook_states import STATE

#: Requests by duration, as the view metrics has them.
_BUCKETS = (
    "array[sum(le_5_ms), sum(le_10_ms), sum(le_25_ms), sum(le_50_ms), sum(le_100_ms), sum(le_250_ms), sum(le_500_ms),"
    " sum(le_1000_ms), sum(le_2500_ms), sum(le_5000_ms), sum(le_10000_ms), sum(gt_10000_ms)]::bigint[]"
)


async def conditions(admin: Admin, webhooks: list[int]) -> dict[int, Row]:
    """Health and figures of these webhooks, by id."""
    rows = await admin.rows(
        "select w.id, h.failures_in_row, h.failing_since, h.held_until,"
        " s.total_deliveries, s.successful_deliveries, s.failed_deliveries, s.success_rate::float8 as success_rate,"
        " s.attempts, s.last_triggered_at, s.pending_deliveries, s.oldest_pending_at"
        f" from pgrelay.webhook_configurations w join {admin.schema}webhook_stats s on s.webhook_id = w.id"
        f" left join {admin.schema}webhook_health h on h.webhook_id = w.id where w.id = any (%s)",
        webhooks,
    )
    return {row["id"]: row for row in rows}


async def states(admin: Admin) -> dict[str, int]:
    """How many webhooks are in which state."""
    rows = await admin.rows(
        f"select {STATE} as state, count(*) as webhooks from pgrelay.webhook_configurations w"
        f" left join {admin.schema}webhook_health h on h.webhook_id = w.id group by 1"
    )
    return {row["state"]: row["webhooks"] for row in rows}


async def troubled(admin: Admin, limit: int) -> list[Row]:
    """Webhooks that pgrelay disabled or whose last attempts failed, those that fail longest first."""
    return await admin.rows(
        f"select w.id, w.name, w.company_id, {STATE} as state, h.failures_in_row, w.disabled_reason,"
        " coalesce(h.failing_since, w.disabled_at) as since from pgrelay.webhook_configurations w"
        f" left join {admin.schema}webhook_health h on h.webhook_id = w.id"
        " where w.is_active and not w.paused and h.webhook_id is not null"
        " or not w.is_active and w.disabled_at is not null"
        " order by since, w.id limit %s",
        limit,
    )


async def hours(admin: Admin, count: int) -> list[Row]:
    """Deliveries that ended in each of the last `count` hours (in UTC, the one that runs included), oldest first."""
    return await admin.rows(
        "with h as (select date_trunc('hour', now(), 'UTC') as last),"
        " m as (select date_trunc('hour', minute, 'UTC') as hour, sum(deliveries_succeeded)::bigint as succeeded,"
        f"   sum(deliveries_failed)::bigint as failed, {_BUCKETS} as buckets from {admin.schema}metrics"
        "   where minute >= date_trunc('hour', now(), 'UTC') - make_interval(hours => %(count)s - 1) group by 1)"
        " select g.hour, coalesce(m.succeeded, 0) as succeeded, coalesce(m.failed, 0) as failed, m.buckets from h"
        " cross join generate_series(h.last - make_interval(hours => %(count)s - 1), h.last, '1 hour') as g(hour)"
        " left join m on m.hour = g.hour order by g.hour",
        count=count,
    )


async def failures(admin: Admin, limit: int) -> list[Row]:
    """The attempts of the last day that failed, newest first."""
    return await admin.rows(
        "select a.started_at, a.delivery_id, a.webhook_id, w.name as webhook_name, a.attempt, a.error_kind,"
        f" a.error_message, a.status_code from {admin.schema}delivery_attempts a"
        " left join pgrelay.webhook_configurations w on w.id = a.webhook_id"
        " where a.error_kind is not null and a.started_at > now() - interval '1 day'"
        " order by a.started_at desc limit %s",
        limit,
    )


async def latest(admin: Admin, webhook: int | None, only_failed: bool, limit: int) -> list[Row]:
    """The newest attempts: of one webhook, or of all.

    There is an index of each webhook's attempts by their start, and none of all. The newest of all are of the webhooks
    that were called last, so only as many of them are asked; a tenant has few.
    """
    mine = "select id from pgrelay.webhook_configurations order by id desc limit 500"
    recent = (
        "select webhook_id from pgrelay.metric_deltas union"
        " (select webhook_id from pgrelay.webhook_totals order by last_triggered_at desc nulls last limit %(limit)s)"
    )
    asked = recent if admin.schema == EVERYTHING else mine
    if webhook is not None:
        asked = "select %(webhook)s::bigint"
    return await admin.rows(
        "select a.*, w.name as webhook_name, o.event_type, o.resource_id"
        f" from (select a.* from ({asked}) as asked (id) cross join lateral ("
        "   select a.id, a.delivery_id, a.event_id, a.webhook_id, a.attempt, a.started_at, a.duration_ms,"
        f"    a.status_code, a.error_kind, a.error_message from {admin.schema}delivery_attempts a"
        "   where a.webhook_id = asked.id and (not %(failed)s or a.error_kind is not null)"
        "   order by a.started_at desc limit %(limit)s) as a"
        "   order by a.started_at desc, a.id desc limit %(limit)s) as a"
        " left join pgrelay.webhook_configurations w on w.id = a.webhook_id"
        f" left join {admin.schema}outbox o on o.id = a.event_id"
        " order by a.started_at desc, a.id desc",
        webhook=webhook,
        failed=only_failed,
        limit=limit,
    )


async def why_waiting(admin: Admin, delivery_id: int) -> str | None:
    """Why a delivery is not sent yet, in words; None when it is not pending."""
    found: str | None = await admin.value(f"select {admin.schema}why_waiting(%s)", delivery_id)
    return found
