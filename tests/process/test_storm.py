"""Everything at once, at random: the application, two daemons that die and stand still, a server that crashes, receivers in all
moods, people.

Drawn from a seed. PGRELAY_STORM_SECONDS makes it longer, PGRELAY_STORM_SEED another one; `support.storm` says what must be true.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

from pgrelay.delivery import TRANSITIONS, Status
from pgrelay.demo.cluster import Cluster
from support.daemon import adopt
from support.database import Database, install_application, start_cluster
from support.factories import watch_callbacks
from support.process import eventually
from support.receiver import Receiver
from support.storm import complaints
from support.storm_application import Session, Written
from support.storm_daemons import LEASE, Daemons
from support.storm_diary import FOREVER, Diary, Event
from support.storm_people import KINDS, People
from support.storm_receiver import Moods

SECONDS = float(os.environ.get("PGRELAY_STORM_SECONDS", "12"))
#: Of a long one: how often the server crashes, after a first time.
SECONDS_TO_A_CRASH = 20.0
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
#: What was committed, as the application's own rows say.
_ROWS = """
    select 'callback.created', id from callback_requests
    union all select 'callback.contacted', id from callback_requests where status = 'contacted'
"""
_EXPIRED_EARLY = """
    select h.id, h.finished_at, o.valid_until from pgrelay.delivery_history h join pgrelay.outbox o on o.id = h.event_id
    where h.status = 'expired' and h.finished_at < coalesce(o.valid_until, 'infinity')
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
        self.written = Written()
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
        steps, crash_at = 0, self.now() + (until - self.now()) * self.chance.uniform(0.3, 0.6)
        while self.now() < until:
            if self.now() > crash_at:
                crash_at += SECONDS_TO_A_CRASH
                await self.crash()
            with suppress(psycopg.ProgrammingError):  # refused: it is paused, or gone just now
                await self.chance.choices(verbs, weights)[0]()
            await daemons.mind()
            steps += 1
            if steps % 10 == 0:
                await self.audit()
            await asyncio.sleep(self.chance.random() * 0.15)  # its own rhythm: there is no event to await

    async def crash(self) -> None:
        """The server dies and comes back, and at times a daemon with it."""
        gone, cluster = self.now(), self.database.cluster
        await asyncio.to_thread(cluster.crash, self.chance.choice(["immediate", "kill"]))
        self.diary.note("the server is gone")
        await self.chance.choice([self.daemons.kill, self.daemons.mind])()
        await asyncio.sleep(self.chance.choice([0.0, 0.5, 1.5 * LEASE]))  # leases may be over by then
        await asyncio.to_thread(cluster.restart)
        self.diary.outages.append((gone, self.now()))
        self.diary.note("the server is back")
        await self._db.close()
        self._db = self.people.operator = await self.database.aconnect()

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

    async def close(self) -> None:
        """Look no more."""
        await self._db.close()

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
            "select idempotency_key, id, company_id, resource_id, convert_to(body, 'UTF8'), event_type, source, valid_until from pgrelay.outbox",
            binary=True,
        )
        rows = await cursor.fetchall()
        epoch = time.time() - self.now()
        events = {
            row[0]: Event(
                row[1], row[2], row[3] and f"{row[6]} {row[3]}", row[4], row[7].timestamp() - epoch if row[7] else FOREVER
            )
            for row in rows
        }  # fmt: skip
        assert len(events) == len(rows), "one key twice"
        captured = [(row[5], _number(row[4])) for row in rows if row[5] != "webhook.test"]
        assert len(set(captured)) == len(captured), "one change is two events"
        assert self.written.complaints(set(captured)) == []
        rows_say = set(await (await self._db.execute(_ROWS.encode())).fetchall())
        assert {change for change in captured if change[0] != "order.paid"} == rows_say
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
            (keepers[event.company_id], event.id) for event in events.values() if event.valid_until == FOREVER
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
            if row[1] in keepers.values() and row[3] not in ("succeeded", "expired")
        ]
        early = await self._db.execute(_EXPIRED_EARLY.encode())
        found += [f"{row} expired before its time" for row in await early.fetchall()]
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


@pytest.fixture
def server() -> Iterator[Cluster]:
    """One that may crash: what it says is committed it knows again."""
    with start_cluster(synchronous_commit="on") as started:
        yield started


@asynccontextmanager
async def storm_over(database: Database, folder: Path) -> AsyncIterator[Storm]:
    adopt(database.dsn)
    with database.connect() as connection:
        watch_callbacks(connection, contacted_valid_for=1.0)
    async with Receiver() as receiver:
        storm = Storm(await database.aconnect(), database, receiver, folder)
        clock = asyncio.create_task(storm.diary.watch_the_clock())
        try:
            yield storm
        finally:
            for name in storm.daemons.of:
                await storm.daemons.end(name, "by SIGKILL")
            clock.cancel()
            await storm.close()


@pytest.mark.slow
async def test_whatever_happens_at_once_nothing_is_lost_invented_too_fast_too_many_or_out_of_order(
    server: Cluster, tmp_path: Path
) -> None:
    database = await asyncio.to_thread(install_application, server)
    async with storm_over(database, tmp_path) as storm:
        keepers = {company: await storm.people.add({"max_retry_attempts": 100}, company) for company in "12"}
        for kind in KINDS:
            storm.moods.of[await storm.people.add(kind, storm.chance.choice("12"))] = "ok"
        for name in storm.daemons.of:
            storm.daemons.start(name)
        await storm.daemons.are_up()
        end = storm.now() + SECONDS
        writers = []
        for number in range(4):
            session = Session(database.aconnect, number, SEED, storm.written)
            writers.append(asyncio.create_task(session.work(lambda: storm.now() > end)))
        await storm.blow(end)
        await asyncio.gather(*writers)
        await storm.die_down()
        await storm.verdict(keepers)
