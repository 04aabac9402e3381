"""The nouns that travel along the path of one delivery, and the states it may be in.

Hot nouns are NamedTuples: one is built for every request, and a NamedTuple costs a third of a frozen dataclass.
Times within a request are seconds as float; moments are timezone-aware datetimes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


#: Who may move a delivery from where to where: verb -> (from, possible destinations). The SQL verbs are tested
#: against this table, and the diagram in docs/architecture.md is written from it.
TRANSITIONS: Mapping[str, tuple[frozenset[Status], frozenset[Status]]] = {
    "claim": (frozenset({Status.PENDING}), frozenset({Status.IN_FLIGHT})),
    "succeed": (frozenset({Status.IN_FLIGHT}), frozenset({Status.SUCCEEDED})),
    "fail": (frozenset({Status.IN_FLIGHT}), frozenset({Status.PENDING, Status.FAILED})),
    # cancelled: its webhook was deleted or made inactive meanwhile
    "lapse": (frozenset({Status.IN_FLIGHT}), frozenset({Status.PENDING, Status.FAILED, Status.CANCELLED})),
    "give_back": (frozenset({Status.IN_FLIGHT}), frozenset({Status.PENDING})),
    "cancel": (frozenset({Status.PENDING}), frozenset({Status.CANCELLED})),
    "expire": (frozenset({Status.PENDING}), frozenset({Status.EXPIRED})),
    "retry": (frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED}), frozenset({Status.PENDING})),
}


class ErrorKind(StrEnum):
    """Why an attempt failed. Fixed words, because DBAs group by them."""

    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    BLOCKED_ADDRESS = "blocked_address"
    INVALID_URL = "invalid_url"
    PROTOCOL = "protocol"
    TOO_LARGE = "too_large"
    REDIRECT = "redirect"
    STATUS = "status"
    LAPSED = "lapsed"
    SHUTDOWN = "shutdown"
    #: Nothing was sent: the body could not be made of the event.
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class Webhook:
    """What the daemon needs to know of one row of webhook_configurations, at one `version` of it."""

    id: int
    version: int
    company_id: str
    name: str
    url: str
    #: Empty while there is none to sign with: see `unsignable`.
    secret_key: str
    #: Also signs until `previous_secret_expires_at`; None outside a rotation.
    previous_secret_key: str | None
    previous_secret_expires_at: datetime | None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds for the whole request, connection and body included.
    timeout_seconds: float = 10.0
    #: Attempts in all, the first included.
    max_retry_attempts: int = 3
    #: Waits in seconds between attempts; None takes the schedule of the configuration.
    retry_schedule: tuple[float, ...] | None = None
    #: Requests at once; None takes the limit of the configuration.
    max_concurrency: int | None = None
    #: Requests in any second; None is no limit.
    rate_limit: float | None = None
    #: Of one resource, the next goes out when the one before has ended.
    ordered: bool = False
    #: What is sent: `standard` is the event's body as it is; see `payloads`.
    payload_format: str = "standard"
    payload_template: str | None = None
    #: Why nothing can be signed for it now, so that its deliveries wait: AWAITED, or what is wrong with the key.
    unsignable: str | None = None


#: The webhook has no secret yet; a daemon that has a key makes one.
AWAITED = "its secret is being made"


class Claim(NamedTuple):
    """One delivery, leased to this daemon. Field order is the column order of pgrelay.claim() and pgrelay.expand()."""

    delivery_id: int
    #: Grows with every lease of the delivery; an outcome counts only while it matches (the fence).
    lease_no: int
    webhook_id: int
    webhook_version: int
    event_id: int
    #: Counts from 1; this attempt included.
    attempt: int
    event_type: str
    idempotency_key: str
    #: The event's body, rendered once in the application's transaction: the bytes to send, or what they are made of.
    body: bytes
    #: Seconds since the event was captured, by the database's clock, at the moment of the claim.
    age_seconds: float
    #: When it was due, in epoch seconds of the database; None for one that was leased as its event was expanded.
    due: float | None = None
    #: Seconds from the claim until its event is too old to be sent; None: never.
    expires_in: float | None = None
    #: Of its event, as the database has them; None where the webhook's payload_format needs neither.
    source: bytes | None = None
    resource_id: bytes | None = None
    #: Monotonic seconds when the answer to the claim arrived; not a column.
    claimed_at: float | None = None


class Request(NamedTuple):
    """What goes over the wire."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout_seconds: float


class Response(NamedTuple):
    """A complete answer, whatever its status."""

    status: int
    headers: Mapping[str, str]
    #: At most `max_response_bytes` of it; the rest was not read.
    body: bytes
    #: Seconds from the start of the request, connecting included.
    duration: float
    #: The address the request went to, when known.
    remote_address: str | None = None
    #: How many times it went out: twice where the connection that was kept had ended.
    requests: int = 1


class Failure(NamedTuple):
    """No complete answer, and why. `message` is for people and holds no secrets."""

    kind: ErrorKind
    message: str
    duration: float = 0.0
    remote_address: str | None = None
    requests: int = 1


class Verdict(StrEnum):
    """What an attempt means for its delivery."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    FAILED = "failed"
    #: Never started: the lease goes back and the attempt is not counted.
    GIVE_BACK = "give_back"


class Outcome(NamedTuple):
    """One attempt, finished and judged: what `record_outcomes` writes."""

    claim: Claim
    verdict: Verdict
    #: Monotonic seconds when the request began.
    started: float
    duration: float
    status_code: int | None = None
    error_kind: ErrorKind | None = None
    error_message: str | None = None
    #: Seconds until the next attempt when the verdict is RETRY.
    retry_in: float | None = None
    #: Seconds for which the receiver asked to be left alone altogether.
    hold: float | None = None
    #: JSON objects as text, credentials masked.
    request_headers: str = "{}"
    response_headers: str | None = None
    #: As text, secrets masked; what is no UTF-8 is replaced.
    response_body: str | None = None
    #: How many times the request went out.
    requests: int = 1

    @property
    def waited(self) -> float:
        """Seconds from the capture of the event to the start of this request."""
        claim = self.claim
        since_claim = 0.0 if claim.claimed_at is None else max(0.0, self.started - claim.claimed_at)
        return (claim.age_seconds or 0.0) + since_claim  # no age: the event is not kept any more
