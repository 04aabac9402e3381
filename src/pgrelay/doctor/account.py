"""All that one test request told, as data: for `--json`, and for the API."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pgrelay.delivery import Request
from pgrelay.doctor import diagnosis
from pgrelay.doctor.finding import Finding
from pgrelay.transport import Probe


def as_row(webhook_id: int, request: Request, found: Probe, findings: Sequence[Finding]) -> dict[str, Any]:
    """All of it."""
    failure = found.failure
    return {
        "id": webhook_id,
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
