"""A daemon as a process of its own, and what it logs.

with daemon_process(tmp_path, database.dsn, "one") as one:
    await one.says("daemon_started")
    one.send_signal(signal.SIGSTOP)
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import PATIENCE


class Process:
    """One that runs."""

    def __init__(self, running: subprocess.Popen[bytes], log: Path) -> None:
        self._running = running
        self._log = log

    def send_signal(self, number: int) -> None:
        self._running.send_signal(number)

    def end(self) -> None:
        """Ask it to stop, and wait until it has, in good order."""
        self._running.terminate()
        code = self._running.wait(2 * PATIENCE)
        assert code == 0, self._log.read_text()

    @property
    def lives(self) -> bool:
        """It has not ended."""
        return self._running.poll() is None

    def log(self) -> str:
        """The end of what it logged."""
        return self._log.read_text()[-3000:]

    def said(self, event: str) -> list[dict[str, Any]]:
        """What it logged under this name so far."""
        lines = self._log.read_text().splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [one for one in told if one["event"] == event]

    async def says(self, event: str) -> dict[str, Any]:
        """The first of these lines, as soon as there is one."""
        await eventually(lambda: bool(self.said(event)), f"{event}, but\n{self._log.read_text()[-2000:]}")
        return self.said(event)[0]


@contextmanager
def daemon_process(
    folder: Path, dsn: str, name: str = "one", keys: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Process]:
    """Run one while the block lasts. `keys`: sections of the configuration, over what tests want."""
    config, log = folder / f"{name}.json", folder / f"{name}.log"
    sections: dict[str, Any] = {
        "environment": "test",
        "database": {"dsn": dsn},
        "daemon": {"name": name, "lease": 2, "drain_timeout": 3},
        "network": {"allow_http": True, "allowed_networks": ["127.0.0.0/8"]},
        "log": {"format": "json"},
    }
    for section, values in (keys or {}).items():
        sections.setdefault(section, {}).update(values)
    config.write_text(json.dumps(sections))  # JSON is YAML
    with log.open("w") as written:
        running = subprocess.Popen(
            [sys.executable, "-m", "pgrelay", "-c", str(config), "run"],
            stdout=written,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Process(running, log)
    finally:
        running.kill()
        running.wait()


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Return once it holds; asked in a thread, for a database may be slow to answer."""
    try:
        async with asyncio.timeout(2 * PATIENCE):
            while not await asyncio.to_thread(holds):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"not within {2 * PATIENCE} s: {what}") from None
