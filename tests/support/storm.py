"""What must be true of what came at the receiver while daemons died and people changed their minds: see `complaints`."""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from support.storm_diary import NOTICE, Arrival, Diary, Event, Terms

#: What a receiver asked of one daemon the other knows by then, which looks once a second.
HEARD = 3.0
#: So soon a request goes out again whose connection ended as it was used again.
ONCE_MORE = 1.5
#: A cut-off request is over for its sender before it is for the receiver.
CUT_OFF = 0.2
#: What was given up being sent for its age may have been on its way for so long.
ON_ITS_WAY = 1.0


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
        for check in (_content, _lifetime, _permission, _concurrency, _rate, _left_alone):
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
        secrets = terms.secrets.during(diary.told_by(one.at), one.at)
        signatures = {
            "sha256=" + hmac.new(key.encode(), one.body, hashlib.sha256).hexdigest() for key in secrets
        }
        if one.headers["x-webhook-signature"] not in signatures:
            yield f"event {event.id} is signed with no secret of its time"


def _lifetime(diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]) -> Iterator[str]:
    """What a person wanted sent again is sent, however old."""
    for one in arrivals:
        event = events[one.key]
        late = one.at - diary.lag(one.at) - event.valid_until
        if late > ON_ITS_WAY and (one.webhook, event.id) not in diary.again and not one.stray:
            yield f"event {event.id} came {late:.2f} s after its time was over, by {one.daemon}"


def _permission(
    diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]
) -> Iterator[str]:
    for one in arrivals:
        if not one.stray and not any(terms.callable.during(diary.told_by(one.at), one.at)):
            yield f"called at {one.at:.2f} by {one.daemon}, when it was inactive, paused or gone"


def _concurrency(
    diary: Diary, terms: Terms, arrivals: list[Arrival], events: dict[str, Event]
) -> Iterator[str]:
    counted = [one for one in arrivals if not one.stray]
    for one in counted:
        limits = terms.max_concurrency.during(diary.told_by(one.at), one.at)
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
        limits = terms.rate.during(diary.told_by(one.at, NOTICE + 1.0), one.at)
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
        if (
            any(busy.ended - 0.1 <= moment < until for moment in terms.freed)
            or any(
                busy.at - 0.1 <= stopped <= busy.ended + HEARD
                for stops in diary.stops.values()
                for stopped, _ in stops
            )
            or diary.told_by(busy.ended + HEARD, HEARD) < busy.ended
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
