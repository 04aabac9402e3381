"""Deliveries as rows: listing, explaining, and doing the same verb to many of them."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pgrelay.db.admin import Admin, Row
from pgrelay.errors import Refused

_BATCH = 500

# Parameters that are null are folded away when the statement is planned, so that indexes serve what is left.
_WHERE = """
where (%(webhook)s::bigint is null or d.webhook_id = %(webhook)s)
    and (%(status)s::text is null or d.status = %(status)s)
    and (%(since)s::timestamptz is null or d.created_at >= %(since)s)
    and (%(until)s::timestamptz is null or d.created_at < %(until)s)
    and (%(event_id)s::bigint is null or d.event_id = %(event_id)s)
    and (%(replay)s::bigint is null or d.replay_id = %(replay)s)
    and (%(before)s::bigint is null or d.id < %(before)s)
"""
# Only where they are asked for: folding comes too late to make a join of a subquery behind an "or". A resource has few
# events, which are found first; a type may have millions.
_OF_RESOURCE = """
    and d.event_id = any (array(select o.id from {schema}outbox o where o.resource_id = %(resource)s))
"""
_OF_EVENT_TYPE = """
    and d.event_id in (select o.id from {schema}outbox o where %(event)s = any (pgrelay.event_patterns(o.event_type)))
"""
_OF_COMPANY = """
    and d.webhook_id in (select w.id from pgrelay.webhook_configurations w where w.company_id = %(company)s)
