"""pgbench: many clients that write to the sample application at once."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from world import Database, World


@dataclass(frozen=True, slots=True)
class Run:
    """What pgbench counted."""

    transactions: int
    failed: int
    per_second: float


def pgbench(
    world: World, database: Database, script: str, *, clients: int, transactions: int = 0, seconds: int = 0
) -> Run:
    """Run the script on `clients` connections, so many transactions each or for so many seconds.

    A transaction that fails is not repeated.
    """
    program = world.pgbench()
    assert program is not None
    path = Path(database.directory, "pgbench.sql")
    path.write_text(script)
    length = ["-t", str(transactions)] if transactions else ["-T", str(seconds)]
    said = subprocess.run(
        [program, "-n", "-M", "prepared", "-c", str(clients), "-j", "2", *length, "-f", path, database.dsn],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return Run(
        int(_number(r"transactions actually processed: (\d+)", said)),
        int(_number(r"failed transactions: (\d+)", said)),
        _number(r"tps = ([\d.]+)", said),
    )


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"pgbench did not say {pattern!r} (it must be of PostgreSQL 15 or later):\n{text}")
    return float(found[1])
