"""Processor time of other processes, in seconds, from Linux's /proc: what they used, whoever else used the machine."""

import os
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


def load() -> str:
    """How busy the machine is, for the head of a table: what others do while we measure is in every figure."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())
