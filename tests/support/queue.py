"""The path of a delivery by hand: webhooks and events put there, SQL verbs called as the daemon calls them.

webhook = add_webhook(db)
event = add_event(db)
daemon = sign_on(db)
(lease,) = expand(db, daemon).leases
record(db, daemon, succeeded(lease))
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from pgrelay.db.arrays import bigints, doubles, integers, texts
from pgrelay.delivery import Claim, ErrorKind, Outcome, Status, Verdict

#: Enough for everything, where a test is about something else.
PLENTY = 10_000


@dataclass
class Step:
    """What one call of expand() gave."""

    leases: list[Claim] = field(default_factory=list)
    #: webhook -> deliveries of this step that are pending
    backlog: dict[int, int] = field(default_factory=dict)
    more: bool = False
    #: Another daemon was at it.
    busy: bool = False


def value(db: psycopg.Connection, query: str, *parameters: Any) -> Any:
    """The first column of the first row; None when there is none."""
    row = db.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


def until_it_waits(db: psycopg.Connection, other: psycopg.Connection) -> None:
    """Return when a statement of another connection waits for a lock."""
    waits = "select exists (select from pg_locks where pid = %s and not granted)"
    while not value(db, waits, other.info.backend_pid):
        pass


def add_webhook(
    db: psycopg.Connection, company_id: object = "1", events: Sequence[str] = ("*",), **columns: Any
) -> int:
    """A webhook; its id. Its subscriptions are old enough for any event."""
    given = {
        "company_id": company_id,
        "name": "orders",
        "url": "https://example.com/hook",
        "subscribed_events": list(events),
        **columns,
    }
    names = sql.SQL(", ").join(map(sql.Identifier, given))
    places = sql.SQL(", ").join([sql.Placeholder()] * len(given))
    query = sql.SQL("insert into pgrelay.webhook_configurations ({}) values ({}) returning id").format(
        names, places
    )
    row = db.execute(query, list(given.values())).fetchone()
    assert row is not None
    db.execute("update pgrelay.subscriptions set since = since - interval '1 day' where webhook_id = %s", row)
    return int(row[0])


def add_event(
    db: psycopg.Connection, event_type: str = "callback.created", company_id: str = "1", **columns: Any
) -> int:
    """One event, as a capture function writes it; its id."""
    given = {
        "event_type": event_type,
        "company_id": company_id,
        "idempotency_key": f"callback_7_created_{event_type}",
        "resource_id": "7",
        "body": json.dumps({"event": event_type}),
        **columns,
    }
    names = sql.SQL(", ").join(map(sql.Identifier, given))
    places = sql.SQL(", ").join([sql.Placeholder()] * len(given))
    query = sql.SQL("insert into pgrelay.outbox ({}) values ({}) returning id").format(names, places)
    row = db.execute(query, list(given.values())).fetchone()
    assert row is not None
    return int(row[0])


def add_events(
    db: psycopg.Connection, count: int, event_type: str = "callback.created", company_id: str = "1"
) -> None:
    """Many events in one statement."""
    db.execute(
        "insert into pgrelay.outbox (event_type, company_id, idempotency_key, resource_id, body)"
        " select %s, %s, 'k_' || g, g::text, '{}' from generate_series(1, %s) as g",
        (event_type, company_id, count),
    )


def sign_on(db: psycopg.Connection, name: str = "one", lease: float = 60.0) -> int:
    """A daemon's id; a negative lease has ended before it began."""
    return int(value(db, "select pgrelay.sign_on(%s, 'host', 1, '0', %s)", name, lease))


def expand(
    db: psycopg.Connection,
    daemon: int,
    *,
    limit: int = PLENTY,
    room: int = PLENTY,
    free: Mapping[int, int] | None = None,
    default_free: int = PLENTY,
) -> Step:
    """One step of expanding."""
    step = Step()
    rows = db.execute(
        "select * from pgrelay.expand(%s, %s, %s, %s::bigint[], %s::integer[], %s)",
        (daemon, limit, room, bigints(list(free or {})), integers(list((free or {}).values())), default_free),
    )
    for row in rows:
        if row[0] is not None:
            step.leases.append(Claim(*row))
        elif row[2] is not None:
            step.backlog[row[2]] = row[5]
        elif row[5] == -1:
            step.busy = True
        elif row[5] is None:
            step.more = True
    return step


