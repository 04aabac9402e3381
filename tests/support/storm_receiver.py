"""A receiver with a mood for each webhook, which is the last part of its path; it notes all that comes in the diary."""

import asyncio
import random

from support.receiver import Exchange, Receiver
from support.storm_diary import FOREVER, Arrival, Diary

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


class Moods:
    """What each webhook's receiver does; `calm`: all of them do well."""

    def __init__(self, receiver: Receiver, diary: Diary, chance: random.Random) -> None:
        self.of: dict[int, str] = {}
        self.calm = False
        self._diary, self._chance = diary, chance
        self.now = asyncio.get_running_loop().time
        receiver.otherwise(self.answer)

    async def answer(self, exchange: Exchange) -> None:
        request = exchange.request
        headers = {name.lower(): value for name, value in request.headers}
        webhook = int(request.path.rpartition("/")[2])
        one = Arrival(
            webhook, headers["user-agent"], headers["x-webhook-idempotency-key"],
            int(headers["x-webhook-delivery-attempt"]), request.body, headers, request.at,
        )  # fmt: skip
        self._diary.arrivals.append(one)
        mood = "ok" if self.calm else self.of.get(webhook, "ok")
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
                one.retry_after = self._chance.choice([1.0, 2.0, 10.0])
                await self._give(exchange, one, int(mood), {"Retry-After": str(int(one.retry_after))})
            case "500 later":
                one.retry_after = 1.0
                await self._give(exchange, one, 500, {"Retry-After": "1"})
            case "500" | "410":
                await self._give(exchange, one, int(mood))
            case _:
                if mood == "slow" or self._chance.random() < 0.1:
                    await asyncio.sleep(self._chance.random() * 0.3)
                await self._give(exchange, one, 200)

    async def _give(
        self, exchange: Exchange, one: Arrival, status: int, headers: dict[str, str] | None = None
    ) -> None:
        one.status, one.ended = status, self.now()
        await exchange.answer(status, headers=headers)
