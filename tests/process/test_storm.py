"""Everything at once, at random: the application, two daemons that die and stand still, receivers in all moods, people.

Drawn from a seed. PGRELAY_STORM_SECONDS makes it longer, PGRELAY_STORM_SEED another one; `support.storm` says what must be true.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from pgrelay.delivery import TRANSITIONS, Status
from support.daemon import adopt
from support.database import Database
from support.factories import watch_callbacks
from support.process import Process, daemon_process, eventually
from support.receiver import Exchange, Receiver
from support.storm import FOREVER, Arrival, Diary, Event, History, Terms, complaints

SECONDS = float(os.environ.get("PGRELAY_STORM_SECONDS", "20"))
SEED = int(os.environ.get("PGRELAY_STORM_SEED", "7"))
LEASE = 2.0
MOODS = [
    "ok",
    "ok",
    "ok",
    "slow",
    "500",
    "429",
    "503",
    "410",
    "hang",
    "reset",
    "redirect",
    "500 later",
    "half",
]
KINDS: list[dict[str, Any]] = [
    {},
    {"ordering": "resource"},
    {"max_concurrency": 2},
    {"rate_limit_per_second": 5},
    {"ordering": "resource", "max_concurrency": 1},
    {"rate_limit_per_second": 3, "max_concurrency": 3, "subscribed_events": ["order.*"]},
]
_INSERT = "insert into callback_requests (company_id, customer_name, customer_phone) values (%s, 'n', '1') returning id"
_EMIT = "select pgrelay.emit('order.paid', json_build_object('number', %s::int), %s, %s)"
_DELIVERIES = """
    select id, webhook_id, event_id, status, attempts, lease_no from pgrelay.delivery_queue
    union all select id, webhook_id, event_id, status, attempts, lease_no from pgrelay.delivery_history
