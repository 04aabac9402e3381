"""One of each noun, with everything filled in that a test does not speak of."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg

from pgrelay.config.settings import Settings
from pgrelay.delivery import Claim, Outcome, Verdict, Webhook
from pgrelay.sources import EventRule, Operation, Source, Tenant

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def claim(delivery_id: int = 1, webhook_id: int = 1, **fields: Any) -> Claim:
    """A first lease of a delivery."""
    given = {
        "lease_no": 1,
        "webhook_version": 1,
        "event_id": delivery_id,
        "attempt": 1,
        "event_type": "order.paid",
        "idempotency_key": f"order_{delivery_id}_paid_{delivery_id}",
        "body": b'{"event": "order.paid"}',
        "age_seconds": 0.0,
        **fields,
    }
    return Claim(delivery_id=delivery_id, webhook_id=webhook_id, **given)


def webhook(id: int = 1, **fields: Any) -> Webhook:
    """What the daemon knows of a webhook."""
    given = {
        "version": 1,
        "company_id": "1",
        "name": "orders",
        "url": "https://example.com/hook",
        "secret_key": SECRET,
        "previous_secret_key": None,
        "previous_secret_expires_at": None,
        **fields,
    }
    return Webhook(id=id, **given)


def outcome(of: Claim | None = None, **fields: Any) -> Outcome:
    """A success, unless said otherwise."""
    given = {"verdict": Verdict.SUCCEEDED, "started": 0.0, "duration": 0.01, "status_code": 200, **fields}
    return Outcome(claim() if of is None else of, **given)


def settings(dsn: str, keys: Mapping[str, Any] | None = None) -> Settings:
    """For a daemon that may call this machine, gives up soon and tries again at once. `keys`: by dotted name."""
    return Settings().with_values(
        {
            "database.dsn": dsn,
            "environment": "test",
            "daemon.name": "one",
            "daemon.drain_timeout": 5.0,
            "network.allow_http": True,
            "network.allowed_networks": ("127.0.0.0/8",),
            "delivery.retry_schedule": (0.05,),
            **(keys or {}),
        }
    )


def emit(
    db: psycopg.Connection, count: int = 1, *, company_id: str = "1", event_type: str = "order.paid"
) -> None:
    """So many events of the application's own making, numbered in their data, in one transaction."""
    db.execute(
        "select pgrelay.emit(%s, json_build_object('number', n), %s, n::text) from generate_series(1, %s) as n",
        (event_type, company_id, count),
    )


def watch_callbacks(db: psycopg.Connection, *, contacted_valid_for: float | None = None) -> None:
    """Watch the sample application's callback requests: made, and contacted."""
    source = Source(
        "callback_requests",
        "public.callback_requests",
        Tenant(column="company_id"),
        key="id",
        resource="callback_request",
        prefix="callback",
        events=(
            EventRule("callback.created", on=(Operation.INSERT,)),
            EventRule(
                "callback.contacted", becomes={"status": ("contacted",)}, valid_for=contacted_valid_for
            ),
        ),
    )
    db.execute("select pgrelay.watch(%s, 'main')", (json.dumps(source.definition()),))


def request_a_callback(db: psycopg.Connection, name: str = "Zoe", company_id: int = 1) -> int:
    """What the application does; the row's id."""
    row = db.execute(
        "insert into callback_requests (company_id, customer_name, customer_phone) values (%s, %s, '1') returning id",
        (company_id, name),
    ).fetchone()
    assert row is not None
    return int(row[0])
