"""The chores: a lease that is kept, deadlines on time, dead daemons judged by one that may."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from pgrelay.errors import DatabaseUnavailable, Refused
from pgrelay.observation import (
    CaptureErrorsSeen,
    DaemonDeclaredDead,
    DeadlinesFired,
    LeasesLapsed,
    Observation,
    UpkeepFailed,
)
from pgrelay.upkeep import (
    FireDeadlines,
    Glance,
    Heartbeat,
    ReadFigures,
    ReleaseLapsed,
    Retain,
    WatchCapture,
    lease_clock,
    run_forever,
)

AWAY = DatabaseUnavailable("the server is gone")


def answers(*results: Any) -> Callable[..., Awaitable[Any]]:
    """A verb that gives these results, one each time; the last one stays. Exceptions are raised."""
    left = list(results)

    async def verb(*_: object) -> Any:
        result = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(result, Exception):
            raise result
        return result

    return verb


def heartbeat(
    beat: Callable[[], Awaitable[bool]],
    observed: list[Observation] | None = None,
    sign_on: Callable[[], Awaitable[None]] | None = None,
    clock: Callable[[], float] = lease_clock,
) -> Heartbeat:
    observed = [] if observed is None else observed
    return Heartbeat(
        beat, sign_on or answers(None), lease=10.0, observe=observed.append, identity=lambda: 7, clock=clock
    )


def test_a_lease_certainly_holds_for_four_fifths_of_its_time_from_when_the_beat_was_sent():
    made = heartbeat(answers(True))
    assert not made.holds(0.0)
    made.began(100.0)
    assert made.holds(107.9) and not made.holds(108.0)
    made.began(106.0)
    assert made.holds(113.9)


def test_a_daemon_judges_others_only_after_a_whole_lease_without_a_gap():
    made = heartbeat(answers(True))
    for moment in (100.0, 104.0, 108.0):
        made.began(moment)
        assert not made.judges(moment)
    made.began(111.0)
    assert made.judges(111.0)
    made.began(200.0)
    assert not made.judges(200.0)
    assert not made.judges(215.0)


async def test_it_beats_five_times_a_lease_and_sooner_after_the_first_time_and_after_a_failure():
    made = heartbeat(answers(True, True, AWAY), clock=lambda: 100.0)
    assert [await made.once() for _ in range(3)] == [1.0, 2.0, 1.0]
    assert made.holds(100.0) and not made.holds(108.0)


def test_a_lease_does_not_wait_for_a_machine_that_sleeps():
    with patch("time.clock_gettime", {time.CLOCK_BOOTTIME: 200.0, time.CLOCK_MONOTONIC: 100.0}.get):
        assert lease_clock() == 200.0


async def test_a_daemon_declared_dead_says_so_and_signs_on_anew():
    observed: list[Observation] = []
    signed_on: list[bool] = []

    async def sign_on() -> None:
        signed_on.append(True)

    await heartbeat(answers(False), observed, sign_on).once()
    assert observed == [DaemonDeclaredDead(7)] and signed_on == [True]


async def test_all_deadlines_that_passed_are_fired_however_many():
    observed: list[Observation] = []
    results = [
        SimpleNamespace(fired=fired, dropped=dropped) for fired, dropped in [(150, 50), (200, 0), (1, 0)]
    ]
    await FireDeadlines(answers(*results), wake=lambda: None, observe=observed.append).once()
    assert observed == [DeadlinesFired(150, 50), DeadlinesFired(200, 0), DeadlinesFired(1, 0)]


async def test_deadlines_that_passed_long_ago_are_looked_for_at_first_and_every_half_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    found = [200, 0, 0, 0, 0]
    clock = SimpleNamespace(now=1000.0)

    async def fire(limit: int, everything: bool) -> SimpleNamespace:
        asked.append(everything)
        return SimpleNamespace(fired=found.pop(0), dropped=0)

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    chore = FireDeadlines(fire, wake=lambda: None, observe=lambda _: None)
    await chore.once()
    assert asked == [True, True], "all of them, until there are no more"
    for clock.now in (1001.0, 1029.0, 1030.0):
        await chore.once()
    assert asked[2:] == [False, False, True]


class Called:
    """Who was called, and when it was so far."""

    def __init__(self, *looks: Any, poll_interval: float = 1.0) -> None:
        self.names: list[str] = []
        chores = {
            name: lambda name=name: self.names.append(name)
            for name in ("expiry", "leases", "metrics", "deadlines", "replays")
        }
        self.glance = Glance(
            answers(*looks), poll_interval=poll_interval, poll=lambda: self.names.append("poll"), calls=chores
        )


def due(**what: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "events": False,
            "deadline_in": None,
            "expired": False,
            "lapsed": False,
            "counted": False,
            "replays": False,
            **what,
        }
    )


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ({}, []),
        ({"events": True}, ["poll"]),
        ({"expired": True}, ["expiry"]),
        ({"lapsed": True}, ["leases"]),
        ({"counted": True}, ["metrics"]),
        ({"replays": True}, ["replays"]),
        ({"deadline_in": -3.0}, ["deadlines"]),
        ({"deadline_in": 0.01}, ["deadlines"]),
        ({"deadline_in": 0.95}, []),
    ],
)
async def test_only_who_has_something_to_do_is_called(what: dict[str, Any], names: list[str]):
    called = Called(due(**what))
    assert await called.glance.once() == 0.9
    await asyncio.sleep(0.05)
    assert called.names == names


async def test_nobody_polls_more_often_than_the_poll_interval_says():
    called = Called(due(events=True), poll_interval=30.0)
    for _ in range(3):
        assert await called.glance.once() == 0.9
    assert called.names == ["poll"]
    assert await Called(due(), poll_interval=0.1).glance.once() == 0.1


async def test_a_chore_that_was_called_while_it_worked_is_done_once_more():
    called, done = asyncio.Event(), 0

    class Chore:
        name = "chore"

        async def once(self) -> float:
            nonlocal done
            done += 1
            if done < 3:
                called.set()
            return 0.0

    working = asyncio.create_task(run_forever(Chore(), lambda _: None, called))
    for _ in range(20):
        await asyncio.sleep(0)
    assert done == 3, "and not again before it is called"
    working.cancel()


async def test_only_deadlines_that_fired_wake_the_deliverer():
    observed: list[Observation] = []
    woken: list[bool] = []
    results = [SimpleNamespace(fired=fired, dropped=dropped) for fired, dropped in [(0, 2), (3, 0)]]
    made = FireDeadlines(answers(*results), wake=lambda: woken.append(True), observe=observed.append)
    await made.once()
    assert woken == []
    await made.once()
    assert woken == [True]
    assert observed == [DeadlinesFired(0, 2), DeadlinesFired(3, 0)]


async def test_who_may_not_judge_declares_nobody_dead_but_ends_what_nobody_is_owed():
    observed: list[Observation] = []
    orphans: list[bool] = []
    may_judge = False

    async def cancel() -> int:
        orphans.append(True)
        return 10_000 if len(orphans) == 1 else 0

    made = ReleaseLapsed(
        answers([SimpleNamespace(daemon_id=3, pending=2, failed=1)]),
        cancel,
        every=2.0,
        may_judge=lambda: may_judge,
        wake=lambda: None,
        observe=observed.append,
    )
    assert await made.once() == 2.0
    assert observed == [] and orphans == [True, True]
    may_judge = True
    await made.once()
    assert observed == [LeasesLapsed(3, 2, 1)]


async def test_every_ring_is_moved_by_its_own_retention_and_small_tables_by_the_longest():
    rotated: list[tuple[str, float]] = []
    pruned: list[float] = []

    async def rotate(ring: str, seconds: float) -> str | None:
        rotated.append((ring, seconds))
        return "emptied slot 3" if len(rotated) == 1 else None

    async def prune(seconds: float) -> None:
        pruned.append(seconds)

    made = Retain(rotate, prune, answers(None), retention=lambda: {"outbox": 10.0, "delivery_attempts": 30.0})
    assert await made.once() == 60.0
    # again at once where it did something
    assert rotated == [("outbox", 10.0), ("outbox", 10.0), ("delivery_attempts", 30.0)] and pruned == [30.0]


async def test_a_ring_that_cannot_be_moved_is_told_and_keeps_nothing_else_from_being_done():
    done: list[str] = []

    async def rotate(ring: str, seconds: float) -> str | None:
        done.append(ring)
        if ring == "outbox":
            raise Refused("canceling statement due to statement timeout")
        return None

    async def prune(seconds: float) -> None:
        done.append("prune")

    async def sweep() -> None:
        done.append("sweep")

    made = Retain(rotate, prune, sweep, retention=lambda: {"outbox": 10.0, "delivery_attempts": 30.0})
    with pytest.raises(Refused, match="timeout"):
        await made.once()
    assert done == ["outbox", "delivery_attempts", "prune", "sweep"]


class Sweeping:
    """Retain with a queue that takes `seconds` to sweep, by a clock that is set by hand."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, seconds: float, failure: Exception | None = None
    ) -> None:
        self.now, self.swept = 0.0, list[float]()
        self._seconds, self._failure = seconds, failure
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        self._retain = Retain(answers(None), answers(None), self._sweep, retention=lambda: {"outbox": 10.0})

    async def _sweep(self) -> None:
        self.swept.append(self.now)
        self.now += self._seconds
        if self._failure is not None:
            raise self._failure

    async def come_at(self, *moments: float) -> None:
        for self.now in moments:
            await self._retain.once()


