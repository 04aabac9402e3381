"""`pgrelay webhooks test --explain`: what the doctor found, on a terminal."""

from dataclasses import asdict
from typing import Any

from pgrelay.cli.check import print_finding
from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.db import admin_webhooks
from pgrelay.delivery import Request, Webhook
from pgrelay.doctor import diagnosis
from pgrelay.doctor.finding import Finding
from pgrelay.doctor.trial import try_out
from pgrelay.transport import Probe


async def explain(context: Context) -> int:
    """0 if the endpoint answered 2xx, 1 if not."""
    out = context.out
    async with context.admin() as admin:
        row = await admin_webhooks.webhook(admin, context.argument("id"))
        webhook = await admin_webhooks.opened(admin, row["id"], context.keys)
    out.say("One signed test request, from this process and past the queue; no delivery is recorded.")
    request, found = await try_out(context.settings, webhook)
    findings = diagnosis.findings(found, request, row)
    out.value(as_row(webhook, request, found, findings))
    tell(out, findings)
    return 0 if diagnosis.answered_well(found) else 1


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
