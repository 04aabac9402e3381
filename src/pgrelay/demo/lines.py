"""How what happens reads: an event, a request that arrived, an attempt that failed, each as one line in columns.

Many of a kind at once, as after a bulk update, are counted instead. A resource is written #7.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pgrelay.demo.hooks import Arrival
from pgrelay.demo.screen import Screen

#: More new lines of one kind at once are counted instead of shown.
MOST_LINES = 6
#: Widths of columns.
_HOOK, _STATUS, _WHAT, _WHEN = 14, 6, 16, 20

_REASONS = {"connect": "cannot connect", "lapsed": "its daemon died"}


class Event(NamedTuple):
    """One row of the outbox, as feed.py reads it."""

    id: int
    event_type: str
    resource_id: str
    company_id: str
    key: str
    committed_at: float


class Failure(NamedTuple):
    """One attempt that failed, as feed.py reads it, and where its delivery stands."""

    id: int
    hook: str
    event_type: str
    resource_id: str
    attempt: int
    allowed: int
    status_code: int | None
    error_kind: str
    status: str
    retry_in: float | None


def show_events(screen: Screen, events: Sequence[Event]) -> None:
    """What was captured, and whose it is."""
    if len(events) > MOST_LINES:
        for (event_type, company), count in Counter((e.event_type, e.company_id) for e in events).items():
            screen.column_line(
                "event", (event_type, _HOOK + _STATUS), (f"company {company}, {count} times", 0)
            )
        return
    for event in events:
        screen.column_line(
            "event",
            (event.event_type, _HOOK + _STATUS),
            (f"company {event.company_id}", _WHAT),
            (event.key, 0),
        )


def show_arrivals(
    screen: Screen, arrivals: Sequence[Arrival], latency: Callable[[Arrival], float | None]
) -> None:
    """What reached whom, how it was answered, how long it took, and whether it could be believed."""
    if len(arrivals) > MOST_LINES:
        for (hook, status), count in Counter((a.hook, a.status) for a in arrivals).items():
            screen.column_line(
                "recv", (hook, _HOOK), (str(status), _STATUS), (f"{count} requests", 0), style=_style(status)
            )
        return
    for arrival in arrivals:
        seconds = latency(arrival)
        when = f"attempt {arrival.attempt}"
        if arrival.attempt == 1 and seconds is not None:
            when = f"{milliseconds(seconds):>5} after commit"
        screen.column_line(
            "recv",
            (arrival.hook, _HOOK),
            (str(arrival.status), _STATUS),
            (_what(arrival.event_type, arrival.resource_id), _WHAT),
            (when, _WHEN),
            (f"wrong: {arrival.problem}" if arrival.problem else "verified (standard + sha256)", 0),
            style=_style(arrival.status),
        )


def show_failures(screen: Screen, failures: Sequence[Failure]) -> None:
    """What failed, why, and what becomes of it; from the tables."""
    if len(failures) > MOST_LINES:
        for (hook, kind), count in Counter((f.hook, f.error_kind) for f in failures).items():
            screen.column_line("retry", (hook, _HOOK + _STATUS), (f"{count} attempts failed: {kind}", 0))
        return
    for failure in failures:
        given_up = failure.status == "failed"
        screen.column_line(
            "dead" if given_up else "retry",
            (failure.hook, _HOOK + _STATUS),
            (_what(failure.event_type, failure.resource_id), _WHAT),
            (f"attempt {failure.attempt} of {failure.allowed}", _WHEN),
            (f"{_reason(failure)}; {_future(failure)}", 0),
        )


def milliseconds(seconds: float) -> str:
    """A duration as people read it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def percentile(values: Iterable[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _style(status: int) -> str:
    return "recv" if 200 <= status < 300 else "retry"


def _what(event_type: str, resource_id: str) -> str:
    return f"{event_type.rpartition('.')[2]} #{resource_id}" if resource_id else event_type


def _reason(failure: Failure) -> str:
    if failure.error_kind == "status":
        return f"status {failure.status_code}"
    return _REASONS.get(failure.error_kind, failure.error_kind)


def _future(failure: Failure) -> str:
    if failure.status == "failed":
        return "given up: dead letter"
    if failure.retry_in is None:
        return "it is tried again"
    return f"next attempt in {max(0.0, failure.retry_in):.1f} s"