"""
_LEFT = "select events_waiting + deliveries_pending + deliveries_in_flight from pgrelay.health"
#: Where a delivery may be at the next look, if no person wants it tried again.
_BEYOND = {status: {status} for status in Status}
for _ in Status:
    for verb, (froms, tos) in TRANSITIONS.items():
        for start, ends in _BEYOND.items():
            if verb != "retry" and ends & froms:
                _BEYOND[start] = ends | tos


class _RolledBack(Exception):
    pass


class Storm:
    def __init__(self, database: Database, receiver: Receiver, folder: Path, seed: int) -> None:
        self.database, self.receiver, self.folder = database, receiver, folder
        self.chance = random.Random(seed)
        self.diary = Diary()
        self.moods: dict[int, str] = {}
        self.calm = False
        self.committed: set[tuple[str, int]] = set()
        self.daemons: dict[str, tuple[ExitStack, Process] | None] = {"one": None, "two": None}
        self.stopped: dict[str, tuple[float, float]] = {}
        self.starts = 0
        self.last: dict[int, tuple[Any, ...]] = {}
        self.retried: set[int] = set()
        self.told: list[str] = []
        self.now = asyncio.get_running_loop().time
        receiver.otherwise(self.answer)

    def note(self, text: str) -> None:
        self.told.append(f"{self.now():.2f} {text}")

    # The receiver ------------------------------------------------------------------------------------------------

    async def answer(self, exchange: Exchange) -> None:
        request = exchange.request
        headers = {name.lower(): value for name, value in request.headers}
        webhook = int(request.path.rpartition("/")[2])
        one = Arrival(
            webhook, headers["user-agent"], headers["x-webhook-idempotency-key"],
            int(headers["x-webhook-delivery-attempt"]), request.body, headers, request.at,
        )  # fmt: skip
        self.diary.arrivals.append(one)
        mood = "ok" if self.calm else self.moods.get(webhook, "ok")
        try:
            await self._in_mood(exchange, one, mood)
        finally:
            if one.ended == FOREVER:
                one.ended = self.now()

    async def _in_mood(self, exchange: Exchange, one: Arrival, mood: str) -> None:
        match mood:
            case "hang":
                await exchange.until_the_sender_is_gone()
                exchange.keep = False
            case "reset":
                exchange.reset()
            case "half":
                await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Le")
                exchange.keep = False
            case "redirect":
                await self._give(exchange, one, 302, {"Location": "/elsewhere/0"})
            case "429" | "503":
                one.retry_after = self.chance.choice([1.0, 2.0, 8.0])
                await self._give(exchange, one, int(mood), {"Retry-After": str(int(one.retry_after))})
            case "500 later":
                one.retry_after = 1.0
                await self._give(exchange, one, 500, {"Retry-After": "1"})
            case "500" | "410":
                await self._give(exchange, one, int(mood))
            case _:
                if mood == "slow" or self.chance.random() < 0.1:
                    await asyncio.sleep(self.chance.random() * 0.3)
                await self._give(exchange, one, 200)

    async def _give(
        self, exchange: Exchange, one: Arrival, status: int, headers: dict[str, str] | None = None
    ) -> None:
        one.status, one.ended = status, self.now()
        await exchange.answer(status, headers=headers)

    async def watch_the_clock(self) -> None:
        """How late this loop reads what has come."""
        while True:
            before = self.now()
            await asyncio.sleep(0.005)
            self.diary.lags.append((self.now(), self.now() - before - 0.005))

    # Webhooks and people -------------------------------------------------------------------------------------------

    async def sql(self, query: str, *parameters: Any) -> Any:
        async with self.operator.cursor() as cursor:
            await cursor.execute(query.encode(), parameters)
            row = await cursor.fetchone() if cursor.description else None
        return None if row is None else row[0]

    async def add(self, kind: dict[str, Any], company: str) -> int:
        columns = {
            "company_id": company, "name": "w", "url": "http://127.0.0.1:1/", "subscribed_events": ["*"],
            "timeout_seconds": 1, "max_retry_attempts": 4, **kind,
        }  # fmt: skip
        query = psycopg.sql.SQL(
            "insert into pgrelay.webhook_configurations ({}) values ({}) returning id, secret_key"
        ).format(
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, columns)),
            psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(columns)),
        )
        async with self.operator.transaction(), self.operator.cursor() as cursor:
            await cursor.execute(query, list(columns.values()))
            row = await cursor.fetchone()
            assert row is not None
            webhook, secret = row
            await cursor.execute(
                "update pgrelay.webhook_configurations set url = %s where id = %s",
                (self.receiver.url(f"/{webhook}"), webhook),
            )
        at = self.now()
        self.diary.webhooks[webhook] = Terms(
            company, columns.get("ordering") == "resource", columns["max_retry_attempts"], History(at - 1, True),
            History(at - 1, columns.get("max_concurrency")), History(at - 1, columns.get("rate_limit_per_second")),
            History(at - 1, secret),
        )  # fmt: skip
        self.note(f"webhook {webhook} {kind}")
        return int(webhook)

    def victim(self) -> tuple[int, Terms]:
        return self.chance.choice([(w, t) for w, t in self.diary.webhooks.items() if w in self.moods])

    async def mood(self) -> None:
        webhook, _ = self.victim()
        self.moods[webhook] = self.chance.choice(MOODS)
        self.note(f"webhook {webhook} is in mood {self.moods[webhook]}")

    async def pause(self) -> None:
        webhook, terms = self.victim()
        paused = await self.sql(
            "update pgrelay.webhook_configurations set paused = not paused where id = %s returning paused",
            webhook,
        )
        active = await self.sql("select is_active from pgrelay.webhook_configurations where id = %s", webhook)
        terms.callable.change(self.now(), active and not paused)
        self.note(f"webhook {webhook} paused: {paused}")

    async def set_active(self) -> None:
        webhook, terms = self.victim()
        active = not await self.sql(
            "select is_active from pgrelay.webhook_configurations where id = %s", webhook
        )
        if active:
            terms.callable.change(self.now(), True)
        await self.sql("select pgrelay.set_active(%s, %s)", webhook, active)
        paused = await self.sql("select paused from pgrelay.webhook_configurations where id = %s", webhook)
        terms.callable.change(self.now(), active and not paused)
        terms.freed.append(self.now())
        self.note(f"webhook {webhook} active: {active}")

    async def limit(self) -> None:
        webhook, terms = self.victim()
        most, rate = self.chance.choice([None, 1, 2, 3]), self.chance.choice([None, None, 3, 8])
        terms.max_concurrency.change(self.now(), most)
        terms.rate.change(self.now(), rate)
        await self.sql(
            "update pgrelay.webhook_configurations set max_concurrency = %s, rate_limit_per_second = %s where id = %s",
            most, rate, webhook,
        )  # fmt: skip
        terms.max_concurrency.change(self.now(), most)
        terms.rate.change(self.now(), rate)
        self.note(f"webhook {webhook} limited to {most} at once, {rate} a second")

    async def rotate(self) -> None:
        webhook, terms = self.victim()
        overlap = self.chance.choice(["0 s", "2 s", "1 h"])
        secret = await self.sql("select pgrelay.rotate_secret(%s, %s::interval)", webhook, overlap)
        terms.secrets.change(self.now() - 0.5, secret)
        self.note(f"webhook {webhook} has a new secret")

    async def delete(self) -> None:
        webhook, terms = self.victim()
        await self.sql("delete from pgrelay.webhook_configurations where id = %s", webhook)
        terms.callable.change(self.now(), False)
        del self.moods[webhook]
        self.note(f"webhook {webhook} is deleted")
        await self.new_webhook()

    async def new_webhook(self) -> None:
        if len(self.moods) < 12:
            webhook = await self.add(self.chance.choice(KINDS), self.chance.choice("12"))
            self.moods[webhook] = "ok"

    async def cancel(self) -> None:
        await self.sql(
            "select count(pgrelay.cancel_delivery(id)) from (select id from pgrelay.delivery_queue"
            " where webhook_id = any (%s) order by random() limit 3) as d",
            list(self.moods),
        )

    async def retry(self) -> None:
        cursor = await self.operator.execute(
            "select d.id, d.webhook_id, d.event_id from pgrelay.deliveries d join pgrelay.webhook_configurations w on w.id = d.webhook_id"
            " where d.status <> 'in_flight' and w.is_active and w.id = any (%s) order by random() limit 3",
            (list(self.moods),),
        )
        for delivery, webhook, event in await cursor.fetchall():
            self.retried.add(delivery)
            self.diary.again.add((webhook, event))
            await self.sql("select pgrelay.retry_delivery(%s)", delivery)
            self.note(f"delivery {delivery} is tried again")

    async def replay(self) -> None:
        webhook, _ = self.victim()
        since = "now() - interval '1 s'"
        async with self.operator.transaction():
            cursor = await self.operator.execute(
                f"select event_id from pgrelay.replay_events(%s, {since}, now())".encode(), (webhook,)
            )
            self.diary.again.update((webhook, row[0]) for row in await cursor.fetchall())
            if await self.sql("select is_active from pgrelay.webhook_configurations where id = %s", webhook):
                count = await self.sql(f"select pgrelay.replay(%s, {since}, now())", webhook)
                self.note(f"{count} events are replayed to webhook {webhook}")

    async def close_circuit(self) -> None:
        webhook, terms = self.victim()
        await self.sql("select pgrelay.close_circuit(%s)", webhook)
        terms.freed.append(self.now())

    async def test(self) -> None:
        webhook, _ = self.victim()
        await self.sql("select pgrelay.test_webhook(%s)", webhook)

    # Daemons -------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        self.starts += 1
        stack = ExitStack()
        keys = {
            "daemon": {
                "name": name,
                "poll_interval": "300ms",
                "batch_size": 50,
                "max_in_flight": 40,
                "drain_timeout": 1,
            },
            "delivery": {"user_agent": name, "retry_schedule": [0.3], "max_concurrency": 4},
            "circuit": {"open_after": 6, "first_wait": "300ms", "longest_wait": "1s"},
        }
        process = stack.enter_context(
            daemon_process(self.folder, self.database.dsn, f"{name}-{self.starts}", keys)
        )
        self.daemons[name] = stack, process
        self.note(f"daemon {name} starts")

    async def end(self, name: str, how: str) -> None:
        made = self.daemons[name]
        if made is None:
            return
        await self.go_on(name)
        stack, process = made
        if how == "in good order" and process.said("daemon_started"):
            await asyncio.to_thread(process.end)
        await asyncio.to_thread(stack.close)
        self.daemons[name] = None
        self.note(f"daemon {name} has ended {how}")

    async def kill(self) -> None:
        await self.end(self.chance.choice(list(self.daemons)), "by SIGKILL")

    async def stop(self) -> None:
        await self.end(self.chance.choice(list(self.daemons)), "in good order")

    async def freeze(self) -> None:
        name = self.chance.choice(list(self.daemons))
        if (made := self.daemons[name]) and name not in self.stopped:
            made[1].send_signal(signal.SIGSTOP)
            self.stopped[name] = self.now(), self.now() + self.chance.choice([0.2, 1.0, 2 * LEASE])
            self.note(f"daemon {name} stands still")

    async def go_on(self, name: str) -> None:
        made = self.daemons[name]
        if name in self.stopped and made is not None:
            made[1].send_signal(signal.SIGCONT)
            self.diary.stops[name].append((self.stopped.pop(name)[0], self.now()))
            self.note(f"daemon {name} goes on")

    async def cut(self) -> None:
        await self.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()"
            " and application_name like 'pgrelay%%' and random() < 0.7"
        )
        self.note("connections of daemons are cut")

    async def mind_the_daemons(self) -> None:
        for name, made in self.daemons.items():
            if made is None:
                if self.chance.random() < 0.1:
                    self.start(name)
                continue
            assert made[1].lives, f"daemon {name} has ended by itself: {made[1].log()}"
            if name in self.stopped and self.now() > self.stopped[name][1]:
                await self.go_on(name)

    # The application -----------------------------------------------------------------------------------------------

    async def use(self, session: int, until: Callable[[], bool]) -> None:
        """One session: transactions of any length, rolled back at times, whole or in part."""
        chance = random.Random(SEED * 100 + session)
        company, number = session % 2 + 1, session * 1_000_000
        async with await self.database.aconnect() as connection:
            while not until():
                new: set[tuple[str, int]] = set()
                try:
                    async with connection.transaction():
                        for _ in range(chance.choice([1, 1, 1, 2, 5, 30])):
                            number += 1
                            resource = f"{session}-{chance.randrange(3)}"
                            await connection.execute(_EMIT, (number, str(company), resource))
                            new.add(("order.paid", number))
                            if chance.random() < 0.3:
                                new |= await self._call_back(connection, chance, company)
                        if chance.random() < 0.2:
                            await asyncio.sleep(chance.random() * 2)
                        if chance.random() < 0.2:
                            raise _RolledBack
                except _RolledBack:
                    continue
                self.committed |= new
                await asyncio.sleep(chance.random() * 0.4)

    async def _call_back(
        self, connection: AsyncConnection, chance: random.Random, company: int
    ) -> set[tuple[str, int]]:
        row = await (await connection.execute(_INSERT, (company,))).fetchone()
        assert row is not None
        new = {("callback.created", row[0])}
        try:
            async with connection.transaction():
                await connection.execute(
                    "update callback_requests set status = 'contacted' where id = %s", row
                )
                if chance.random() < 0.3:
                    raise _RolledBack
                new.add(("callback.contacted", row[0]))
        except _RolledBack:
            pass
        return new

    # What must be true ---------------------------------------------------------------------------------------------

    async def audit(self) -> None:
        """Nothing is gone, and nothing has gone a way that there is not."""
        retried = frozenset(self.retried)
        cursor = await self.operator.execute(_DELIVERIES.encode())
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
        cursor = await self.operator.execute(
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
        cursor = await self.operator.execute(
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
        told = "\n".join(self.told)
        assert not found, f"seed {SEED}:\n{told}\n\n" + "\n".join(found[:20])
        self.note(f"{len(events)} events, {len(self.last)} deliveries, {len(self.diary.arrivals)} requests")


def _number(body: bytes) -> int:
    data = json.loads(body)["data"]
    return int(data["number"] if "number" in data else data["callback_request"]["id"])


@asynccontextmanager
async def storm_over(database: Database, folder: Path) -> AsyncIterator[Storm]:
    adopt(database.dsn)
    with database.connect() as connection:
        watch_callbacks(connection)
    async with Receiver() as receiver, await database.aconnect() as operator:
        storm = Storm(database, receiver, folder, SEED)
        storm.operator = operator
        clock = asyncio.create_task(storm.watch_the_clock())
        try:
            yield storm
        finally:
            for name in storm.daemons:
                await storm.end(name, "by SIGKILL")
            clock.cancel()


async def test_whatever_happens_at_once_nothing_is_lost_invented_too_fast_too_many_or_out_of_order(
    app: Database, tmp_path: Path
) -> None:
    async with storm_over(app, tmp_path) as storm:
        keepers = {company: await storm.add({"max_retry_attempts": 100}, company) for company in "12"}
        for kind in KINDS:
            storm.moods[await storm.add(kind, storm.chance.choice("12"))] = "ok"
        end = storm.now() + SECONDS
        writers = [asyncio.create_task(storm.use(session, lambda: storm.now() > end)) for session in range(4)]
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (24, storm.mood), (6, storm.pause), (5, storm.set_active), (6, storm.limit), (5, storm.rotate), (2, storm.delete),
            (2, storm.new_webhook), (6, storm.cancel), (6, storm.retry), (3, storm.replay), (2, storm.close_circuit),
            (3, storm.test), (5, storm.kill), (3, storm.stop), (6, storm.freeze), (4, storm.cut),
        ]  # fmt: skip
        weights, verbs = zip(*actions, strict=True)
        for name in storm.daemons:
            storm.start(name)
        while storm.now() < end:
            with suppress(psycopg.ProgrammingError):  # refused: it is paused, or gone just now
                await storm.chance.choices(verbs, weights)[0]()
            await storm.mind_the_daemons()
            await storm.audit()
            await asyncio.sleep(storm.chance.random() * 0.25)  # its own rhythm: there is no event to await
        await asyncio.gather(*writers)
        await calm_down(storm)
        await storm.verdict(keepers)
        print(storm.told[-1])


async def calm_down(storm: Storm) -> None:
    """All receivers are well, all webhooks go on, and one more daemon than before is there to end it."""
    storm.calm = True
    for webhook in storm.moods:
        terms = storm.diary.webhooks[webhook]
        terms.callable.change(storm.now(), True)
        terms.max_concurrency.change(storm.now(), None)
        terms.rate.change(storm.now(), None)
        terms.freed.append(storm.now())
        await storm.sql(
            "update pgrelay.webhook_configurations set paused = false, max_concurrency = null, rate_limit_per_second = null"
            " where id = %s",
            webhook,
        )
        await storm.sql("select pgrelay.close_circuit(%s)", webhook)
    for name, made in storm.daemons.items():
        await storm.go_on(name)
        if made is None:
            storm.start(name)

    def is_done() -> bool:
        with storm.database.connect() as connection:
            return connection.execute(_LEFT).fetchone() == (0,)

    try:
        await eventually(is_done, "all is delivered")
    except TimeoutError:
        why = "select webhook_id, status, leased_by, pgrelay.why_waiting(id), count(*) from pgrelay.delivery_queue group by 1, 2, 3, 4"
        left = await (await storm.operator.execute(why)).fetchall()
        raise AssertionError("\n".join([*storm.told, *map(str, left)])) from None
    for name in storm.daemons:
        await storm.end(name, "in good order")
