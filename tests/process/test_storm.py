"""Everything at once, at random: the application, two daemons that die and stand still, receivers in all moods, people.

Drawn from a seed. PGRELAY_STORM_SECONDS makes it longer, PGRELAY_STORM_SEED another one; `support.storm` says what must be true.
"""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from pgrelay.delivery import TRANSITIONS, Status
from support.daemon import adopt
from support.database import Database
from support.factories import watch_callbacks
from support.process import eventually
from support.receiver import Receiver
from support.storm import Diary, Event, complaints
from support.storm_application import Change, Session
from support.storm_daemons import Daemons
from support.storm_people import KINDS, People
from support.storm_receiver import Moods

SECONDS = float(os.environ.get("PGRELAY_STORM_SECONDS", "12"))
SEED = int(os.environ.get("PGRELAY_STORM_SEED", "7"))
_DELIVERIES = """
    select id, webhook_id, event_id, status, attempts, lease_no from pgrelay.delivery_queue
    union all select id, webhook_id, event_id, status, attempts, lease_no from pgrelay.delivery_history
"""
_LEFT = """
    select events_waiting + deliveries_pending + deliveries_in_flight
         + (select count(*) from pgrelay.replays where status = 'running') from pgrelay.health
"""
_WHY = """
    select webhook_id, status, leased_by, pgrelay.why_waiting(id), count(*) from pgrelay.delivery_queue group by 1, 2, 3, 4
"""
_MISCOUNTED = """
    select h.id, h.status, count(a.id), h.attempts from pgrelay.delivery_history h
    left join pgrelay.delivery_attempts a on a.delivery_id = h.id and not a.late
    where not h.id = any (%s) group by 1, 2, 4 having count(a.id) <> h.attempts
"""
#: Where a delivery may be at the next look, if no person wants it tried again.
_BEYOND = {status: {status} for status in Status}
for _ in Status:
    for verb, (froms, tos) in TRANSITIONS.items():
        for start, ends in _BEYOND.items():
            if verb != "retry" and ends & froms:
                _BEYOND[start] = ends | tos


