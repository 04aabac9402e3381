"""Events as rows, the types of event there are, and the figures of webhooks."""

from datetime import datetime
from typing import NamedTuple

from pgrelay.db.admin import Admin, Row

_EVENT = "id, event_type, source, resource_id, company_id, idempotency_key, occurred_at"
_STATS = (
    "webhook_id, company_id, name, is_active, paused, total_deliveries, successful_deliveries, failed_deliveries,"
    " success_rate::float8 as success_rate, attempts, last_triggered_at, pending_deliveries, oldest_pending_at"
)


class Filters(NamedTuple):
    """Which events: all that match every filter given."""

    #: An event type, or a pattern such as callback.*
    event: str | None = None
    resource: str | None = None
    company: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    #: Event ids below it, for the next page.
    before: int | None = None


async def events(admin: Admin, filters: Filters, limit: int) -> list[Row]:
    """The newest that match, without their bodies."""
    return await admin.rows(
        f"select {_EVENT} from {admin.schema}outbox"
        " where (%(event)s::text is null or %(event)s = any (pgrelay.event_patterns(event_type)))"
        " and (%(resource)s::text is null or resource_id = %(resource)s)"
        " and (%(company)s::text is null or company_id = %(company)s)"
        " and (%(since)s::timestamptz is null or occurred_at >= %(since)s)"
        " and (%(until)s::timestamptz is null or occurred_at < %(until)s)"
        " and (%(before)s::bigint is null or id < %(before)s) order by id desc limit %(limit)s",
        limit=limit,
        **filters._asdict(),
    )


async def event(admin: Admin, event_id: int) -> Row | None:
    """One event with its body, the exact text that is sent; None if there is none, or none any more."""
    return await admin.one(f"select {_EVENT}, body from {admin.schema}outbox where id = %s", event_id)


async def event_types(admin: Admin) -> list[Row]:
    """What the rules of all sources make, see pgrelay.event_types()."""
    return await admin.rows("select * from pgrelay.event_types()")


async def stats(admin: Admin, webhook_id: int) -> Row | None:
    """Lifetime counts of one webhook and what waits for it; None if there is none."""
    return await admin.one(
        f"select {_STATS} from {admin.schema}webhook_stats where webhook_id = %s", webhook_id
    )


async def stats_of_all(admin: Admin, company: str | None) -> Row:
    """The same, of all webhooks together."""
    found = await admin.one(
        "select count(*) as webhooks, count(*) filter (where is_active) as active_webhooks,"
        " coalesce(sum(total_deliveries), 0)::bigint as total_deliveries,"
        " coalesce(sum(successful_deliveries), 0)::bigint as successful_deliveries,"
        " coalesce(sum(failed_deliveries), 0)::bigint as failed_deliveries,"
        " round(100.0 * sum(successful_deliveries) / nullif(sum(total_deliveries), 0), 2)::float8 as success_rate,"
        " coalesce(sum(attempts), 0)::bigint as attempts, max(last_triggered_at) as last_triggered_at,"
        " coalesce(sum(pending_deliveries), 0)::bigint as pending_deliveries,"
        " min(oldest_pending_at) as oldest_pending_at"
        f" from {admin.schema}webhook_stats where %(company)s::text is null or company_id = %(company)s",
        company=company,
    )
    return found or {}


async def metrics(admin: Admin, webhook_id: int, since: datetime, until: datetime) -> list[Row]:
    """Counts and durations of a webhook by minute; minutes without attempts are left out."""
    return await admin.rows(
        f"select * from {admin.schema}metrics where webhook_id = %s and minute >= %s and minute < %s order by minute",
        webhook_id,
        since,
        until,
    )
