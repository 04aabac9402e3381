"""What came at the receiver while daemons died and people changed their minds, and what must be true of it.

`Diary` is told what was done, and when; `complaints` compares it with what arrived. All moments are of the loop's clock.

A receiver in a busy process reads late: `lag` says by how much. Requests that a stopped daemon had begun, and that leave
when it goes on, cannot be called back: they are strays, and count for no limit and no order.
"""

import asyncio
import hashlib
import hmac
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

#: A change holds once the daemons have heard of it, between whatever else they do.
NOTICE = 5.0
#: What a receiver asked of one daemon the other knows by then, which looks once a second.
HEARD = 3.0
#: So long after it goes on, what a stopped daemon had begun may still leave.
STRAY = 1.0
#: So soon a request goes out again whose connection ended as it was used again.
ONCE_MORE = 1.5
#: A cut-off request is over for its sender before it is for the receiver.
CUT_OFF = 0.2
FOREVER = float("inf")


@dataclass
class Arrival:
    """One request."""

    webhook: int
    daemon: str
    key: str
    attempt: int
    body: bytes
    headers: dict[str, str]
    at: float
    ended: float = FOREVER
    #: None: it got no answer.
    status: int | None = None
    retry_after: float = 0.0
    stray: bool = False


class Event(NamedTuple):
    """A row of the outbox."""

    id: int
    company_id: str
    resource: str | None
    body: bytes


class History:
    """A value that changes."""

    def __init__(self, at: float, value: Any) -> None:
        self._at, self._values = [at], [value]

    def change(self, at: float, value: Any) -> None:
        self._at.append(at)
        self._values.append(value)

    def during(self, first: float, last: float) -> list[Any]:
        """All that held at some time between these two."""
        return self._values[max(0, bisect_right(self._at, first) - 1) : bisect_right(self._at, last)]

    @property
    def now(self) -> Any:
        return self._values[-1]


@dataclass
class Terms:
    """A webhook, as people changed it."""

    company_id: str
    ordered: bool
    most_attempts: int
    #: Active, not paused, not deleted.
    callable: History
    max_concurrency: History
    rate: History
    secrets: History
    #: Moments at which a person let it go on whatever its receiver asked for.
    freed: list[float] = field(default_factory=list)


@dataclass
class Diary:
    """All that was done."""

    webhooks: dict[int, Terms] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    #: (webhook, event) that a person had sent again, or tried again.
    again: set[tuple[int, int]] = field(default_factory=set)
    #: Of each daemon, from when to when it was stopped.
    stops: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    #: When the receiver looked, and how late that was.
    lags: list[tuple[float, float]] = field(default_factory=list)
    #: In words, for who has to find out what went wrong.
    told: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Something was done."""
        self.told.append(f"{asyncio.get_running_loop().time():.2f} {text}")

    async def watch_the_clock(self) -> None:
        """How late this loop reads what has come; until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            before = now()
            await asyncio.sleep(0.005)
            self.lags.append((now(), now() - before - 0.005))

    def lag(self, at: float) -> float:
        """How much earlier than `at` something may have come that was read then."""
        first, last = bisect_left(self.lags, (at - 0.5, 0.0)), bisect_right(self.lags, (at + 0.1, 0.0))
        return max((late for _, late in self.lags[first:last]), default=0.0)

    def find_strays(self) -> None:
        """And end what was open when its daemon stood still: the others may have taken it over."""
        for one in self.arrivals:
            for stopped, went_on in self.stops[one.daemon]:
                one.stray |= went_on - 0.05 <= one.at <= went_on + STRAY
                if one.at <= stopped < one.ended:
                    one.ended = stopped


def complaints(
    diary: Diary, events: dict[str, Event], attempts: dict[tuple[int, int, int], list[int | None]]
) -> list[str]:
    """All that is wrong. `attempts`: status codes recorded for (webhook, event, attempt)."""
    diary.find_strays()
    by_webhook: dict[int, list[Arrival]] = defaultdict(list)
    for one in sorted(diary.arrivals, key=lambda one: one.at):
        by_webhook[one.webhook].append(one)
    found = []
    for webhook, arrivals in by_webhook.items():
        terms = diary.webhooks[webhook]
        known = [one for one in arrivals if one.key in events]
        found += [f"webhook {webhook}: invented {one.key}" for one in arrivals if one.key not in events]
        for check in (_content, _permission, _concurrency, _rate, _left_alone):
            found += [f"webhook {webhook}: {text}" for text in check(diary, terms, known, events)]
        found += [
            f"webhook {webhook}: {text}" for text in _on_record(webhook, terms, known, events, attempts)
        ]
        found += [f"webhook {webhook}: {text}" for text in _waits(diary, webhook, known, events, attempts)]
        if terms.ordered:
            found += [f"webhook {webhook}: {text}" for text in _order(diary, webhook, known, events)]
    return found


