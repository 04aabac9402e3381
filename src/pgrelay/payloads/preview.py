"""What would be sent of an event, for people who ask beforehand or afterwards."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pgrelay.delivery import Claim
from pgrelay.payloads import CONTENT_TYPE, About, payload
from pgrelay.payloads.event import Unrenderable


class Preview(NamedTuple):
    """The body, or why there is none."""

    content_type: str
    body: str | None
    error: str | None = None


def preview(
    about: About, payload_format: str, payload_template: str | None, event: Mapping[str, Any]
) -> Preview:
    """What this format makes of an event (columns of pgrelay.outbox), to the byte what is sent."""
    made = payload(about, payload_format, payload_template)
    if made is None:
        return Preview(CONTENT_TYPE, event["body"])
    claim = Claim(
        delivery_id=0,
        lease_no=0,
        webhook_id=about.webhook_id,
        webhook_version=0,
        event_id=event["id"],
        attempt=1,
        event_type=event["event_type"],
        idempotency_key=event["idempotency_key"],
        body=event["body"].encode(),
        age_seconds=0.0,
        source=None if event["source"] is None else event["source"].encode(),
        resource_id=None if event["resource_id"] is None else event["resource_id"].encode(),
    )
    try:
        return Preview(made.content_type, made.render(claim).decode())
    except Unrenderable as error:
        return Preview(made.content_type, None, error.message)
