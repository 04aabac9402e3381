"""One test request from this very process, past the queue: `webhooks test --explain`, `rotate-secret --prove`."""

import json
import secrets
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pgrelay.addresses import Policy
from pgrelay.cli import diagnosis
from pgrelay.cli.check import print_finding
from pgrelay.cli.context import Context
from pgrelay.cli.findings import Finding, Level
from pgrelay.cli.output import Output
from pgrelay.db import admin_webhooks
from pgrelay.delivery import Claim, Request, Webhook
from pgrelay.request import RequestBuilder
from pgrelay.transport import Probe, Proxy, load_tls, probe


async def explain(context: Context) -> int:
    """0 if the endpoint answered 2xx, 1 if not."""
    out = context.out
    async with context.admin() as admin:
        row = await admin_webhooks.webhook(admin, context.argument("id"))
        webhook = await admin_webhooks.opened(admin, row["id"], context.keys)
    out.say("One signed test request, from this process and past the queue; no delivery is recorded.")
    request, found = await try_out(context, webhook)
    findings = diagnosis.diagnose(found, request, webhook.id)
    if row["paused"] or not row["is_active"]:
        state, verb = ("paused", "resume") if row["paused"] else ("inactive", "enable")
        mend = f"pgrelay webhooks {verb} {webhook.id}"
        findings.insert(
            0, Finding(Level.WARNING, "webhook", f"it is {state}: nothing else is sent to it", mend)
        )
    out.value(as_row(webhook, request, found, findings))
    tell(out, findings)
    return 0 if diagnosis.answered_well(found) else 1


async def try_out(context: Context, webhook: Webhook) -> tuple[Request, Probe]:
    """Send a test event to the webhook as a daemon of this configuration would. Raises ConfigError."""
    settings = context.settings
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


def tell(out: Output, findings: list[Finding]) -> None:
    for finding in findings:
        print_finding(out, finding)


def as_row(webhook: Webhook, request: Request, found: Probe, findings: list[Finding]) -> dict[str, Any]:
    """All of it, for --json."""
    failure = found.failure
    return {
        "id": webhook.id,
        "ok": diagnosis.answered_well(found),
        "status_code": found.status,
        "error_kind": None if failure is None else failure.kind,
        "error_message": None if failure is None else failure.message,
        "addresses": [{"address": address, "refused": rule} for address, rule in found.addresses.items()],
        "address": found.address,
        "by_proxy": found.by_proxy,
        "tls_version": found.tls_version,
        "certificate_verified": found.verified,
        "certificate": None if found.certificate is None else asdict(found.certificate),
        "seconds": {step: round(took, 6) for step, took in found.seconds.items()},
        "response_headers": found.headers or None,
        "response_body": found.body.decode("utf-8", "replace"),
        "clock_skew_seconds": diagnosis.skew(found),
        "signature": diagnosis.signature(request),
        "findings": [finding.as_row() for finding in findings],
    }


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
