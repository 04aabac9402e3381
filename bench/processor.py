"""Processor time of other processes, in seconds, from Linux's /proc: what they used, whoever else used the machine."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

import psycopg


def spent(pid: int) -> float:
    """On the processor since its start: all threads that live, to the nanosecond."""
    seconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        seconds += int((thread / "schedstat").read_text().split()[0])
    return seconds / 1e9


def spent_by(pids: Iterable[int]) -> float:
    """The same for several; the pids of processes that are gone count nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += spent(pid)
        except FileNotFoundError:
            continue
    return total


def backends(connection: psycopg.Connection, application_name: str = "pgrelay%") -> list[int]:
    """Pids of the server processes that serve such clients."""
    found = connection.execute(
        "select pid from pg_stat_activity where application_name like %s and datname = current_database()",
        (application_name,),
    )
    return [row[0] for row in found]


def wait_for_quiet(seconds: float = 20.0, busy: float = 0.1) -> None:
    """Return once no more than this part of the machine was busy for half a second, or after so many seconds.

    What others do while we measure is in every rate; called before each turn of those benchmarks that compare rates.
    """
    until = time.monotonic() + seconds
    idle, total = _ticks()
    while time.monotonic() < until:
        time.sleep(0.5)
        (idle_before, total_before), (idle, total) = (idle, total), _ticks()
        if idle - idle_before >= (1 - busy) * (total - total_before):
            return


def _ticks() -> tuple[int, int]:
    """Idle and in all, of all processors since the start of the machine."""
    words = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    return int(words[3]) + int(words[4]), sum(map(int, words))


def load() -> str:
    """How busy the machine is, for the head of a table: what others do while we measure is in every figure."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())
