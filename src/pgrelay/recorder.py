"""Outcomes in, batched writes out: whatever ended while the last batch was being written is the next batch.

While Postgres is away outcomes wait in memory, up to `capacity`; past it `full` tells the deliverer to stop sending. A
batch whose answer was lost is sent again, marked, and is not recorded twice.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from pgrelay.delivery import Outcome
from pgrelay.errors import DatabaseUnavailable, Refused
from pgrelay.observation import DatabaseBack, DatabaseLost, LeaseLost, Observation, RecordingDelayed

MAX_BATCH = 500
#: Outcomes in one batch from which on there is a rush: then the next batch gathers for a moment, and costs less each.
_RUSH = 32
_GATHER_SECONDS = 0.004
_MAX_BACKOFF = 5.0


class RecordVerb(Protocol):
    """Writes outcomes; ids of deliveries whose lease was lost come back. Raises DatabaseUnavailable."""

    async def __call__(
        self, daemon_id: int, daemon: str, outcomes: Sequence[Outcome], now: float, *, resent: bool = False
    ) -> list[int]: ...


class Recorder:
    """`put` outcomes; `run` writes them until cancelled; `flush` waits until nothing is left.

    `on_recorded` hears of every outcome once it is written, and whether it was fenced off.
    """

    def __init__(
        self,
        record: RecordVerb,
        *,
        daemon: str,
        capacity: int,
        on_recorded: Callable[[Outcome, bool], None],
        observe: Callable[[Observation], None],
    ) -> None:
        self._record = record
        self._daemon = daemon
        self._capacity = capacity
        self._on_recorded = on_recorded
        self._observe = observe
        self._waiting: deque[tuple[int, Outcome]] = deque()
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def full(self) -> bool:
        """More outcomes wait than memory was given for."""
        return len(self._waiting) >= self._capacity

    @property
    def waiting(self) -> int:
        """How many outcomes are not written yet."""
        return len(self._waiting)

    def put(self, daemon_id: int, outcome: Outcome) -> None:
        """Hand over one outcome, made under the leases of `daemon_id`."""
        self._waiting.append((daemon_id, outcome))
        self._empty.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = self._next_batch()
                await self._write(batch)
                if len(batch[1]) >= _RUSH and len(self._waiting) < MAX_BATCH:
                    await asyncio.sleep(_GATHER_SECONDS)
            self._empty.set()

    async def flush(self) -> None:
        """Return when everything handed over is written."""
        await self._empty.wait()

    def _next_batch(self) -> tuple[int, list[Outcome]]:
        daemon_id = self._waiting[0][0]
        batch: list[Outcome] = []
        for owner, outcome in self._waiting:
            if owner != daemon_id or len(batch) == MAX_BATCH:
                break
            batch.append(outcome)
        return daemon_id, batch

    async def _write(self, batch: tuple[int, list[Outcome]]) -> None:
        daemon_id, outcomes = batch
        loop = asyncio.get_running_loop()
        backoff, lost_at = 0.1, 0.0
        while True:
            try:
                fenced = await self._written(daemon_id, outcomes, resent=lost_at > 0.0)
                break
            except DatabaseUnavailable as error:
                if not lost_at:
                    lost_at = loop.time()
                    self._observe(DatabaseLost("record", error.message, backoff))
                self._observe(RecordingDelayed(len(self._waiting)))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)
        if lost_at:
            self._observe(DatabaseBack("record", loop.time() - lost_at))
        for _ in outcomes:
            self._waiting.popleft()
        for outcome in outcomes:
            claim = outcome.claim
            if claim.delivery_id in fenced:
                self._observe(LeaseLost(claim.delivery_id, claim.webhook_id, claim.attempt))
            self._on_recorded(outcome, claim.delivery_id in fenced)

    async def _written(self, daemon_id: int, outcomes: Sequence[Outcome], *, resent: bool) -> frozenset[int]:
        """Record them; ids of those whose lease was lost.

        A batch that the database refuses is halved until the culprit is alone; that one is recorded without what
        the receiver said, which is all that can be wrong with it (text that the database's encoding cannot hold).
        """
        now = monotonic()
        try:
            return frozenset(await self._record(daemon_id, self._daemon, outcomes, now, resent=resent))
        except Refused:
            if len(outcomes) > 1:
                half = len(outcomes) // 2
                first = await self._written(daemon_id, outcomes[:half], resent=resent)
                return first | await self._written(daemon_id, outcomes[half:], resent=resent)
            plain = _plain(outcomes[0])
            if plain == outcomes[0]:
                raise
            return await self._written(daemon_id, [plain], resent=resent)


def _plain(outcome: Outcome) -> Outcome:
    """The outcome without anything that came from outside."""
    message = outcome.error_message
    return outcome._replace(
        error_message=None if message is None else message.encode("ascii", "replace").decode(),
        response_headers=None,
        response_body=None,
    )
