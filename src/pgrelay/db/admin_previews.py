"""What a webhook's payload format and filter would do: rendered for one event, counted over the latest."""

from typing import Any, NamedTuple

from pgrelay.db import admin_webhooks
from pgrelay.db.admin import Admin, Row
from pgrelay.errors import Refused
from pgrelay.payloads import About
from pgrelay.payloads.preview import preview

_EVENT = "id, event_type, source, resource_id, company_id, idempotency_key, occurred_at, body"
#: What stands for an event where the tenant has none yet: a test, as pgrelay.test_webhook() makes it.
_SAMPLE: Row = {
    "id": None,
    "event_type": "webhook.test",
    "source": None,
    "idempotency_key": "webhook_0_test_0",
    "resource_id": None,
}


class Wish(NamedTuple):
    """What to try; None takes the webhook's own."""

    event_id: int | None = None
    payload_format: str | None = None
    payload_template: str | None = None
    filter: str | None = None
    #: Events that the filter is tried on.
    last: int = 100


async def show(admin: Admin, webhook_id: int, wish: Wish, *, clear: bool = True) -> Row:
    """What is sent of the event (else of the latest one the webhook subscribes to), and what the filter takes.

    `clear`: the webhook's own template may be read. Refused if there is no such webhook or event, or the template
    or the filter is wrong.
    """
    webhook = await admin_webhooks.content(admin, webhook_id, clear=clear)
    given = {name: value for name, value in wish._asdict().items() if value is not None}
    chosen: dict[str, Any] = {**webhook, **given}
    if not clear and chosen["payload_format"] == "template" and wish.payload_template is None:
        raise Refused(
            f"the template of webhook {webhook_id} may hold keys of its receiver, so you may not see what it makes",
            "Give a payload_template of your own, or ask an admin.",
        )
    admin_webhooks.refuse_wrong_template(chosen["payload_format"], chosen["payload_template"])
    tried = await admin.rows(
        f"select event_id, matches from {admin.schema}try_filter(%s, %s, %s)",
        webhook_id,
        wish.filter,
        wish.last,
    )
    event_id = wish.event_id if wish.event_id is not None else tried[0]["event_id"] if tried else None
    event = await _event(admin, webhook, event_id)
    made = preview(
        About(webhook_id, webhook["name"], webhook["company_id"]),
        chosen["payload_format"],
        chosen["payload_template"],
        event,
    )
    return {
        "webhook_id": webhook_id,
        "payload_format": chosen["payload_format"],
        "event_id": event["id"],
        "event_type": event["event_type"],
        "content_type": made.content_type,
        "body": made.body,
        "error": made.error,
        "filter": chosen["filter"],
        "matches": await _matches(admin, chosen["filter"], event),
        "events_tried": len(tried),
        "events_matching": sum(row["matches"] for row in tried),
    }


async def _event(admin: Admin, webhook: Row, event_id: int | None) -> Row:
    if event_id is None:
        body = await admin.value(
            "select json_build_object('test', true, 'message', 'This is a test event from pgrelay.',"
            " 'webhook_name', %s::text, 'timestamp', '2026-01-01T00:00:00+00:00')::text",
            webhook["name"],
        )
        return {**_SAMPLE, "body": body}
    found = await admin.one(
        f"select {_EVENT} from {admin.schema}outbox where id = %s and company_id = %s",
        event_id,
        webhook["company_id"],
    )
    if found is None:
        raise Refused(
            f"webhook {webhook['id']}'s tenant has no event {event_id}, or none any more",
            "Leave it out to take the latest.",
            constraint="event_id_known",
        )
    return found


async def _matches(admin: Admin, condition: str | None, event: Row) -> bool | None:
    """None for a test, which no filter is asked about."""
    if event["event_type"] == "webhook.test":
        return None
    if condition is None:
        return True
    return bool(await admin.value(f"select {admin.schema}filter_matches(%s, %s)", condition, event["body"]))
