"""`pgrelay run --processes 2`: two daemons that share the work, and one of them killed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from support.daemon import adopt
from support.database import Database
from support.factories import emit
from support.process import eventually
from support.queue import add_webhook, value
from support.receiver import Receiver


async def test_two_processes_share_the_work_and_outlive_the_death_of_one_and_none_outlives_the_parent(
    database: Database, tmp_path: Path
):
    config, log = tmp_path / "config.json", tmp_path / "log"
    config.write_text(
        json.dumps(
            {
                "environment": "test",
                "database": {"dsn": database.dsn},
                "daemon": {"name": "house", "lease": 2},
                "network": {"allow_http": True, "allowed_networks": ["127.0.0.0/8"]},
                "log": {"format": "json"},
            }
        )
    )
    adopt(database.dsn)
    async with Receiver() as receiver:
        await _live_and_die(database, receiver, config, log)
    ended = [json.loads(line) for line in log.read_text().splitlines() if "process_ended" in line]
    assert [(one["process"], one["exit_code"]) for one in ended] == [(1, -signal.SIGKILL)]


async def _live_and_die(database: Database, receiver: Receiver, config: Path, log: Path) -> None:
    with database.connect() as db, log.open("w") as written:
        add_webhook(db, url=receiver.url())

        def alive() -> dict[str, int]:
            rows = db.execute(
                "select name, pid from pgrelay.daemons where ended_at is null order by id"
            ).fetchall()
            return dict(rows)

        words = [sys.executable, "-m", "pgrelay", "-c", str(config), "run", "--processes", "2"]
        parent = await asyncio.create_subprocess_exec(*words, stdout=written, stderr=subprocess.STDOUT)
        try:
            await eventually(lambda: set(alive()) == {"house-1", "house-2"}, "two daemons")
            first = alive()
            assert parent.pid not in first.values()
            for _ in range(20):
                emit(db)
            await receiver.wait_for(20)
            os.kill(first["house-1"], signal.SIGKILL)
            for _ in range(20):
                emit(db)
            await receiver.wait_for(40)
            await eventually(lambda: alive().get("house-1", 0) not in (0, first["house-1"]), "a new one")
            # what it had sent and not recorded is sent again once its lease has lapsed
            await eventually(
                lambda: value(db, "select count(*) from pgrelay.deliveries where status <> 'succeeded'") == 0,
                "all to be recorded",
            )
            os.kill(parent.pid, signal.SIGKILL)
            await eventually(
                lambda: set(alive().values()) <= {first["house-1"]}, "the children to end with their parent"
            )
        finally:
            if parent.returncode is None:
                parent.kill()
            await parent.wait()
            for pid in alive().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
