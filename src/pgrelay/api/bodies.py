"""What the API takes: the bodies of its requests. The database checks once more what is said of a webhook."""

from pgrelay.api.fields import EVENT_PATTERN, EVENT_PATTERN_SAID, FLAG, ID, MOMENT, Schema, record
from pgrelay.payloads import FORMATS

SETTINGS: dict[str, Schema] = {
    "name": {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "pattern": r"\S",
        "x-said": "it must not be blank",
    },
    "url": {
        "type": "string",
        "maxLength": 2048,
        "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$",
        "x-said": "it must begin with https:// (or http:// where the operator allows it), and be ASCII without spaces",
        "examples": ["https://example.com/hooks/orders"],
    },
    "subscribed_events": {
        "type": "array",
        "minItems": 1,
        "maxItems": 100,
        "items": {"type": "string", "maxLength": 200, "pattern": EVENT_PATTERN, "x-said": EVENT_PATTERN_SAID},
        "description": "Event types, or callback.* for all that start so, or * for all.",
        "examples": [["callback.*"]],
    },
    "is_active": {**FLAG, "description": "false: new events are not owed, pending deliveries are cancelled."},
    "paused": {**FLAG, "description": "true: deliveries are kept and wait."},
    "timeout_seconds": {
        "type": "integer",
        "minimum": 1,
        "maximum": 120,
        "description": "For the whole request.",
    },
    "max_retry_attempts": {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "description": "Attempts in all, the first included.",
    },
    "retry_schedule": {
        "type": ["array", "null"],
        "maxItems": 100,
        "items": {"type": "integer", "minimum": 0, "maximum": 2_592_000},
        "description": "Seconds to wait before each further attempt, the last repeated; null takes the operator's.",
    },
    "max_concurrency": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": 10_000,
        "description": "Requests at once; null takes the operator's.",
    },
    "rate_limit_per_second": {
        "type": ["number", "null"],
        "minimum": 0.01,
        "maximum": 10_000,
        "description": "Requests in any second at most; null is no limit.",
    },
    "ordering": {
        "type": "string",
        "enum": ["none", "resource"],
        "description": "resource: of one resource, an event waits until the one before it has ended.",
    },
    "payload_format": {
        "type": "string",
        "enum": list(FORMATS),
        "description": "What is sent: the event's body, a CloudEvent, a Slack message, or what payload_template makes.",
    },
    "payload_template": {
        "type": ["string", "null"],
        "minLength": 2,
        "maxLength": 16_384,
        "description": "A JSON document with {{ expressions }} in its strings, for payload_format template.",
        "examples": ['{"text": "New: {{ data.callback_request.customer_name }}"}'],
    },
    "filter": {
        "type": ["string", "null"],
        "minLength": 1,
        "maxLength": 500,
        "description": "A condition on the event's body, in SQL/JSON path: what meets it is owed; null: all.",
        "examples": ['$.data.callback_request.priority == "urgent"'],
    },
    "description": {"type": ["string", "null"], "maxLength": 2000},
}
_HEADER_VALUE: Schema = {
    "type": "string",
    "maxLength": 4096,
    "pattern": r"^[!-~]([ -~\t]*[!-~])?$",
    "x-said": "it must be visible ASCII, not empty, without spaces around it",
}
_HEADERS: Schema = {
    "type": ["object", "null"],
    "maxProperties": 50,
    "propertyNames": {"maxLength": 200, "pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
    "additionalProperties": _HEADER_VALUE,
    "x-said": "names of headers are letters, digits and -",
    "description": "Custom headers of each request. Their values are not shown again.",
    "examples": [{"Authorization": "Bearer …"}],
}
_SECRET: Schema = {
    "type": "string",
    "maxLength": 100,
    "pattern": r"^whsec_[A-Za-z0-9+/]{32,88}={0,2}$",
    "x-said": "it must be whsec_ and base64 of 24 to 64 bytes",
}
_COMPANY: Schema = {"type": "string", "minLength": 1, "maxLength": 200}

BODIES: dict[str, Schema] = {
    "NewWebhook": record(
        {"company_id": {**_COMPANY, "description": "Needed from an admin; a tenant's own if left out."}}
        | SETTINGS
        | {"headers": _HEADERS, "secret_key": {**_SECRET, "description": "Generated if left out."}},
        optional=(
            *("company_id", "is_active", "paused", "timeout_seconds", "max_retry_attempts", "retry_schedule"),
            *("max_concurrency", "rate_limit_per_second", "ordering", "description", "headers", "secret_key"),
            *("payload_format", "payload_template", "filter"),
        ),
    ),
    "WebhookChange": record(
        SETTINGS
        | {
            "headers": _HEADERS
            | {
                "additionalProperties": {**_HEADER_VALUE, "type": ["string", "null"]},
                "description": "Those named are set, or removed if null; null itself removes all.",
            }
        },
        optional=(*SETTINGS, "headers"),
        minProperties=1,
        description="A JSON merge patch (RFC 7396): what is left out stays as it is.",
    ),
    "Rotation": record(
        {
            "overlap_seconds": {
                "type": "integer",
                "minimum": 0,
                "maximum": 31_536_000,
                "default": 86_400,
                "description": "For how long the old secret signs too.",
            }
        },
        optional=("overlap_seconds",),
    ),
    "PreviewWish": record(
        {
            "event_id": {
                **ID,
                "maximum": 2**63 - 1,
                "description": "Which event; the latest that it subscribes to if left out.",
            },
            "payload_format": SETTINGS["payload_format"],
            "payload_template": {**SETTINGS["payload_template"], "type": "string"},
            "filter": {**SETTINGS["filter"], "type": "string"},
            "last": {
                "type": "integer",
                "minimum": 1,
                "maximum": 1000,
                "default": 100,
                "description": "How many of the latest events the filter is tried on.",
            },
        },
        optional=("event_id", "payload_format", "payload_template", "filter", "last"),
        description="What to try; what is left out is the webhook's own.",
    ),
    "ReplayRequest": record(
        {
            "since": {**MOMENT, "description": "Events captured from then on …"},
            "until": {**MOMENT, "description": "… until before then; now if left out."},
            "event_types": {
                **SETTINGS["subscribed_events"],
                "description": "Of these only (types, or callback.*); all that it subscribes to if left out.",
            },
            "dry_run": {**FLAG, "default": False, "description": "Count and estimate only."},
        },
        optional=("until", "event_types", "dry_run"),
    ),
}
