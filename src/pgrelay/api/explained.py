"""What the API says of a test request, step by step; the same as `pgrelay webhooks test --explain --json`."""

from pgrelay.api.fields import FLAG, ID, MOMENT, TEXT, Schema, nullable, record
from pgrelay.delivery import ErrorKind
from pgrelay.doctor.finding import Level

_CERTIFICATE = record(
    {
        "subject": TEXT,
        "issuer": TEXT,
        "names": {"type": "array", "items": TEXT},
        "starts": MOMENT,
        "ends": MOMENT,
    }
)
_FINDING = record(
    {
        "level": {"type": "string", "enum": [str(level) for level in Level]},
        "subject": {**TEXT, "description": "Which step."},
        "message": TEXT,
        "mend": {**nullable(TEXT), "description": "What to do about it."},
    }
)
_SIGNATURE = record(
    {
        "body": {**TEXT, "description": "What was sent."},
        "classic": TEXT,
        "classic_signed": TEXT,
        "standard": nullable(TEXT),
        "standard_signed": TEXT,
    }
)
EXPLAINED: Schema = record(
    {
        "id": ID,
        "ok": {**FLAG, "description": "It would count as delivered."},
        "status_code": nullable({"type": "integer"}),
        "error_kind": {"type": ["string", "null"], "enum": [*(str(kind) for kind in ErrorKind), None]},
        "error_message": nullable(TEXT),
        "addresses": {
            "type": "array",
            "items": record(
                {"address": TEXT, "refused": {**nullable(TEXT), "description": "Which rule forbids it."}}
            ),
            "description": "All of its name.",
        },
        "address": {**nullable(TEXT), "description": "The one that was called."},
        "by_proxy": {
            **FLAG,
            "description": "true: addresses, TLS and times of steps are the proxy's affair.",
        },
        "tls_version": nullable(TEXT),
        "certificate_verified": FLAG,
        "certificate": {"anyOf": [_CERTIFICATE, {"type": "null"}]},
        "seconds": {
            "type": "object",
            "additionalProperties": {"type": "number"},
            "description": "By step: dns, connect, tls, first_byte, body, whole; as far as it came.",
        },
        "response_headers": {"type": ["object", "null"]},
        "response_body": {**TEXT, "description": "Cut."},
        "clock_skew_seconds": {
            "type": ["number", "null"],
            "description": "By how much the receiver's clock is ahead of ours, by its Date.",
        },
        "signature": {**_SIGNATURE, "description": "As the receiver should compute it."},
        "findings": {"type": "array", "items": _FINDING},
    }
)
