"""What went wrong with a request, as application/problem+json (RFC 9457).

`errors` names each field that is wrong: a JSON pointer into the body, or the name of a query parameter or a header.
What the database refuses is traced to its field by the constraint that refused it.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from pgrelay.db.admin import LockRefused, TookTooLong
from pgrelay.errors import DatabaseUnavailable, NotPermitted, PgrelayError, Refused, SchemaMismatch

CONTENT_TYPE = "application/problem+json"

#: Fields whose constraints in the schema begin with their names; the longest that fits is meant.
_FIELDS = (
    *(
        "company_id",
        "name",
        "url",
        "subscribed_events",
        "secret_key",
        "timeout_seconds",
        "max_retry_attempts",
    ),
    *("retry_schedule", "headers", "description", "max_concurrency", "rate_limit_per_second", "ordering"),
    *("payload_format", "payload_template", "filter", "event_id"),
)


class Fault(NamedTuple):
    """One field that is wrong."""

    detail: str
    #: JSON pointer into the body, such as /subscribed_events/0.
    pointer: str | None = None
    #: Name of a query parameter.
    parameter: str | None = None
    #: Name of a request header.
    header: str | None = None

    def json(self) -> dict[str, str]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class Problem(Exception):
    """A request that is answered with what is wrong. `kind` is the last word of its `type`."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.faults = faults
        self.headers = dict(headers or {})

    def json(self) -> dict[str, Any]:
        """As RFC 9457 has it."""
        found: dict[str, Any] = {
            "type": f"urn:pgrelay:problem:{self.kind}",
            "title": self.kind.replace("-", " ").capitalize(),
            "status": int(self.status),
            "detail": self.detail,
        }
        if self.faults:
            found["errors"] = [fault.json() for fault in self.faults]
        return found


def not_found(what: str, number: object) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "not-found", f"there is no {what} {number}")


def conflict(detail: str) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "conflict", detail)


def impossible(what: str, number: object, word: str, why: str) -> Problem:
    """A verb that cannot be done as things stand, such as "cancelled"."""
    return conflict(f"{what} {number} cannot be {word}: {why}")


def invalid(faults: Sequence[Fault]) -> Problem:
    """What was sent has the right form and cannot be meant."""
    detail = "; ".join(
        ": ".join(filter(None, (fault.pointer or fault.parameter or fault.header, fault.detail)))
        for fault in faults
    )
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail, faults=faults)


def of_error(error: PgrelayError) -> Problem:
    """The problem that one of our errors is for whoever made the request."""
    match error:
        case TookTooLong() | LockRefused():
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "took-too-long",
                "the database did not answer in time; ask for less, or later",
                headers={"Retry-After": "5"},
            )
        case Refused(constraint=str(constraint)) if constraint.startswith("idempotency_key"):
            return invalid([Fault(_sentence(error), header="Idempotency-Key")])
        case Refused(constraint=str(constraint)) if field := _field(constraint):
            return invalid([Fault(_sentence(error), pointer=f"/{field}")])
        case Refused():
            return conflict(_sentence(error))
        case NotPermitted():
            # whose fault it is: the operator's, who finds the grant in the log
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-granted",
                "the role as whom the API connects to the database lacks a grant; its log says which",
            )
        case DatabaseUnavailable() | SchemaMismatch():
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "database-unavailable",
                "the database cannot be used now",
                headers={"Retry-After": "5"},
            )
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "this is a fault of pgrelay; its log says more"
    )


def _field(constraint: str) -> str | None:
    return max((name for name in _FIELDS if constraint.startswith(name)), key=len, default=None)


def _sentence(error: PgrelayError) -> str:
    return f"{error.message}. {error.remedy}" if error.remedy else error.message