async def test_the_queue_is_swept_the_less_often_the_longer_that_takes(monkeypatch: pytest.MonkeyPatch):
    made = Sweeping(monkeypatch, 0.5)
    await made.come_at(1000.0, 1060.0, 1500.0, 1501.0, 1999.0)
    assert made.swept == [1000.0, 1501.0]


async def test_however_long_sweeping_took_it_comes_again_within_half_an_hour(monkeypatch: pytest.MonkeyPatch):
    made = Sweeping(monkeypatch, 30.0, Refused("canceling statement due to statement timeout"))
    with pytest.raises(Refused):
        await made.come_at(1000.0)
    await made.come_at(1040.0, 2829.0)
    assert made.swept == [1000.0]
    with pytest.raises(Refused):
        await made.come_at(2830.0)


async def test_the_queue_is_swept_also_when_pruning_fails():
    swept: list[bool] = []

    async def sweep() -> None:
        swept.append(True)

    made = Retain(answers(None), answers(Refused("a lock")), sweep, retention=lambda: {"outbox": 10.0})
    with pytest.raises(Refused, match="a lock"):
        await made.once()
    assert swept == [True]


async def test_capture_errors_are_told_when_their_number_changes():
    observed: list[Observation] = []
    made = WatchCapture(answers(0, 2, 2, 3, 0, 0), observe=observed.append)
    for _ in range(6):
        await made.once()
    assert observed == [CaptureErrorsSeen(2), CaptureErrorsSeen(3)]