def pend(db: psycopg.Connection, daemon: int, **limits: int) -> None:
    """Expand everything, leasing nothing: all of it is pending."""
    while expand(db, daemon, **{"room": 0, **limits}).more:
        pass


def claim(
    db: psycopg.Connection,
    daemon: int,
    wanted: Mapping[int, int] | int,
    floors: Mapping[int, float] | None = None,
) -> list[Claim]:
    """Lease due deliveries: `wanted` is how many of each webhook, or the one webhook to take all of."""
    limits = {wanted: PLENTY} if isinstance(wanted, int) else wanted
    rows = db.execute(
        "select * from pgrelay.claim(%s, %s::bigint[], %s::integer[], %s::double precision[])",
        (
            daemon,
            bigints(list(limits)),
            integers(list(limits.values())),
            doubles([(floors or {}).get(webhook, float("-inf")) for webhook in limits]),
        ),
    )
    return [Claim(*row) for row in rows]


def succeeded(lease: Claim, **details: Any) -> Outcome:
    return Outcome(lease, Verdict.SUCCEEDED, 0.0, **{"duration": 0.004, "status_code": 200, **details})


def failed(lease: Claim, **details: Any) -> Outcome:
    given = {
        "duration": 0.3,
        "error_kind": ErrorKind.TIMEOUT,
        "error_message": "no answer within 10 s",
        **details,
    }
    return Outcome(lease, Verdict.FAILED, 0.0, **given)


def retried(lease: Claim, retry_in: float = 0.0, **details: Any) -> Outcome:
    return failed(lease, retry_in=retry_in, **details)._replace(verdict=Verdict.RETRY)


def record(db: psycopg.Connection, daemon: int, *outcomes: Outcome, resent: bool = False) -> list[int]:
    """Write a batch of outcomes; the ids of deliveries for which one did not count."""
    query, parameters = recording(daemon, *outcomes, resent=resent)
    as_the_daemon_does = [
        texts(given) if isinstance(given, list) and any(isinstance(one, str) for one in given) else given
        for given in parameters
    ]
    return [row[0] for row in db.execute(query.encode(), as_the_daemon_does)]


def recording(daemon: int, *outcomes: Outcome, resent: bool = False) -> tuple[str, tuple[Any, ...]]:
    """The statement that does it."""
    claims = [outcome.claim for outcome in outcomes]
    return (
        "select * from pgrelay.record_outcomes(%s, %s, %s::bigint[], %s::integer[], %s::text[], %s::bigint[], %s::bigint[],"
        " %s::integer[], %s::double precision[], %s::integer[], %s::integer[], %s::text[], %s::text[],"
        " %s::double precision[], %s::text[], %s::text[], %s::text[], %s, %s::integer[])",
        (
            daemon,
            f"daemon {daemon}",
            [claim.delivery_id for claim in claims],
            [claim.lease_no for claim in claims],
            [outcome.verdict for outcome in outcomes],
            [claim.webhook_id for claim in claims],
            [claim.event_id for claim in claims],
            [claim.attempt for claim in claims],
            [outcome.started for outcome in outcomes],
            [round(outcome.duration * 1000) for outcome in outcomes],
            [outcome.status_code for outcome in outcomes],
            [outcome.error_kind for outcome in outcomes],
            [outcome.error_message for outcome in outcomes],
            [outcome.retry_in for outcome in outcomes],
            [outcome.request_headers for outcome in outcomes],
            [outcome.response_headers for outcome in outcomes],
            [outcome.response_body for outcome in outcomes],
            resent,
            [number for number, outcome in enumerate(outcomes, 1) if outcome.requests > 1],
        ),
    )


def status(db: psycopg.Connection, delivery_id: int) -> Status:
    """Where a delivery stands, by the tables: exactly one of them has it."""
    rows = db.execute(
        "select status from pgrelay.delivery_queue where id = %(id)s"
        " union all select status from pgrelay.delivery_history where id = %(id)s",
        {"id": delivery_id},
    ).fetchall()
    assert len(rows) == 1, f"delivery {delivery_id} is there {len(rows)} times"
    return Status(rows[0][0])
