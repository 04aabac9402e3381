"""Events, the types of event there are, and figures."""

from datetime import UTC, datetime, timedelta

from pgrelay.api import event_types, webhooks
from pgrelay.api.call import Answer, Call, page
from pgrelay.api.fields import page_of, record, ref
from pgrelay.api.problems import Fault, invalid, not_found
from pgrelay.api.route import COMPANY, EVENT_TYPE, RESOURCE, SINCE, UNTIL, Route, listed
from pgrelay.db import admin_events

_LONGEST_METRICS = timedelta(days=1)


async def list_events(call: Call) -> Answer:
    (before,) = call.cursor(int) or (None,)
    filters = admin_events.Filters(
        event=call.query.get("event_type"),
        resource=call.query.get("resource_id"),
        company=call.company,
        since=call.query.get("since"),
        until=call.query.get("until"),
        before=before,
    )
    return page(await admin_events.events(call.admin, filters, call.limit + 1), call.limit, "id")


async def read_event(call: Call) -> Answer:
    row = await admin_events.event(call.admin, call.path["event_id"])
    if row is None:
        raise not_found("event", call.path["event_id"])
    return Answer(row)


async def list_event_types(call: Call) -> Answer:
    return Answer({"items": event_types.described(await admin_events.event_types(call.admin))})


async def stats(call: Call) -> Answer:
    return Answer(await admin_events.stats_of_all(call.admin, call.company))


async def stats_of_webhook(call: Call) -> Answer:
    row = await admin_events.stats(call.admin, call.path["webhook_id"])
    if row is None:
        raise not_found("webhook", call.path["webhook_id"])
    return Answer(row)


async def metrics(call: Call) -> Answer:
    await webhooks.found(call)
    until: datetime = call.query.get("until", datetime.now(UTC))
    try:
        since: datetime = call.query.get("since", until - timedelta(hours=1))
        too_long = until - since > _LONGEST_METRICS
    except OverflowError:
        too_long = True
    if too_long:
        raise invalid([Fault("at most a day before until", parameter="since")])
    return Answer({"items": await admin_events.metrics(call.admin, call.path["webhook_id"], since, until)})


async def token(call: Call) -> Answer:
    return Answer(call.access._asdict())


ROUTES = [
    Route(
        "GET",
        "/event-types",
        "list_event_types",
        "What may happen, with a JSON Schema and an example of each body",
        list_event_types,
        record({"items": {"type": "array", "items": ref("EventType")}}),
        description="Those that the operator's rules make. Applications may emit others.",
    ),
    Route(
        "GET",
        "/events",
        "list_events",
        "Events, newest first",
        list_events,
        page_of("Event"),
        query=listed(
            event_type=EVENT_TYPE, resource_id=RESOURCE, company_id=COMPANY, since=SINCE, until=UNTIL
        ),
    ),
    Route(
        "GET",
        "/events/{event_id}",
        "read_event",
        "One event, with the exact text that is sent",
        read_event,
        ref("EventWithBody"),
    ),
    Route(
        "GET",
        "/stats",
        "stats",
        "Lifetime counts of all webhooks together",
        stats,
        ref("Stats"),
        query={"company_id": COMPANY},
    ),
    Route(
        "GET",
        "/webhooks/{webhook_id}/stats",
        "stats_of_webhook",
        "Lifetime counts of a webhook, and what waits for it",
        stats_of_webhook,
        ref("WebhookStats"),
    ),
    Route(
        "GET",
        "/webhooks/{webhook_id}/metrics",
        "metrics_of_webhook",
        "Counts and durations by minute, for graphs; the last hour unless said otherwise, at most a day",
        metrics,
        record({"items": {"type": "array", "items": ref("Minute")}}),
        query={"since": SINCE, "until": UNTIL},
    ),
    Route("GET", "/token", "read_token", "Whose token this is", token, ref("Token")),
]
