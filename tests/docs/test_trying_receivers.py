"""The `console` blocks of docs/receivers.md, typed as they stand: each command says what the page says.

A command that runs until it is stopped stays running, and what the next `text` block shows is what it says by then.
Ports are others; times, durations and made-up ids stand for any.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from docs.blocks import ROOT, Block, blocks
from docs.receivers import Missing, free_port, needs, wait_until_open

#: Seconds for what one command shows, and for what it makes others show.
PATIENCE = 30.0
PORTS = ("8080", "8081", "3000")
_ANY = [
    (r"\d\d:\d\d:\d\d", "<time>"),
    (r" in [\d.,]+ \S+?s\b", " in <duration>"),
    (r"\btest_[0-9a-f]{16}\b", "<id>"),
    (r"but \S+ s old", "but <age> s old"),
]


def plain(text: str) -> list[str]:
    """The lines, with what differs from run to run replaced."""
    for pattern, name in _ANY:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.splitlines()]


class Terminal:
    """A command that runs until it is stopped, and all that it has said."""

    def __init__(self, command: str, directory: Path, environ: Mapping[str, str]) -> None:
        self.said = ""
        self.process = subprocess.Popen(
            ["bash", "-c", re.sub(r"^((?:\w+=\S+ )*)", r"\1exec ", command, count=1)],
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Desk:
    """Terminals, and what the page says they show."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        command = directory / "pgrelay"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pgrelay "$@"\n', "utf-8")
        command.chmod(0o755)
        (directory / "docs").symlink_to(ROOT / "docs")
        self.environ = {
            **os.environ,
            "PATH": f"{directory}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
        }
        self.ports = {port: str(free_port()) for port in PORTS}
        self.running: list[Terminal] = []

    def elsewhere(self, text: str) -> str:
        return re.sub(r"\b(8080|8081|3000)\b", lambda found: self.ports[found[1]], text)

    def type(self, command: str, shown: list[str]) -> None:
        command = self.elsewhere(command)
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            self.environ[name] = value
        elif port := re.search(r"^PORT=(\d+)|pgrelay listen --port (\d+)", command):
            terminal = Terminal(command, self.directory, self.environ)
            self.running.append(terminal)
            wait_until_open(int(port[1] or port[2]), terminal.process, lambda: terminal.said)
            self.expect(shown)
        else:
            ran = subprocess.run(
                ["bash", "-c", command],
                check=False,
                cwd=self.directory,
                env=self.environ,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert plain(ran.stdout + ran.stderr) == shown, command

    def expect(self, shown: list[str]) -> None:
        """Each of these lines is said by what runs, by and by."""
        until = time.monotonic() + PATIENCE
        while missing := self._missing(shown):
            assert time.monotonic() < until, (missing, [terminal.said for terminal in self.running])
            time.sleep(0.02)

    def _missing(self, shown: list[str]) -> list[str]:
        said = [line for terminal in self.running for line in plain(terminal.said)]
        return [line for line in set(shown) if said.count(line) < shown.count(line)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    try:
        needs("bash", "openssl", "curl", "od")
    except Missing as missing:
        pytest.skip(str(missing))
    desk = Desk(tmp_path)
    yield desk
    for terminal in desk.running:
        terminal.stop()


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """The commands of a block, each with what it shows."""
    for step in re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.M)[1:]:
        command, _, shown = step.partition("\n")
        yield command, shown


def test_what_receivers_can_try_shows_what_the_page_says(desk: Desk):
    began = False
    for block in blocks(ROOT / "docs/receivers.md"):
        if block.language == "console":
            began = True
            for command, shown in steps(block):
                desk.type(command, plain(desk.elsewhere(shown)))
        elif block.language == "text" and began:
            desk.expect(plain(desk.elsewhere(block.text)))
    assert len(desk.running) == 3
