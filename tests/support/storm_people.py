"""People who make, change and end webhooks while deliveries are under way, and tell the diary."""

import asyncio
import random
from typing import Any

import psycopg
from psycopg import AsyncConnection

from support.receiver import Receiver
from support.storm_diary import Diary, History, Terms
from support.storm_receiver import MOODS, Moods

KINDS: list[dict[str, Any]] = [
    {},
    {"ordering": "resource"},
    {"max_concurrency": 2},
    {"rate_limit_per_second": 5},
    {"ordering": "resource", "max_concurrency": 1},
    {"rate_limit_per_second": 3, "max_concurrency": 3, "subscribed_events": ["order.*"]},
]


class People:
    """One method for each thing that people do; to which webhook is drawn from those that have a mood."""

    def __init__(
        self, operator: AsyncConnection, receiver: Receiver, moods: Moods, diary: Diary, chance: random.Random
    ) -> None:
        self.operator, self.receiver, self.moods = operator, receiver, moods
        self.diary, self.chance, self.note = diary, chance, diary.note
        self.retried: set[int] = set()
        self.now = asyncio.get_running_loop().time

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
        return self.chance.choice([(w, t) for w, t in self.diary.webhooks.items() if w in self.moods.of])

    async def change_mood(self) -> None:
        webhook, _ = self.victim()
        self.moods.of[webhook] = self.chance.choice(MOODS)
        self.note(f"webhook {webhook} is in mood {self.moods.of[webhook]}")

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
        del self.moods.of[webhook]
        self.note(f"webhook {webhook} is deleted")
        await self.new_webhook()

    async def new_webhook(self) -> None:
        if len(self.moods.of) < 12:
            webhook = await self.add(self.chance.choice(KINDS), self.chance.choice("12"))
            self.moods.of[webhook] = "ok"

    async def cancel(self) -> None:
        await self.sql(
            "select count(pgrelay.cancel_delivery(id)) from (select id from pgrelay.delivery_queue"
            " where webhook_id = any (%s) order by random() limit 3) as d",
            list(self.moods.of),
        )

    async def retry(self) -> None:
        cursor = await self.operator.execute(
            "select d.id, d.webhook_id, d.event_id from pgrelay.deliveries d join pgrelay.webhook_configurations w on w.id = d.webhook_id"
            " where d.status <> 'in_flight' and w.is_active and w.id = any (%s) order by random() limit 3",
            (list(self.moods.of),),
        )
        for delivery, webhook, event in await cursor.fetchall():
            self.retried.add(delivery)
            self.diary.again.add((webhook, event))
            await self.sql("select pgrelay.retry_delivery(%s)", delivery)
            self.note(f"delivery {delivery} is tried again")

    async def replay(self) -> None:
        webhook, _ = self.victim()
        span = f"now() - interval '{self.chance.choice([1, 1, 5])} s', now()"  # of the transaction, so it is one moment
        async with self.operator.transaction():
            count = await self.sql(f"select pgrelay.replay(%s, {span})", webhook)
            events = await self.operator.execute(
                f"select event_id from pgrelay.replay_events(%s, {span})".encode(), (webhook,)
            )
            self.diary.again.update((webhook, row[0]) for row in await events.fetchall())
        self.note(f"{count} events are replayed to webhook {webhook}")

    async def stop_or_resume_a_replay(self) -> None:
        verb = self.chance.choice(["stop_replay", "resume_replay", "resume_replay"])
        await self.sql(
            f"select pgrelay.{verb}(r.id) from pgrelay.replays r join pgrelay.webhook_configurations w on w.id = r.webhook_id"
            " where r.status <> 'done' and w.is_active order by random() limit 1"
        )

    async def close_circuit(self) -> None:
        webhook, terms = self.victim()
        await self.sql("select pgrelay.close_circuit(%s)", webhook)
        terms.freed.append(self.now())

    async def test(self) -> None:
        webhook, _ = self.victim()
        await self.sql("select pgrelay.test_webhook(%s)", webhook)

    async def cut(self) -> None:
        await self.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database()"
            " and application_name like 'pgrelay%%' and random() < 0.7"
        )
        self.note("connections of daemons are cut")

    async def let_everything_go(self) -> None:
        """Nothing is limited, paused or held back any more."""
        for webhook in self.moods.of:
            terms, at = self.diary.webhooks[webhook], self.now()
            terms.callable.change(at, True)
            terms.max_concurrency.change(at, None)
            terms.rate.change(at, None)
            terms.freed.append(at)
            await self.sql(
                "update pgrelay.webhook_configurations set paused = false, max_concurrency = null, rate_limit_per_second = null"
                " where id = %s",
                webhook,
            )
            await self.sql("select pgrelay.close_circuit(%s)", webhook)