def _content(diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]) -> Iterator[str]:
    for one in arrivals:
        event = events[one.key]
        if event.company_id != terms.company_id:
            yield f"event {event.id} is of tenant {event.company_id}"
        if one.body != event.body:
            yield f"event {event.id} came with another body"
        if one.headers["webhook-id"] != one.key:
            yield f"event {event.id} came as {one.headers['webhook-id']}"
        secrets = terms.secrets.during(one.at - NOTICE, one.at)
        signatures = {
            "sha256=" + hmac.new(key.encode(), one.body, hashlib.sha256).hexdigest() for key in secrets
        }
        if one.headers["x-webhook-signature"] not in signatures:
            yield f"event {event.id} is signed with no secret of its time"


def _permission(
    diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]
) -> Iterator[str]:
    for one in arrivals:
        if not one.stray and not any(terms.callable.during(one.at - NOTICE, one.at)):
            yield f"called at {one.at:.2f} by {one.daemon}, when it was inactive, paused or gone"


def _concurrency(
    diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]
) -> Iterator[str]:
    counted = [one for one in arrivals if not one.stray]
    for one in counted:
        limits = terms.max_concurrency.during(one.at - NOTICE, one.at)
        if None in limits:
            continue
        open_now = [
            other for other in counted
            if other.at <= one.at < (other.ended if other.status else other.ended - CUT_OFF)
        ]  # fmt: skip
        if len(open_now) > max(limits):
            yield f"{len(open_now)} at once at {one.at:.2f}, of {[o.daemon for o in open_now]}, not {max(limits)}"


def _rate(diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]) -> Iterator[str]:
    counted = [one for one in arrivals if not one.stray]
    for number, one in enumerate(counted):
        limits = terms.rate.during(one.at - NOTICE - 1.0, one.at)
        if None in limits or number < (most := int(max(limits))):
            continue
        first = counted[number - most]
        gap = one.at - first.at + diary.lag(first.at)
        if gap < 1.0:
            yield f"{most + 1} within {gap:.3f} s at {one.at:.2f}, by {first.daemon} and {one.daemon}"


def _left_alone(
    diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]
) -> Iterator[str]:
    """429 and 503 with Retry-After hold back all of it, once all daemons know."""
    for busy in arrivals:
        if busy.status not in (429, 503) or busy.retry_after <= HEARD or busy.stray:
            continue
        until = busy.ended + busy.retry_after
        if any(busy.ended - 0.1 <= moment < until for moment in terms.freed) or any(
            busy.at - 0.1 <= stopped <= busy.ended + HEARD
            for stops in diary.stops.values()
            for stopped, _ in stops
        ):
            continue
        for one in arrivals:
            if busy.ended + HEARD < one.at < until and not one.stray:
                yield f"called at {one.at:.2f}, {until - one.at:.2f} s before it wanted to be ({busy.ended:.2f})"


def _on_record(
    webhook: int, terms: Terms, arrivals: list[Arrival], events: dict[str, Event],
    attempts: dict[tuple[int, int, int], list[int | None]],
) -> Iterator[str]:  # fmt: skip
    """Every request that came is an attempt on record, perhaps of unknown end, but for one that went out once more."""
    came: dict[tuple[int, int, int], int] = defaultdict(int)
    broken: dict[tuple[int, int, str], float] = {}
    for one in arrivals:
        event = events[one.key].id
        if one.at > broken.pop((event, one.attempt, one.daemon), 0.0) + ONCE_MORE:
            came[webhook, event, one.attempt] += 1
        if one.status is None:
            broken[event, one.attempt, one.daemon] = one.at
        if one.attempt > terms.most_attempts:
            yield f"event {events[one.key].id} was attempt {one.attempt} of {terms.most_attempts}"
    for what, count in came.items():
        if count > len(attempts.get(what, [])):
            yield f"event {what[1]}, attempt {what[2]} came {count} times, {attempts.get(what, [])} is on record"


def _waits(
    diary: Diary, webhook: int, arrivals: list[Arrival], events: dict[str, Event],
    attempts: dict[tuple[int, int, int], list[int | None]],
) -> Iterator[str]:  # fmt: skip
    """Whatever status it came with, Retry-After is honoured to the moment, where the answer was heard."""
    by_event: dict[int, list[Arrival]] = defaultdict(list)
    for one in arrivals:
        by_event[events[one.key].id].append(one)
    for event, tries in by_event.items():
        if (webhook, event) in diary.again:
            continue
        for one, following in pairwise(tries):
            heard = attempts.get((webhook, event, one.attempt), []) == [one.status]
            if heard and one.retry_after and following.at < one.ended + one.retry_after and not one.stray:
                yield f"event {event} came {following.at - one.ended:.2f} s after it asked for {one.retry_after}"


def _order(diary: Diary, webhook: int, arrivals: list[Arrival], events: dict[str, Event]) -> Iterator[str]:
    """Of one resource the next comes after the one before, and not while that is under way."""
    by_resource: dict[str, list[Arrival]] = defaultdict(list)
    for one in arrivals:
        event = events[one.key]
        if event.resource is not None and not one.stray and (webhook, event.id) not in diary.again:
            by_resource[event.resource].append(one)
    for resource, line in by_resource.items():
        for one, following in pairwise(line):
            before, after = events[one.key].id, events[following.key].id
            if after < before:
                yield f"{resource}: event {after} came after event {before}"
            elif after > before and following.at < one.ended - (0.0 if one.status else CUT_OFF):
                yield f"{resource}: event {after} came while event {before} was under way"
