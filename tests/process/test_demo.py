"""`pgrelay demo` keeps its promises, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_DEMO = [sys.executable, "-m", "pgrelay", "demo", "--fast"]


def test_the_demo_shows_every_event_verified_and_ends_well() -> None:
    shown = subprocess.run(_DEMO, capture_output=True, text=True, timeout=300, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for event in (
        "created",
        "assigned",
        "contacted",
        "completed",
        "cancelled",
        "expired",
        "overdue",
        "escalated",
    ):
        assert f"callback.{event}" in shown.stdout
    assert "verified (standard + sha256)" in " ".join(shown.stdout.split())
    assert "dead letter" in shown.stdout and "every signature right" in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr
    assert not Path(_directory(shown.stdout)).exists()


@pytest.mark.parametrize("moment", ["A Postgres of its own", "its files", "Webhooks", "kill -9"])
def test_interrupted_at_any_moment_it_leaves_no_process_and_no_file(moment: str) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", *_DEMO[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    shown = ""
    for line in demo.stdout:
        shown += line
        if moment in line:
            break
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=180)
    assert demo.returncode == 130 and "Traceback" not in rest
    if "its files" in shown:
        directory = _directory(shown)
        assert not Path(directory).exists()
        assert (
            directory
            not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        )


def test_without_a_postgres_it_says_which_command_brings_one(tmp_path: Path) -> None:
    found = subprocess.run(
        _DEMO,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "PGRELAY_PG_BINDIR": str(tmp_path)},
    )
    assert found.returncode == 1 and "PGRELAY_PG_BINDIR" in found.stderr


def _directory(shown: str) -> str:
    match = re.search(r"its files: (\S+)", shown)
    assert match is not None
    return match.group(1)