async def test_a_chore_goes_on_after_failures_and_tells_those_that_are_not_the_databases(
    monkeypatch: pytest.MonkeyPatch,
):
    observed: list[Observation] = []
    waits: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)
    once = answers(AWAY, Refused("a lock"), 3.0, asyncio.CancelledError())

    class Chore:
        name = "chore"

        async def once(self) -> float:
            try:
                return float(await once())
            except TypeError:
                raise asyncio.CancelledError from None

    with pytest.raises(asyncio.CancelledError):
        await run_forever(Chore(), observed.append)
    assert observed == [UpkeepFailed("chore", "a lock")]
    assert waits == [1.0, 10.0, 3.0]


async def test_figures_are_published_and_taken_back_when_they_cannot_be_read_anew():
    published: list[Any] = []
    figures = SimpleNamespace(_asdict=lambda: {"events_waiting": 3.0})
    chore = ReadFigures(answers(figures, AWAY), answers({7: 60.0}), lambda *seen: published.append(seen))
    assert await chore.once() == ReadFigures.every
    with pytest.raises(DatabaseUnavailable):
        await chore.once()
    assert published == [({"events_waiting": 3.0}, {7: 60.0}), (None, {})]


async def test_figures_that_take_long_to_read_are_read_less_often(monkeypatch):
    monkeypatch.setattr(ReadFigures, "every", 0.1)

    async def slow() -> Any:
        await asyncio.sleep(0.02)
        return SimpleNamespace(_asdict=dict)

    assert await ReadFigures(slow, answers({}), lambda *_: None).once() >= 0.02 / ReadFigures.share
