"""The nouns of the API as JSON Schema 2020-12. Keys are the columns of the schema `pgrelay`.

One text for three uses: requests are checked against it, the OpenAPI document carries it, the tests hold answers to it.
`x-said` is what a person is told instead of a regular expression.
"""

from typing import Any

from pgrelay.delivery import ErrorKind, Status

Schema = dict[str, Any]

EVENT_PATTERN = r"^(\*|[a-z0-9_]+(\.[a-z0-9_]+)?\.\*|[a-z0-9_]+(\.[a-z0-9_]+){1,2})$"
_PATTERN_SAID = (
    "it must be an event type (callback.created), or callback.* for all that start so, or * for all"
)

ID: Schema = {"type": "integer", "minimum": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time"}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}


def nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object of exactly these properties, all of them there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
        **more,
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """One page of a list."""
    return record(
        {
            "items": {"type": "array", "items": ref(name)},
            "next_cursor": {
                "type": ["string", "null"],
                "description": "Pass it as cursor for the next page; null on the last one.",
            },
        }
    )


_SETTINGS: dict[str, Schema] = {
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
        "items": {"type": "string", "maxLength": 200, "pattern": EVENT_PATTERN, "x-said": _PATTERN_SAID},
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

_WEBHOOK: dict[str, Schema] = {
    "id": ID,
    "company_id": {**TEXT, "description": "The tenant; a webhook gets its own tenant's events only."},
    **{name: ({"type": schema["type"]} if name != "subscribed_events" else
              {"type": "array", "items": TEXT}) | {k: v for k, v in schema.items() if k == "description"}
       for name, schema in _SETTINGS.items()},
    "headers": {
        "type": ["object", "null"],
        "additionalProperties": TEXT,
        "description": "Custom headers, their values masked. Null: there are none, or a reader asks.",
    },
    "created_by": nullable(TEXT),
    "previous_secret_expires_at": {
        **nullable(MOMENT),
        "description": "Until then the secret before the last rotation signs too.",
    },
    "secret_revealed_at": {**nullable(MOMENT), "description": "When the secret was shown, which happens once."},
    "version": {**ID, "description": "Grows with every change; the ETag."},
    "created_at": MOMENT,
    "updated_at": MOMENT,
}  # fmt: skip

_DELIVERY: dict[str, Schema] = {
    "id": ID,
    "event_id": ID,
    "webhook_id": ID,
    "status": {"type": "string", "enum": [str(status) for status in Status]},
    "attempts": {**COUNT, "description": "Requests made in the current round, the one in flight included."},
    "next_attempt_at": nullable(MOMENT),
    "leased_until": nullable(MOMENT),
    "leased_by": {**nullable(TEXT), "description": "The daemon that is sending it now."},
    "created_at": MOMENT,
    "finished_at": nullable(MOMENT),
    "last_status_code": nullable({"type": "integer"}),
    "last_error": nullable(TEXT),
    "webhook_name": {**nullable(TEXT), "description": "Null when the webhook was deleted."},
    "event_type": {
        **nullable(TEXT),
        "description": "Null, as what follows, when the event is no longer kept.",
    },
    "resource_id": nullable(TEXT),
    "company_id": nullable(TEXT),
    "idempotency_key": nullable(TEXT),
}
_ATTEMPT: dict[str, Schema] = {
    "id": ID,
    "attempt": {**ID, "description": "From 1."},
    "started_at": MOMENT,
    "duration_ms": nullable({"type": "integer"}),
    "status_code": nullable({"type": "integer"}),
    "error_kind": {"type": ["string", "null"], "enum": [*(str(kind) for kind in ErrorKind), None]},
    "error_message": nullable(TEXT),
    "request_headers": {
        "type": ["object", "null"],
        "description": "As sent; signatures and the values of custom headers are masked.",
    },
    "response_headers": {"type": ["object", "null"]},
    "response_body": {**nullable(TEXT), "description": "Cut."},
    "daemon": nullable(TEXT),
    "late": {**FLAG, "description": "Recorded after the lease was lost."},
    "delivery_id": ID,
    "event_id": ID,
    "webhook_id": ID,
}
_EVENT: dict[str, Schema] = {
    "id": ID,
    "event_type": TEXT,
    "source": nullable(TEXT),
    "resource_id": nullable(TEXT),
    "company_id": TEXT,
    "idempotency_key": TEXT,
    "occurred_at": MOMENT,
}
_LAST_TRIGGERED: Schema = {**nullable(MOMENT), "description": "When the last attempt was made."}
_FIGURES: dict[str, Schema] = {
    "total_deliveries": {**COUNT, "description": "Deliveries that ended, succeeded or failed."},
    "successful_deliveries": COUNT,
    "failed_deliveries": COUNT,
    "success_rate": {"type": ["number", "null"], "description": "Percent."},
    "attempts": COUNT,
    "last_triggered_at": _LAST_TRIGGERED,
    "pending_deliveries": COUNT,
    "oldest_pending_at": nullable(MOMENT),
}
_BUCKETS = (
    *("le_5_ms", "le_10_ms", "le_25_ms", "le_50_ms", "le_100_ms", "le_250_ms", "le_500_ms", "le_1000_ms"),
    *("le_2500_ms", "le_5000_ms", "le_10000_ms", "gt_10000_ms"),
)

COMPONENTS: dict[str, Schema] = {
    "Webhook": record(_WEBHOOK),
    "NewWebhook": record(
        {"company_id": {**_COMPANY, "description": "Needed from an admin; a tenant's own if left out."}}
        | _SETTINGS
        | {"headers": _HEADERS, "secret_key": {**_SECRET, "description": "Generated if left out."}},
        optional=(
            *("company_id", "is_active", "paused", "timeout_seconds", "max_retry_attempts", "retry_schedule"),
            *("description", "headers", "secret_key"),
        ),
    ),
    "WebhookChange": record(
        _SETTINGS
        | {
            "headers": _HEADERS
            | {
                "additionalProperties": {**_HEADER_VALUE, "type": ["string", "null"]},
                "description": "Those named are set, or removed if null; null itself removes all.",
            }
        },
        optional=(*_SETTINGS, "headers"),
        minProperties=1,
        description="A JSON merge patch (RFC 7396): what is left out stays as it is.",
    ),
    "WebhookWithSecret": record(
        _WEBHOOK | {"secret_key": {**TEXT, "description": "Shown here and never again."}}
    ),
    "Secret": record({"id": ID, "secret_key": TEXT, "version": ID}),
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
    "TestEvent": record({"event_id": ID}),
    "Replay": record(
        {
            "since": {**MOMENT, "description": "Events captured from then on …"},
            "until": {**MOMENT, "description": "… until before then; now if left out."},
            "dry_run": {**FLAG, "default": False, "description": "Count only."},
        },
        optional=("until", "dry_run"),
    ),
    "ReplayStarted": record({"deliveries": COUNT, "dry_run": FLAG}),
    "Delivery": record(_DELIVERY),
    "Attempt": record(_ATTEMPT),
    "Event": record(_EVENT),
    "EventWithBody": record(
        _EVENT | {"body": {**TEXT, "description": "The text that is sent, byte for byte, on every attempt."}}
    ),
    "EventType": record(
        {
            "event_type": TEXT,
            "source": {**nullable(TEXT), "description": "Null for the test event."},
            "operations": {"type": "array", "items": TEXT},
            "deadline": {
                **nullable(TEXT),
                "description": "The column that holds the moment at which it fires.",
            },
            "schema": {"type": "object", "description": "JSON Schema 2020-12 of the body."},
            "example": {"type": "object", "description": "A body."},
        }
    ),
    "WebhookStats": record(
        {"webhook_id": ID, "company_id": TEXT, "name": TEXT, "is_active": FLAG, "paused": FLAG} | _FIGURES
    ),
    "Stats": record({"webhooks": COUNT, "active_webhooks": COUNT} | _FIGURES),
    "Minute": record(
        {"webhook_id": ID, "minute": MOMENT}
        | {
            name: COUNT
            for name in (
                *(
                    "attempts",
                    "attempts_failed",
                    "deliveries_succeeded",
                    "deliveries_failed",
                    "duration_ms_sum",
                ),
                *_BUCKETS,
            )
        },
        description="Requests by duration: le_10_ms took more than 5 and at most 10 ms.",
    ),
    "Token": record(
        {
            "id": ID,
            "name": TEXT,
            "role": {"type": "string", "enum": ["admin", "tenant", "reader"]},
            "company_id": nullable(TEXT),
        }
    ),
    "Problem": record(
        {
            "type": {**TEXT, "description": "urn:pgrelay:problem:…"},
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "errors": {
                "type": "array",
                "items": record(
                    {
                        "detail": TEXT,
                        "pointer": {**TEXT, "description": "JSON pointer into the body."},
                        "parameter": {**TEXT, "description": "Of the query."},
                        "header": TEXT,
                    },
                    optional=("pointer", "parameter", "header"),
                ),
            },
        },
        optional=("errors",),
        description="What went wrong (RFC 9457).",
    ),
}
