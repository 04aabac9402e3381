"""What happens, as it happens: new events and failed attempts read from the tables, requests told by the receivers.

It looks every twentieth of a second, and at once when a request arrives that is to be shown; it shows what is
new, an event always before the requests that it led to, and judges every request. Moments are seconds since the
epoch: of commits by Postgres's own clock (track_commit_timestamp), of arrivals by this machine's, which is the
same.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pgrelay.db.admin import Admin
from pgrelay.demo.hooks import Arrival, Hook
from pgrelay.demo.lines import Event, Failure, show_arrivals, show_events, show_failures
from pgrelay.demo.promises import broken
from pgrelay.demo.screen import Screen

INTERVAL = 0.05
#: Ids are drawn before commits: a late one may be so much smaller than one that was already seen.
_LATE_IDS = 1000

_EVENTS = """
select id, event_type, coalesce(resource_id, '') as resource_id, company_id, idempotency_key as key,
       extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 as committed_at
from pgrelay.outbox where id > %s order by id
"""
_FAILURES = """
select a.id, w.name as hook, coalesce(o.event_type, '') as event_type, coalesce(o.resource_id, '') as resource_id,
       a.attempt, w.max_retry_attempts as allowed, a.status_code, a.error_kind, coalesce(d.status, '') as status,
       extract(epoch from d.next_attempt_at - clock_timestamp())::float8 as retry_in
from pgrelay.delivery_attempts a
join pgrelay.webhook_configurations w on w.id = a.webhook_id
left join pgrelay.outbox o on o.id = a.event_id
left join pgrelay.deliveries d on d.id = a.delivery_id
where a.error_kind is not null and a.id > %s order by a.id
"""


class Feed:
    """Everything seen so far, and the task that goes on looking."""

    def __init__(self, admin: Admin, screen: Screen) -> None:
        self.hooks: dict[str, Hook] = {}
        #: By idempotency key.
        self.events: dict[str, Event] = {}
        self.arrivals: list[Arrival] = []
        self.failures: list[Failure] = []
        #: Promises that were broken, as sentences.
        self.problems: list[str] = []
        #: Held while something is written and told, so that its consequences are told after it.
        self.turn = asyncio.Lock()
        self._admin = admin
        self._screen = screen
        self._bodies: dict[tuple[str, str], bytes] = {}
        self._untold: list[Arrival] = []
        self._came = asyncio.Event()
        self._shows = True
        self._looked = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    def arrived(self, arrival: Arrival) -> None:
        """What a receiver calls."""
        self._untold.append(arrival)
        if self._shows:
            self._came.set()

    def start(self) -> None:
        """Look from now on; there must be a schema to look at."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Show nothing but broken promises for a while; the scene counts by itself."""
        self._shows = False
        try:
            yield
        finally:
            self._shows = True

    async def look_again(self) -> None:
        """Return after the next look. Raises what ended the looking."""
        if self._task is None or self._task.done():
            if self._task is not None:
                self._task.result()
            raise RuntimeError("nobody looks any more")
        async with self._looked:
            await self._looked.wait()

    def accepted(self, hook: str) -> dict[str, Arrival]:
        """By key, the first arrival at a webhook that was answered with success."""
        found: dict[str, Arrival] = {}
        for arrival in self.arrivals:
            if arrival.hook == hook and arrival.accepted:
                found.setdefault(arrival.key, arrival)
        return found

    def latency(self, arrival: Arrival) -> float | None:
        """Seconds from commit to arrival; None of what no event was committed for."""
        event = self.events.get(arrival.key)
        return None if event is None else arrival.at - event.committed_at

    async def _run(self) -> None:
        try:
            while True:
                await self._look()
                async with self._looked:
                    self._looked.notify_all()
                # not wait_for(): until Python 3.12 it can swallow a cancellation that comes with the event
                with suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._came.wait()
        finally:
            async with self._looked:
                self._looked.notify_all()

    async def _look(self) -> None:
        async with self.turn:
            self._came.clear()
            arrivals, self._untold = self._untold, []
            events = await self._new_events()
            last = self.failures[-1].id if self.failures else 0
            failures = [Failure(**row) for row in await self._admin.rows(_FAILURES, last)]
        self.events |= {event.key: event for event in events}
        self.arrivals += arrivals
        self.failures += failures
        for arrival in arrivals:
            self._judge(arrival)
        if self._shows:
            show_events(self._screen, events)
            show_arrivals(self._screen, arrivals, self.latency)
            show_failures(self._screen, failures)

    async def _new_events(self) -> list[Event]:
        last = max((event.id for event in self.events.values()), default=0)
        rows = await self._admin.rows(_EVENTS, last - _LATE_IDS)
        return [Event(**row) for row in rows if row["key"] not in self.events]

    def _judge(self, arrival: Arrival) -> None:
        event = self.events.get(arrival.key)
        company = event.company_id if event else None
        problem = broken(arrival, self.hooks[arrival.hook].company_id, company, self._bodies)
        self._bodies.setdefault((arrival.hook, arrival.key), arrival.body)
        if problem:
            self.problems.append(problem)
            self._screen.line("wrong", problem)
