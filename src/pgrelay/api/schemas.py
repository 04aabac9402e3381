"""The nouns of the API. Keys are the columns of the schema `pgrelay`.

One text for three uses: requests are checked against it, the OpenAPI document carries it, the tests hold answers to it.
"""

from pgrelay.api.bodies import BODIES, SETTINGS
from pgrelay.api.explained import EXPLAINED
from pgrelay.api.fields import COUNT, FLAG, ID, MOMENT, TEXT, Schema, nullable, record, ref
from pgrelay.db.webhook_states import STATES
from pgrelay.delivery import ErrorKind, Status

_SHOWN: Schema = {
    **nullable(TEXT),
    "description": "Shown here and never again. Null where a daemon makes it: reveal it a moment later.",
}
_WEBHOOK: dict[str, Schema] = {
    "id": ID,
    "company_id": {**TEXT, "description": "The tenant; a webhook gets its own tenant's events only."},
    **{name: ({"type": schema["type"]} if name != "subscribed_events" else
              {"type": "array", "items": TEXT}) | {k: v for k, v in schema.items() if k == "description"}
       for name, schema in SETTINGS.items()},
    "headers": {
        "type": ["object", "null"],
        "additionalProperties": TEXT,
        "description": "Custom headers, their values masked; null where there are none.",
    },
    "state": {
        "type": "string",
        "enum": list(STATES),
        "description": "How it is now. It changes without a new version.",
    },
    "disabled_at": {**nullable(MOMENT), "description": "When pgrelay itself made it inactive."},
    "disabled_reason": nullable(TEXT),
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
    "replay_id": {"type": ["integer", "null"], "description": "The replay that made it."},
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
    "requests": {
        "type": "integer",
        "minimum": 1,
        "description": "2 where a kept connection had ended and the same request was sent once more.",
    },
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
_SECONDS: Schema = {"type": ["number", "null"]}
_PREVIEW: dict[str, Schema] = {
    "events": COUNT,
    "bytes": {**COUNT, "description": "Of their bodies."},
    "event_types": {"type": "object", "additionalProperties": COUNT, "description": "How many of each type."},
    "first_event_at": nullable(MOMENT),
    "last_event_at": nullable(MOMENT),
    "per_second": {
        **_SECONDS,
        "description": "How many a replay adds at most, by the webhook's limits and requests.",
    },
    "estimated_seconds": {**_SECONDS, "description": "How long it may take."},
    "kept_since": {
        **nullable(MOMENT),
        "description": "Events from before then are gone, or never were: pgrelay was installed then.",
    },
    "warnings": {"type": "array", "items": TEXT},
}
_REPLAY: dict[str, Schema] = {
    "id": ID,
    "webhook_id": ID,
    "webhook_name": {**nullable(TEXT), "description": "Null when the webhook was deleted."},
    "company_id": TEXT,
    "since": MOMENT,
    "until": MOMENT,
    "event_types": {
        "type": ["array", "null"],
        "items": TEXT,
        "description": "Null: all that it subscribes to.",
    },
    "status": {
        "type": "string",
        "enum": ["running", "stopped", "done"],
        "description": "done: everything is queued; unfinished says how much of that is not delivered yet.",
    },
    "events": {**COUNT, "description": "Counted when it was started."},
    "queued": {**COUNT, "description": "How many became deliveries so far."},
    "skipped": {
        **COUNT,
        "description": "How many had outlived their retention, or are not subscribed to any more.",
    },
    "succeeded": COUNT,
    "failed": COUNT,
    "cancelled": COUNT,
    "unfinished": {**COUNT, "description": "Pending or in flight."},
    "estimated_seconds": {**_SECONDS, "description": "Until the last one is queued."},
    "waits_because": {**nullable(TEXT), "description": "Why nothing more is queued at the moment."},
    "note": {**nullable(TEXT), "description": "Who or what stopped it."},
    "created_at": MOMENT,
    "created_by": nullable(TEXT),
    "started_at": {**MOMENT, "description": "Or resumed."},
    "ended_at": nullable(MOMENT),
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

COMPONENTS: dict[str, Schema] = BODIES | {
    "Webhook": record(_WEBHOOK),
    "WebhookWithSecret": record(_WEBHOOK | {"secret_key": _SHOWN}),
    "Secret": record({"id": ID, "secret_key": _SHOWN, "version": ID}),
    "TestEvent": record({"event_id": ID}),
    "Preview": record(
        {
            "webhook_id": ID,
            "payload_format": TEXT,
            "event_id": {
                **nullable(ID),
                "description": "Null where there is no event yet: a test event stands for it.",
            },
            "event_type": TEXT,
            "content_type": TEXT,
            "body": {**nullable(TEXT), "description": "What is sent, to the byte; null with an error."},
            "error": {**nullable(TEXT), "description": "Why this event cannot be sent so."},
            "filter": nullable(TEXT),
            "matches": {
                "type": ["boolean", "null"],
                "description": "Whether the event is owed; null for a test, which always is.",
            },
            "events_tried": {**COUNT, "description": "Latest events that it subscribes to."},
            "events_matching": {**COUNT, "description": "Those of them that pass the filter."},
        }
    ),
    "Explained": EXPLAINED,
    "ReplayStarted": record(
        {
            "deliveries": {**COUNT, "description": "How many there are, or would be."},
            "dry_run": FLAG,
            "replay_id": {"type": ["integer", "null"], "description": "Null if it was a dry run."},
            "preview": {"anyOf": [ref("ReplayPreview"), {"type": "null"}], "description": "Of a dry run."},
        }
    ),
    "ReplayPreview": record(_PREVIEW),
    "Replay": record(_REPLAY),
    "Delivery": record(_DELIVERY),
    "Attempt": record(_ATTEMPT),
    "Event": record(_EVENT),
    "EventWithBody": record(
        _EVENT
        | {
            "body": {
                **TEXT,
                "description": "The text that is sent, byte for byte, on every attempt,"
                " where payload_format is standard.",
            }
        }
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
