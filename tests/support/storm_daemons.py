"""Two daemons that are killed, stopped, frozen and started again."""

import asyncio
import random
import signal
from contextlib import ExitStack
from pathlib import Path

from support.process import Process, daemon_process
from support.storm_diary import Diary

LEASE = 2.0
_DAEMON = {"poll_interval": "300ms", "batch_size": 50, "max_in_flight": 40, "drain_timeout": 1}
_DELIVERY = {"retry_schedule": [0.3], "max_concurrency": 4}
_CIRCUIT = {"open_after": 20, "first_wait": "300ms", "longest_wait": "1s"}


class Daemons:
    """`end` them at last. `of` has those that run."""

    def __init__(self, dsn: str, folder: Path, diary: Diary, chance: random.Random) -> None:
        self._dsn, self._folder = dsn, folder
        self.diary, self.chance, self.note = diary, chance, diary.note
        self.of: dict[str, tuple[ExitStack, Process] | None] = {"one": None, "two": None}
        self.stopped: dict[str, tuple[float, float]] = {}
        self._starts = 0
        self.now = asyncio.get_running_loop().time

    def start(self, name: str) -> None:
        self._starts += 1
        stack = ExitStack()
        own = {
            "daemon": {**_DAEMON, "name": name},
            "delivery": {**_DELIVERY, "user_agent": name},
            "circuit": _CIRCUIT,
        }
        process = stack.enter_context(daemon_process(self._folder, self._dsn, f"{name}-{self._starts}", own))
        self.of[name] = stack, process
        self.note(f"daemon {name} starts")

    async def are_up(self) -> None:
        """All of them deliver."""
        for made in self.of.values():
            if made is not None:
                await made[1].says("notifications_arriving")

    async def end(self, name: str, how: str) -> None:
        made = self.of[name]
        if made is None:
            return
        await self.go_on(name)
        stack, process = made
        if how == "in good order" and process.said("daemon_started"):
            await asyncio.to_thread(process.end)
        await asyncio.to_thread(stack.close)
        self.of[name] = None
        self.note(f"daemon {name} has ended {how}")

    async def kill(self) -> None:
        await self.end(self.chance.choice(list(self.of)), "by SIGKILL")

    async def stop(self) -> None:
        await self.end(self.chance.choice(list(self.of)), "in good order")

    async def freeze(self) -> None:
        name = self.chance.choice(list(self.of))
        if (made := self.of[name]) and name not in self.stopped:
            made[1].send_signal(signal.SIGSTOP)
            self.stopped[name] = self.now(), self.now() + self.chance.choice([0.2, 1.0, 2 * LEASE])
            self.note(f"daemon {name} stands still")

    async def go_on(self, name: str) -> None:
        made = self.of[name]
        if name in self.stopped and made is not None:
            made[1].send_signal(signal.SIGCONT)
            self.diary.stops[name].append((self.stopped.pop(name)[0], self.now()))
            self.note(f"daemon {name} goes on")

    async def mind(self) -> None:
        for name, made in self.of.items():
            if made is None:
                if self.chance.random() < 0.3:
                    self.start(name)
                continue
            assert made[1].lives, f"daemon {name} has ended by itself: {made[1].log()}"
            if name in self.stopped and self.now() > self.stopped[name][1]:
                await self.go_on(name)
