"""What an attempt means for its delivery: done, tried again and when, or given up.

Pure: no clock, no random source, no I/O; the caller passes the time and draws the jitter. A schedule is a
list of waits in seconds, one per retry: [60, 60] is at once, +60 s, +60 s. If there are more attempts than
waits, the last wait repeats; an empty schedule waits 60 s each time: no schedule is no leave to hammer.

Only 2xx is success, and every failure is treated alike: it is tried again until the attempts are used up.
That goes for a request that a shutdown interrupted, too: it had begun, so the receiver may have acted on it,
and it counts as an attempt like one whose lease lapsed. What never began has no result to judge, and is given
back without coming here.

What the receiver asks for in Retry-After (RFC 9110, section 10.2.3; on any failing status) may lengthen a
wait, never shorten it, and never buys another attempt. A value not of that form is as good as none. Jitter
only ever adds, to whichever wait holds. No wait exceeds `max_wait`. With 429 or 503 the receiver speaks for all
that is sent to it, so the webhook as a whole is held back. 410 Gone means never again: it is not tried again.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple

from pgrelay.delivery import ErrorKind, Failure, Response, Verdict
from pgrelay.masking import mask_url

#: Seconds to wait when a schedule is empty.
DEFAULT_WAIT = 60.0

#: Statuses that are about the receiver as a whole: with Retry-After, they hold for all that is sent to it.
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

#: Characters of a redirect's target that a message shows.
_LONGEST_TARGET = 200

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The three forms of a date in HTTP (RFC 9110, section 5.6.7); strptime reads names by the locale.
_DATES = (
    re.compile(
        r"[A-Z][a-z]{2}, (?P<day>\d\d) (?P<month>[A-Z][a-z]{2}) (?P<year>\d{4}) (?P<time>[\d:]{8}) GMT"
    ),
    re.compile(r"[A-Z][a-z]+, (?P<day>\d\d)-(?P<month>[A-Z][a-z]{2})-(?P<year>\d\d) (?P<time>[\d:]{8}) GMT"),
    re.compile(r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<time>[\d:]{8}) (?P<year>\d{4})"),
)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)")


class Decision(NamedTuple):
    """What becomes of the delivery, and what is recorded of the attempt."""

    verdict: Verdict
    status_code: int | None = None
    error_kind: ErrorKind | None = None
    error_message: str | None = None
    #: Seconds until the next attempt when the verdict is RETRY.
    retry_in: float | None = None
    #: Seconds for which the receiver asked to be left alone altogether.
    hold: float | None = None


def decide(
    result: Response | Failure,
    *,
    attempt: int,
    max_attempts: int,
    schedule: Sequence[float],
    now: datetime,
    jitter_fraction: float = 0.0,
    max_wait: float = 86_400.0,
) -> Decision:
    """What follows from the result of attempt number `attempt`, which counts from 1.

    `schedule` and `max_wait` are seconds. `jitter_fraction` is the part of the wait to add to it, in [0, 1],
    drawn by the caller. `now` must be timezone-aware: ValueError otherwise.
    """
    if now.tzinfo is None:
        raise ValueError("now must be timezone-aware")
    if isinstance(result, Response):
        if is_success(result):
            return Decision(Verdict.SUCCEEDED, result.status)
        status_code, (kind, message) = result.status, _fault(result)
        asked = _retry_after(result.headers, now)
    else:
        status_code, kind, message, asked = None, result.kind, result.message, 0.0
    hold = min(asked, max_wait) if asked and status_code in _BUSY else None
    if attempt >= max_attempts or status_code == HTTPStatus.GONE:
        return Decision(Verdict.FAILED, status_code, kind, message, hold=hold)
    wait = min(max(_scheduled(schedule, attempt), asked), max_wait)
    wait = min(wait + wait * min(1.0, max(0.0, jitter_fraction)), max_wait)
    return Decision(Verdict.RETRY, status_code, kind, message, wait, hold)


def is_success(response: Response) -> bool:
    """Whether the receiver accepted it: any 2xx."""
    return 200 <= response.status <= 299


def _scheduled(schedule: Sequence[float], attempt: int) -> float:
    if not schedule:
        return DEFAULT_WAIT
    return max(0.0, schedule[min(attempt, len(schedule)) - 1])


def _retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds for which the receiver asks to be left alone: 0 if it does not, or in no form that counts."""
    value = _header(headers, "retry-after")
    if value.isascii() and value.isdigit():
        return float(value)  # of any number of digits: infinite at worst, where int() would be an error
    date = _http_date(value, now)
    return 0.0 if date is None else max(0.0, (date - now).total_seconds())


def _header(headers: Mapping[str, str], wanted: str) -> str:
    return next((value.strip() for name, value in headers.items() if name.lower() == wanted), "")


def _fault(response: Response) -> tuple[ErrorKind, str]:
    try:
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:  # a number that no RFC names
        status = str(response.status)
    if not 300 <= response.status <= 399:
        return ErrorKind.STATUS, f"HTTP {status}"
    location = _header(response.headers, "location")
    target = f" to {_shown(location)}" if location else ""
    return ErrorKind.REDIRECT, f"HTTP {status}: redirect{target} not followed"


def _shown(location: str) -> str:
    """A redirect's target without credentials, query and tokens, which may be secrets; printable and not long."""
    target = re.split(r"[?#]", location, maxsplit=1)[0]
    target = re.sub(r"^([^/]*//)[^/]*@", r"\1", target)
    target = mask_url(target)
    return target if len(target) <= _LONGEST_TARGET else target[:_LONGEST_TARGET] + "…"


def _http_date(value: str, now: datetime) -> datetime | None:
    found = next((match for form in _DATES if value.isascii() and (match := form.fullmatch(value))), None)
    if found is None or found["month"] not in _MONTHS or not (time := _TIME.fullmatch(found["time"])):
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:  # RFC 9110: two digits that seem more than 50 years ahead are in the past
        year += now.year - now.year % 100
        year -= 100 if year > now.year + 50 else 0
    hour, minute, second = map(int, time.groups())
    try:  # a leap second is counted as the one before it
        return datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            hour,
            minute,
            min(second, 59),
            tzinfo=UTC,
        )
    except ValueError:  # 31 February, 25 o'clock
        return None