"""
_JOINED = """
left join {schema}outbox o on o.id = d.event_id left join pgrelay.webhook_configurations w on w.id = d.webhook_id
"""
_DELIVERY = "d.*, w.name as webhook_name, o.event_type, o.resource_id, o.company_id, o.idempotency_key"
_ATTEMPT = (
    "id, attempt, started_at, duration_ms, status_code, error_kind, error_message, request_headers,"
    " response_headers, response_body, daemon, late, requests"
)


class Filters(NamedTuple):
    """Which deliveries: all that match every filter given."""

    webhook: int | None = None
    status: str | None = None
    #: An event type, or a pattern such as callback.*
    event: str | None = None
    resource: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_id: int | None = None
    replay: int | None = None
    company: str | None = None
    #: Delivery ids below it, for the next page.
    before: int | None = None


async def deliveries(admin: Admin, filters: Filters, limit: int) -> list[Row]:
    """The newest that match."""
    # what is shown of events and webhooks is looked up for the page alone
    return await admin.rows(
        f"select {_DELIVERY} from ("
        f"select d.* from {admin.schema}deliveries d {_where(admin, filters)} order by d.id desc limit %(limit)s) d"
        f" {_JOINED.format(schema=admin.schema)} order by d.id desc",
        limit=limit,
        **filters._asdict(),
    )


def _where(admin: Admin, filters: Filters) -> str:
    asked = {
        _OF_RESOURCE: filters.resource,
        _OF_EVENT_TYPE: filters.event,
        _OF_COMPANY: filters.company,
    }
    return _WHERE + "".join(
        text.format(schema=admin.schema) for text, value in asked.items() if value is not None
    )


async def matching(admin: Admin, filters: Filters) -> list[int]:
    """The ids of all that match, by id."""
    rows = await admin.rows(
        f"select d.id from {admin.schema}deliveries d {_where(admin, filters)} order by d.id",
        **filters._asdict(),
    )
    return [row["id"] for row in rows]


async def delivery(admin: Admin, delivery_id: int) -> Row | None:
    """One delivery as it is listed; None if there is none."""
    return await admin.one(
        f"select {_DELIVERY} from {admin.schema}deliveries d {_JOINED.format(schema=admin.schema)} where d.id = %s",
        delivery_id,
    )


async def story(admin: Admin, delivery_id: int) -> Row:
    """One delivery with its event, its webhook and all its attempts. Refused if there is none."""
    found = await admin.one(f"select * from {admin.schema}deliveries where id = %s", delivery_id)
    if found is None:
        raise Refused(f"there is no delivery {delivery_id}", "See pgrelay deliveries list")
    found["event"] = await admin.one(
        "select id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, body"
        f" from {admin.schema}outbox where id = %s",
        found["event_id"],
    )
    found["webhook"] = await admin.one(
        "select id, company_id, name, url, is_active, paused, secrets, timeout_seconds, max_retry_attempts,"
        " payload_format, updated_at"
        " from pgrelay.webhooks where id = %s",
        found["webhook_id"],
    )
    found["waits_because"] = await admin.value("select pgrelay.why_waiting(%s)", delivery_id)
    found["waits_for"] = await admin.one(
        "select d.id, d.status, d.attempts, d.next_attempt_at, d.created_at from pgrelay.deliveries d"
        " where d.id = pgrelay.blocking_delivery(%s)",
        delivery_id,
    )
    found["expires_at"] = await admin.value(
        "select expires_at from pgrelay.delivery_queue where id = %s", delivery_id
    )
    found["attempts_made"] = await admin.rows(
        f"select {_ATTEMPT} from {admin.schema}delivery_attempts where delivery_id = %s order by started_at, id",
        delivery_id,
    )
    return found


async def attempts(
    admin: Admin,
    *,
    webhook: int | None = None,
    delivery: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: tuple[datetime, int] | None = None,
    limit: int,
) -> list[Row]:
    """The newest attempts of a webhook or a delivery. `before`: start and id of the last one of the page before."""
    at, attempt_id = before or (None, None)
    return await admin.rows(
        f"select {_ATTEMPT}, delivery_id, event_id, webhook_id from {admin.schema}delivery_attempts"
        " where (%(webhook)s::bigint is null or webhook_id = %(webhook)s)"
        " and (%(delivery)s::bigint is null or delivery_id = %(delivery)s)"
        " and (%(since)s::timestamptz is null or started_at >= %(since)s)"
        " and (%(until)s::timestamptz is null or started_at < %(until)s)"
        " and (%(at)s::timestamptz is null or (started_at, id) < (%(at)s, %(id)s::bigint))"
        " order by started_at desc, id desc limit %(limit)s",
        webhook=webhook,
        delivery=delivery,
        since=since,
        until=until,
        at=at,
        id=attempt_id,
        limit=limit,
    )


async def retry(admin: Admin, ids: Sequence[int]) -> list[Row]:
    """Give each another round of attempts: id, done and (if not) message of each."""
    return await _each(admin, f"{admin.schema}retry_delivery", ids)


async def cancel(admin: Admin, ids: Sequence[int]) -> list[Row]:
    """Stop owing each: id, done and (if not) message of each."""
    return await _each(admin, f"{admin.schema}cancel_delivery", ids)


async def _each(admin: Admin, verb: str, ids: Sequence[int]) -> list[Row]:
    query = f"select i as id, {verb}(i) as done, null as message from unnest(%s::bigint[]) as i"
    found: list[Row] = []
    for start in range(0, len(ids), _BATCH):
        batch = list(ids[start : start + _BATCH])
        try:
            async with admin.connection.transaction():
                found += await admin.rows(query, batch)
        except Refused:
            # one of them is impossible, which undid the whole statement: each by itself
            for delivery_id in batch:
                try:
                    async with admin.connection.transaction():
                        found += await admin.rows(query, [delivery_id])
                except Refused as error:
                    found.append({"id": delivery_id, "done": False, "message": error.message})
    await _explain(admin, [row for row in found if not row["done"] and row["message"] is None])
    return found


async def _explain(admin: Admin, rows: Sequence[Row]) -> None:
    """Say in which state the deliveries are that a verb could do nothing with."""
    if not rows:
        return
    ids = [row["id"] for row in rows]
    known = await admin.rows(f"select id, status from {admin.schema}deliveries where id = any (%s)", ids)
    states = {row["id"]: row["status"] for row in known}
    for row in rows:
        row["message"] = f"it is {states[row['id']]}" if row["id"] in states else "there is no such delivery"
