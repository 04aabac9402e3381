"""The tour of the README, walked from beginning to end as it is written, on a server of the tests'.

`sh` blocks are run by bash, `sql` blocks in the database that the tour makes, a `yaml` block becomes pgrelay.yaml. A
block that runs for ever (`listen`, `run`) stays running, as in a terminal of its own. The port is another one.
"""

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from docs.blocks import ROOT, Block, blocks
from pgrelay.demo.cluster import Cluster

DATABASE = "shop"
PORT = "8080"
#: Seconds for what follows a commit, on a busy machine.
PATIENCE = 60.0


class Terminal:
    """A command that runs until it is told to stop."""

    def __init__(self, command: str, directory: Path, environ: Mapping[str, str]) -> None:
        self.command = command
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=directory,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, text: str) -> str:
        """The next line that holds the text."""
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if text in line:
                return line
        raise AssertionError(f"{self.command} ended without saying {text!r}: {''.join(said)}")

    def stop(self) -> int:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)
        return self._process.returncode


@pytest.fixture
def environ(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, str]]:
    """As in the terminal of somebody who installed pgrelay and has a server; the tour's database is dropped at the end."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    command = bin_dir / "pgrelay"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pgrelay "$@"\n', "utf-8")
    command.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "CREDENTIALS"))}
    yield {
        **own,
        "PATH": f"{bin_dir}:{cluster.binaries.bin_dir}:{own['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "PGHOST": str(cluster.host),
        "PGPORT": str(cluster.port),
        "PGUSER": "postgres",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database if exists {DATABASE} with (force)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_sql(cluster: Cluster, text: str) -> None:
    """Run it; a query is asked again until it finds something, for the daemon needs a moment."""
    until = time.monotonic() + PATIENCE
    with psycopg.connect(cluster.dsn(DATABASE), autocommit=True) as connection:
        while True:
            cursor = connection.execute(text.encode())
            if cursor.description is None or cursor.fetchall():
                return
            assert text.startswith("select") and time.monotonic() < until, f"found nothing: {text}"
            connection.execute("select pg_sleep(0.05)")


@pytest.mark.slow
def test_the_tour_of_the_readme_leads_where_it_says(
    cluster: Cluster, environ: dict[str, str], tmp_path: Path
):
    port = str(free_port())
    terminals: dict[str, Terminal] = {}
    steps: list[Block] = [
        block for block in blocks(ROOT / "README.md") if block.language in {"sh", "sql", "yaml"}
    ]
    for step in steps:
        text = step.text.replace(PORT, port)
        word = text.split()[1] if text.startswith("pgrelay ") else ""
        if step.language == "yaml":
            (tmp_path / "pgrelay.yaml").write_text(text, "utf-8")
        elif step.language == "sql":
            run_sql(cluster, text)
            if "update public.orders" in text:
                assert "✓" in terminals["listen"].wait_for("order.placed")
                assert "✓" in terminals["listen"].wait_for("order.paid")
        elif word in {"listen", "run"}:
            terminals[word] = Terminal(text.strip(), tmp_path, environ)
            terminals[word].wait_for("URL:" if word == "listen" else "notifications_arriving")
        else:
            if word == "uninstall":
                assert terminals["run"].stop() == 0
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                check=False,
                cwd=tmp_path,
                env=environ,
                capture_output=True,
                text=True,
            )
            assert ran.returncode == 0, f"{step.place}: {ran.stdout}{ran.stderr}"
    assert terminals["listen"].stop() == 0
    with psycopg.connect(cluster.dsn(DATABASE)) as connection:
        assert connection.execute(
            "select to_regnamespace('pgrelay') is null, count(*) from public.orders"
        ).fetchone() == (True, 1)
