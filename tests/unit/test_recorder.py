"""Outcomes reach the database in batches, once each, whatever goes wrong on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from pgrelay.delivery import ErrorKind, Outcome, Verdict
from pgrelay.errors import DatabaseUnavailable, Refused
from pgrelay.observation import (
    DatabaseBack,
    DatabaseLost,
    LeaseLost,
    Observation,
    RecordingDelayed,
)
from pgrelay.recorder import MAX_BATCH, Recorder
from support.factories import claim, outcome


class Desk:
    """A recorder, and the database it writes to: a list. `answer` may raise, or name lost leases."""

    def __init__(self, capacity: int = 1000) -> None:
        self.batches: list[tuple[int, list[int], bool]] = []
        self.written: list[Outcome] = []
        self.recorded: list[tuple[int, bool]] = []
        self.observed: list[Observation] = []
        self.answer: Callable[[Sequence[Outcome]], list[int]] = lambda outcomes: []
        self.gate = asyncio.Event()
        self.gate.set()
        self.recorder = Recorder(
            self.record,
            daemon="one",
            capacity=capacity,
            on_recorded=lambda of, fenced: self.recorded.append((of.claim.delivery_id, fenced)),
            observe=self.observed.append,
        )

    async def record(
        self, daemon_id: int, daemon: str, outcomes: Sequence[Outcome], now: float, *, resent: bool = False
    ) -> list[int]:
        self.batches.append((daemon_id, [one.claim.delivery_id for one in outcomes], resent))
        await self.gate.wait()
        lost = self.answer(outcomes)
        self.written += outcomes
        return lost

    def put(self, *delivery_ids: int, daemon_id: int = 7) -> None:
        for delivery_id in delivery_ids:
            self.recorder.put(daemon_id, outcome(claim(delivery_id)))

    async def flush(self) -> None:
        async with asyncio.timeout(10):
            await self.recorder.flush()


@asynccontextmanager
async def desk(capacity: int = 1000) -> AsyncIterator[Desk]:
    made = Desk(capacity)
    running = asyncio.create_task(made.recorder.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between attempts are there, and take no time."""
    sleep = asyncio.sleep

    async def at_once(_: float) -> None:
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)


async def test_what_ends_while_a_batch_is_written_is_the_next_batch():
    async with desk() as made:
        made.gate.clear()
        made.put(1)
        await asyncio.sleep(0)
        made.put(2, 3)
        made.gate.set()
        await made.flush()
    assert [ids for _, ids, _ in made.batches] == [[1], [2, 3]]
    assert made.recorded == [(1, False), (2, False), (3, False)]


async def test_a_batch_has_a_bound_and_one_daemon_id():
    async with desk() as made:
        made.put(*range(MAX_BATCH + 1))
        made.put(9001, daemon_id=8)
        made.put(9002, daemon_id=7)
        await made.flush()
    assert [(daemon_id, len(ids)) for daemon_id, ids, _ in made.batches] == [
        (7, MAX_BATCH),
        (7, 1),
        (8, 1),
        (7, 1),
    ]


async def test_while_the_database_is_away_outcomes_wait_and_are_written_once_it_is_back():
    away = 3

    def answer(_: Sequence[Outcome]) -> list[int]:
        nonlocal away
        away -= 1
        if away >= 0:
            raise DatabaseUnavailable("the server is gone")
        return []

    async with desk() as made:
        made.answer = answer
        made.put(1, 2)
        await made.flush()
    assert made.batches == [(7, [1, 2], False), (7, [1, 2], True), (7, [1, 2], True), (7, [1, 2], True)]
    assert [one.claim.delivery_id for one in made.written] == [1, 2]
    kinds = [type(one) for one in made.observed]
    assert kinds.count(DatabaseLost) == 1 and kinds.count(DatabaseBack) == 1 and RecordingDelayed in kinds


async def test_it_is_full_when_more_waits_than_memory_was_given_for():
    async with desk(capacity=2) as made:
        made.gate.clear()
        made.put(1)
        assert not made.recorder.full
        made.put(2)
        assert made.recorder.full and made.recorder.waiting == 2
        made.gate.set()
        await made.flush()
        assert not made.recorder.full and made.recorder.waiting == 0


async def test_a_lost_lease_is_told_and_handed_on_as_such():
    async with desk() as made:
        made.answer = lambda outcomes: [2]
        made.put(1, 2)
        await made.flush()
    assert made.recorded == [(1, False), (2, True)]
    assert [one for one in made.observed if isinstance(one, LeaseLost)] == [LeaseLost(2, 1, 1)]


async def test_one_outcome_that_the_database_cannot_hold_keeps_no_other_from_being_recorded():
    def answer(outcomes: Sequence[Outcome]) -> list[int]:
        if any(one.response_body for one in outcomes):
            raise Refused("character has no equivalent in encoding LATIN1")
        return []

    bad = outcome(
        claim(5),
        verdict=Verdict.RETRY,
        error_kind=ErrorKind.STATUS,
        error_message="sagt „nein“",
        response_headers="{}",
        response_body="💥",
    )
    async with desk() as made:
        made.answer = answer
        made.put(1, 2, 3)
        made.recorder.put(7, bad)
        made.put(6)
        await made.flush()
    assert sorted(one.claim.delivery_id for one in made.written) == [1, 2, 3, 5, 6]
    kept = next(one for one in made.written if one.claim.delivery_id == 5)
    assert kept == bad._replace(error_message="sagt ?nein?", response_headers=None, response_body=None)
    assert made.recorded == [(1, False), (2, False), (3, False), (5, False), (6, False)]


async def test_a_refusal_that_nothing_explains_is_not_swallowed():
    made = Desk()

    def refuse(_: Sequence[Outcome]) -> list[int]:
        raise Refused("no")

    made.answer = refuse
    made.put(1)
    with pytest.raises(Refused):
        await made.recorder.run()
