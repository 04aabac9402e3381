"""Deliveries and the attempts made for them; retry, cancel."""

from collections.abc import Awaitable, Callable, Sequence

from pgrelay.api import webhooks
from pgrelay.api.call import Answer, Call, page
from pgrelay.api.fields import page_of, ref
from pgrelay.api.problems import Fault, impossible, invalid, not_found
from pgrelay.api.route import (
    COMPANY,
    EVENT_ID,
    EVENT_TYPE,
    REPLAY_ID,
    RESOURCE,
    SINCE,
    UNTIL,
    WEBHOOK_ID,
    Route,
    listed,
)
from pgrelay.api.validate import moment
from pgrelay.db import admin_deliveries
from pgrelay.db.admin import Admin, Row
from pgrelay.delivery import Status


async def list_deliveries(call: Call) -> Answer:
    (before,) = call.cursor(int) or (None,)
    filters = admin_deliveries.Filters(
        webhook=call.query.get("webhook_id"),
        status=call.query.get("status"),
        event=call.query.get("event_type"),
        resource=call.query.get("resource_id"),
        since=call.query.get("since"),
        until=call.query.get("until"),
        event_id=call.query.get("event_id"),
        replay=call.query.get("replay_id"),
        company=call.company,
        before=before,
    )
    return page(await admin_deliveries.deliveries(call.admin, filters, call.limit + 1), call.limit, "id")


async def read(call: Call) -> Answer:
    return Answer(await _found(call))


async def retry(call: Call) -> Answer:
    return await _done(call, admin_deliveries.retry, "retried")


async def cancel(call: Call) -> Answer:
    return await _done(call, admin_deliveries.cancel, "cancelled")


async def _done(
    call: Call, verb: Callable[[Admin, Sequence[int]], Awaitable[list[Row]]], word: str
) -> Answer:
    delivery_id = (await _found(call))["id"]
    (done,) = await verb(call.admin, [delivery_id])
    if not done["done"]:
        raise impossible("delivery", delivery_id, word, done["message"])
    return Answer(await _found(call))


async def _found(call: Call) -> Row:
    delivery_id = call.path["delivery_id"]
    row = await admin_deliveries.delivery(call.admin, delivery_id)
    if row is None:
        raise not_found("delivery", delivery_id)
    return row


async def attempts_of_delivery(call: Call) -> Answer:
    await _found(call)
    return await _attempts(call, delivery=call.path["delivery_id"])


async def attempts_of_webhook(call: Call) -> Answer:
    await webhooks.found(call)
    return await _attempts(call, webhook=call.path["webhook_id"])


async def _attempts(call: Call, **of: int) -> Answer:
    known = call.cursor(str, int)
    before = None
    if known is not None:
        try:
            before = (moment(known[0]), known[1])
        except ValueError:
            raise invalid([Fault("it is not one that this list gave", parameter="cursor")]) from None
    rows = await admin_deliveries.attempts(
        call.admin,
        since=call.query.get("since"),
        until=call.query.get("until"),
        before=before,
        limit=call.limit + 1,
        **of,
    )
    return page(rows, call.limit, "started_at", "id")


_DELIVERY = ref("Delivery")

ROUTES = [
    Route(
        "GET",
        "/deliveries",
        "list_deliveries",
        "Deliveries, newest first",
        list_deliveries,
        page_of("Delivery"),
        query=listed(
            webhook_id=WEBHOOK_ID,
            status={"type": "string", "enum": [str(status) for status in Status]},
            event_type=EVENT_TYPE,
            event_id=EVENT_ID,
            replay_id=REPLAY_ID,
            resource_id=RESOURCE,
            company_id=COMPANY,
            since=SINCE,
            until=UNTIL,
        ),
    ),
    Route("GET", "/deliveries/{delivery_id}", "read_delivery", "One delivery", read, _DELIVERY),
    Route(
        "GET",
        "/deliveries/{delivery_id}/attempts",
        "list_attempts_of_delivery",
        "The requests made for a delivery, newest first",
        attempts_of_delivery,
        page_of("Attempt"),
        query=listed(),
    ),
    Route(
        "POST",
        "/deliveries/{delivery_id}/retry",
        "retry_delivery",
        "Another round of attempts for one that failed, was cancelled or expired; a pending one is sent now",
        retry,
        _DELIVERY,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/deliveries/{delivery_id}/cancel",
        "cancel_delivery",
        "Stop owing a pending delivery",
        cancel,
        _DELIVERY,
        may_conflict=True,
    ),
    Route(
        "GET",
        "/webhooks/{webhook_id}/attempts",
        "list_attempts_of_webhook",
        "The requests made to a webhook, newest first",
        attempts_of_webhook,
        page_of("Attempt"),
        query=listed(since=SINCE, until=UNTIL),
    ),
]
