"""One test request from this very process, past the queue. Nothing of it is recorded."""

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pgrelay.addresses import Policy
from pgrelay.config import Settings
from pgrelay.delivery import Claim, Request, Webhook
from pgrelay.doctor import diagnosis
from pgrelay.request import RequestBuilder
from pgrelay.transport import Probe, Proxy, load_tls, probe

#: Sends a webhook a test request past the queue: the request, and what became of it.
TryOut = Callable[[Webhook], Awaitable[tuple[Request, Probe]]]


async def try_out(settings: Settings, webhook: Webhook) -> tuple[Request, Probe]:
    """Send a test event to the webhook as a daemon of this configuration would. Raises ConfigError."""
    network = settings.network
    tls = load_tls(network.ca_file, network.client_certificate, network.client_key)
    builder = RequestBuilder(webhook, settings.delivery.user_agent)
    request = builder.build(_test_event(webhook), int(time.time()))
    found = await probe(
        request,
        Policy.of(network.allowed_networks, allow_http=network.allow_http),
        tls=tls.context,
        proxy=Proxy.of(network.proxy),
        max_response_bytes=settings.delivery.max_response_bytes,
    )
    diagnosis.scrubbed(found, builder.scrubber.body, builder.scrubber.text)
    return request, found


def _test_event(webhook: Webhook) -> Claim:
    """As pgrelay.test_webhook() makes them; only the message tells them apart."""
    now = datetime.now(UTC)
    body = {
        "test": True,
        "message": "This is a test event from pgrelay, sent by hand.",
        "webhook_name": webhook.name,
        "timestamp": now.isoformat(),
    }
    unique = int(now.timestamp() * 1000) * 1_000_000 + secrets.randbelow(1_000_000)
    return Claim(
        delivery_id=0,
        lease_no=0,
        webhook_id=webhook.id,
        webhook_version=webhook.version,
        event_id=0,
        attempt=1,
        event_type="webhook.test",
        idempotency_key=f"webhook_{webhook.id}_test_{unique}",
        body=json.dumps(body).encode(),
        age_seconds=0.0,
    )
