"""Several processes under one roof, with children that are scripts: who is started, replaced, killed, told and heard."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pgrelay.observation import Observation, ProcessEnded, ProcessStuck
from pgrelay.supervisor import Supervisor

PATIENCE = 20.0

#: Says its pid, its number and what signals it gets; is ready at once; tells that it is alive unless told to be still.
CHILD = """
import os, signal, sys, time
from pgrelay.systemd import Notifier
number, place, behaviour = sys.argv[1:]
notifier = Notifier()
def say(word):
    with open(place, "a") as log:
        print(number, os.getpid(), word, file=log)
def end(*_):
    say("end")
    sys.exit(0)
def again(*_):
    notifier.reloading()
    say("reload")
    notifier.ready()
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, again)
say("start")
notifier.ready()
if behaviour == "78":
    sys.exit(78)
if behaviour == "extend":
    notifier.extend_timeout(7)
while True:
    if behaviour != "still":
        notifier.watchdog()
    time.sleep(0.05)
"""


class House:
    """A supervisor that runs, and what its children wrote down."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.observed: list[Observation] = []
        self.behaviour: dict[int, str] = {}
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "systemd"))
        self.systemd.setblocking(False)
        self.told: list[str] = []
        environ = {**os.environ, "NOTIFY_SOCKET": str(folder / "systemd")}
        self.supervisor = Supervisor(2, self.command, environ, observe=self.observed.append, silence=1.5)

    def command(self, number: int) -> list[str]:
        behaviour = self.behaviour.pop(number, "well")
        return [sys.executable, "-c", CHILD, str(number), str(self.log), behaviour]

    def said(self, word: str) -> list[tuple[int, int]]:
        """(number, pid) of the children that said it, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        words = [line.split() for line in lines]
        return [(int(number), int(pid)) for number, pid, said in words if said == word]

    def heard(self) -> list[str]:
        """All that systemd was told so far."""
        while True:
            try:
                self.told += self.systemd.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.told

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def house(folder: Path, **behaviour: str) -> AsyncIterator[House]:
    """Two children, `one` and `two`, that behave as named the first time; ended in good order."""
    made = House(folder)
    made.behaviour = {{"one": 1, "two": 2}[name]: how for name, how in behaviour.items()}
    running = asyncio.create_task(made.supervisor.run())
    try:
        yield made
        made.supervisor.stop()
        async with asyncio.timeout(PATIENCE):
            assert await running == 0
    finally:
        running.cancel()
        made.systemd.close()


async def test_all_are_started_and_ended_and_systemd_hears_of_it_once(tmp_path):
    async with house(tmp_path) as two:
        await two.until(lambda: "READY=1" in two.heard())
        assert sorted(number for number, _ in two.said("start")) == [1, 2]
        assert "STATUS=2 of 2 processes deliver" in two.heard() and "WATCHDOG=1" in two.heard()
    assert sorted(two.said("end")) == sorted(two.said("start"))
    assert two.told.count("READY=1") == 1
    assert two.observed == []


async def test_one_that_dies_is_started_again_and_the_other_goes_on(tmp_path):
    async with house(tmp_path) as two:
        await two.until(lambda: "READY=1" in two.heard())
        first = dict(two.said("start"))
        os.kill(first[2], signal.SIGKILL)
        await two.until(lambda: len(two.said("start")) == 3)
    assert two.observed == [ProcessEnded(2, -signal.SIGKILL, 1.0)]
    assert two.said("end")[0][1] in {first[1], two.said("start")[2][1]}
    assert {number for number, _ in two.said("end")} == {1, 2}


async def test_one_that_falls_silent_is_killed_and_replaced(tmp_path):
    async with house(tmp_path, one="still") as two:
        await two.until(lambda: len(two.said("start")) == 3)
    assert two.observed == [ProcessStuck(1, 1.5), ProcessEnded(1, -signal.SIGKILL, 1.0)]


async def test_what_only_a_person_can_mend_ends_all_with_that_code(tmp_path):
    made = House(tmp_path)
    made.behaviour = {2: "78"}
    async with asyncio.timeout(PATIENCE):
        assert await made.supervisor.run() == 78
    made.systemd.close()
    assert [number for number, _ in made.said("end")] in ([1], [])
    assert len(made.said("start")) <= 2 and made.observed == []


async def test_a_reload_reaches_all_and_is_over_when_all_are_done(tmp_path):
    async with house(tmp_path) as two:
        await two.until(lambda: "READY=1" in two.heard())
        two.supervisor.reload()
        await two.until(lambda: two.heard().count("READY=1") == 2)
        assert sorted(number for number, _ in two.said("reload")) == [1, 2]
        told = [line for line in two.heard() if line in ("READY=1", "RELOADING=1")]
    assert told == ["READY=1", "RELOADING=1", "READY=1"]


async def test_a_child_that_needs_longer_is_given_longer(tmp_path):
    async with house(tmp_path, one="extend") as two:
        await two.until(lambda: "EXTEND_TIMEOUT_USEC=7000000" in two.heard())


@pytest.mark.parametrize("number", [1, 2])
async def test_children_are_numbered_from_one(tmp_path, number):
    async with house(tmp_path) as two:
        await two.until(lambda: len(two.said("start")) == 2)
        assert number in dict(two.said("start"))