class Storm:
    """All who take part."""

    def __init__(
        self, operator: AsyncConnection, database: Database, receiver: Receiver, folder: Path
    ) -> None:
        self._db, self.database = operator, database
        self.chance = random.Random(SEED)
        self.diary = Diary()
        self.moods = Moods(receiver, self.diary, self.chance)
        self.people = People(operator, receiver, self.moods, self.diary, self.chance)
        self.daemons = Daemons(database.dsn, folder, self.diary, self.chance)
        self.committed: set[Change] = set()
        self.last: dict[int, tuple[Any, ...]] = {}
        self.now = asyncio.get_running_loop().time

    async def blow(self, until: float) -> None:
        """At random, until that moment."""
        people, daemons = self.people, self.daemons
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (24, people.change_mood), (6, people.pause), (5, people.set_active), (6, people.limit), (5, people.rotate),
            (2, people.delete), (2, people.new_webhook), (6, people.cancel), (6, people.retry), (3, people.replay), (3, people.stop_or_resume_a_replay),
            (2, people.close_circuit), (3, people.test), (3, daemons.kill), (2, daemons.stop), (4, daemons.freeze),
            (3, people.cut),
        ]  # fmt: skip
        weights, verbs = zip(*actions, strict=True)
        steps = 0
        while self.now() < until:
            with suppress(psycopg.ProgrammingError):  # refused: it is paused, or gone just now
                await self.chance.choices(verbs, weights)[0]()
            await daemons.mind()
            steps += 1
            if steps % 10 == 0:
                await self.audit()
            await asyncio.sleep(self.chance.random() * 0.15)  # its own rhythm: there is no event to await

    async def die_down(self) -> None:
        """All receivers are well, all webhooks go on, both daemons run."""
        self.moods.calm = True
        await self.people.let_everything_go()
        for name, made in self.daemons.of.items():
            await self.daemons.go_on(name)
            if made is None:
                self.daemons.start(name)

        def is_done() -> bool:
            with self.database.connect() as connection:
                return connection.execute(_LEFT.encode()).fetchone() == (0,)

        try:
            await eventually(is_done, "all is delivered")
        except TimeoutError:
            left = await (await self._db.execute(_WHY.encode())).fetchall()
            raise AssertionError("\n".join([*self.diary.told, *map(str, left)])) from None
        for name in self.daemons.of:
            await self.daemons.end(name, "in good order")

    async def audit(self) -> None:
        """Nothing is gone, and nothing has gone a way that there is not."""
        retried = frozenset(self.people.retried)
        cursor = await self._db.execute(_DELIVERIES.encode())
        found = {row[0]: row for row in await cursor.fetchall()}
        assert found.keys() >= self.last.keys(), f"deliveries are gone: {self.last.keys() - found.keys()}"
        for key, (_, webhook, event, status, attempts, lease_no) in found.items():
            if (before := self.last.get(key)) is not None:
                assert before[1:3] == (webhook, event) and before[5] <= lease_no
                if key not in retried:
                    assert Status(status) in _BEYOND[Status(before[3])], f"{before} became {found[key]}"
            assert attempts <= self.diary.webhooks[webhook].most_attempts
        self.last = found

    async def verdict(self, keepers: dict[str, int]) -> None:
        """Once all is quiet. `keepers` are webhooks that nobody touched, of each tenant."""
        await self.audit()
        cursor = await self._db.execute(
            "select idempotency_key, id, company_id, resource_id, convert_to(body, 'UTF8'), event_type, source from pgrelay.outbox",
            binary=True,
        )
        rows = await cursor.fetchall()
        events = {row[0]: Event(row[1], row[2], row[3] and f"{row[6]} {row[3]}", row[4]) for row in rows}
        assert len(events) == len(rows), "one key twice"
        captured = [(row[5], _number(row[4])) for row in rows if row[5] != "webhook.test"]
        assert len(set(captured)) == len(captured), "one change is two events"
        assert set(captured) == self.committed, (
            f"lost: {self.committed - set(captured)}, invented: {set(captured) - self.committed}"
        )
        attempts: dict[tuple[int, int, int], list[int | None]] = {}
        cursor = await self._db.execute(
            "select webhook_id, event_id, attempt, status_code from pgrelay.delivery_attempts"
        )
        for webhook, event, attempt, status in await cursor.fetchall():
            attempts.setdefault((webhook, event, attempt), []).append(status)
        accepted = {
            (one.webhook, events[one.key].id)
            for one in self.diary.arrivals
            if one.status == 200 and one.key in events
        }
        owed = {
            (keepers[event.company_id], event.id) for event in events.values()
        } - {(keepers[row[2]], row[1]) for row in rows if row[5] == "webhook.test"}  # fmt: skip
        found = complaints(self.diary, events, attempts)
        found += [f"never arrived at webhook {w}: event {e}" for w, e in sorted(owed - accepted)]
        found += [
            f"{row} did not arrive"
            for row in self.last.values()
            if row[3] == "succeeded" and (row[1], row[2]) not in accepted
        ]
        found += [
            f"{row} was given up"
            for row in self.last.values()
            if row[1] in keepers.values() and row[3] != "succeeded"
        ]
        miscounted = await self._db.execute(_MISCOUNTED.encode(), (list(self.people.retried),))
        found += [f"{row}: attempts on record, and counted" for row in await miscounted.fetchall()]
        told = "\n".join(self.diary.told)
        assert not found, f"seed {SEED}:\n{told}\n\n" + "\n".join(found[:20])
        self.diary.note(
            f"{len(events)} events, {len(self.last)} deliveries, {len(self.diary.arrivals)} requests"
        )


def _number(body: bytes) -> int:
    data = json.loads(body)["data"]
    return int(data["number"] if "number" in data else data["callback_request"]["id"])


@asynccontextmanager
async def storm_over(database: Database, folder: Path) -> AsyncIterator[Storm]:
    adopt(database.dsn)
    with database.connect() as connection:
        watch_callbacks(connection)
    async with Receiver() as receiver, await database.aconnect() as operator:
        storm = Storm(operator, database, receiver, folder)
        clock = asyncio.create_task(storm.diary.watch_the_clock())
        try:
            yield storm
        finally:
            for name in storm.daemons.of:
                await storm.daemons.end(name, "by SIGKILL")
            clock.cancel()


async def test_whatever_happens_at_once_nothing_is_lost_invented_too_fast_too_many_or_out_of_order(
    app: Database, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        storm = await stack.enter_async_context(storm_over(app, tmp_path))
        keepers = {company: await storm.people.add({"max_retry_attempts": 100}, company) for company in "12"}
        for kind in KINDS:
            storm.moods.of[await storm.people.add(kind, storm.chance.choice("12"))] = "ok"
        for name in storm.daemons.of:
            storm.daemons.start(name)
        await storm.daemons.are_up()
        end = storm.now() + SECONDS
        writers = []
        for number in range(4):
            connection = await stack.enter_async_context(await app.aconnect())
            session = Session(connection, number, SEED, storm.committed)
            writers.append(asyncio.create_task(session.work(lambda: storm.now() > end)))
        await storm.blow(end)
        await asyncio.gather(*writers)
        await storm.die_down()
        await storm.verdict(keepers)
