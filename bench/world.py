"""What every benchmark needs: a Postgres, databases with the sample application, daemons as users run them.

The server is pgrelay's embedded one with the settings in SERVER and all else as Postgres ships it: fsync,
synchronous_commit, full_page_writes and autovacuum are on. The daemon is `pgrelay run` with the settings that
Database.config writes and all else at its default, connected by the server's Unix socket, as superuser.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import yaml
from processor import wait_for_quiet
from psycopg import sql

from pgrelay.config.sample_sources import SAMPLE_SOURCES
from pgrelay.demo.cluster import Cluster

SERVER = {"shared_buffers": "512MB", "max_wal_size": "4GB", "max_connections": "200", "timezone": "UTC"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Loop = Literal["uvloop", "asyncio"]

_SAMPLE = Path(sys.modules[Cluster.__module__].__file__ or "").with_name("sample.sql")


@dataclass(frozen=True, slots=True)
class Database:
    """A database with the sample application and pgrelay, watching as configured."""

    name: str
    dsn: str
    directory: Path

    def connect(self, **settings: Any) -> psycopg.Connection:
        """A new connection, autocommit unless told otherwise; the caller closes it."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **settings})

    def config(
        self, name: str, sources: list[dict[str, Any]], *, ca_file: Path | None = None, **database: str
    ) -> Path:
        """Write a configuration file of this name, with these additions to `database`."""
        settings = {
            "environment": "benchmark",
            "database": {"dsn": self.dsn, **database},
            "daemon": {"name": "benchmark"},
            "network": {
                "allow_http": True,
                "allowed_networks": ["127.0.0.0/8"],
                "ca_file": "" if ca_file is None else str(ca_file),
            },
            "sources": sources,
        }
        path = self.directory / f"{name}.yaml"
        path.write_text(json.dumps(settings, indent=1))  # which is YAML too
        return path

    def webhook(self, url: str, *, company: str = "1", events: str = "*", name: str = "benchmark") -> int:
        """Insert a webhook; its id."""
        with self.connect() as connection:
            row = connection.execute(
                "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events, secret_key)"
                " values (%s, %s, %s, array[%s], %s) returning id",
                (company, name, url, events, SECRET),
            ).fetchone()
        assert row is not None
        return int(row[0])

    def triggers(self, *, enabled: bool) -> None:
        """Capture, or not: the triggers stay, and are enabled or disabled."""
        with self.connect() as connection:
            for table, names in connection.execute(
                "select watched_table, triggers from pgrelay.sources"
            ).fetchall():
                for name in names:
                    statement = (
                        "alter table {} enable trigger {}" if enabled else "alter table {} disable trigger {}"
                    )
                    connection.execute(
                        sql.SQL(statement).format(sql.Identifier(*table.split(".")), sql.Identifier(name))
                    )

    def settle(self) -> None:
        """Vacuum and checkpoint, so that no turn pays for what the one before it left, and wait for a quiet machine."""
        with self.connect() as connection:
            connection.execute("vacuum (analyze)")
            connection.execute("checkpoint")
        wait_for_quiet()

    def clear(self) -> None:
        """Empty the tables of events and deliveries. No daemon may be running."""
        with self.connect() as connection:
            connection.execute(
                "truncate pgrelay.outbox, pgrelay.delivery_queue, pgrelay.delivery_history, pgrelay.delivery_attempts,"
                " pgrelay.deadlines, pgrelay.metric_deltas, pgrelay.metric_minutes, pgrelay.webhook_totals"
            )
        self.settle()

    @contextmanager
    def daemon(self, loop: Loop = "uvloop", config: Path | None = None) -> Iterator[int]:
        """Run a daemon, from when it has registered until it has stopped in good order; its pid."""
        log = self.directory / f"{self.name}.log"
        path = self.directory / f"{self.name}.yaml" if config is None else config
        words = ["run", *(["--no-uvloop"] if loop == "asyncio" else [])]
        with log.open("w") as stream, self.connect() as connection:
            process = subprocess.Popen(pgrelay(path, *words), stdout=stream, stderr=stream)

            def registered() -> bool:
                found = connection.execute(
                    "select from pgrelay.daemons where pid = %s", (process.pid,)
                ).rowcount
                return found == 1 or process.poll() is not None

            try:
                wait_for(registered, "the daemon to start", 60)
                if process.poll() is not None:
                    raise RuntimeError(f"the daemon did not start:\n{log.read_text()}")
                yield process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@dataclass(frozen=True, slots=True)
class World:
    """A server, and a directory that is gone afterwards."""

    cluster: Cluster
    directory: Path
    quick: bool

    @contextmanager
    def database(self, name: str, sources: list[dict[str, Any]] | None = None) -> Iterator[Database]:
        """A new database; `sources` as in a configuration file, by default those of config.example.yaml."""
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            database = Database(name, self.cluster.dsn(name), self.directory)
            with database.connect() as connection:
                connection.execute(_SAMPLE.read_bytes())
            path = database.config(name, sample_sources() if sources is None else sources)
            for command in ("migrate", "apply"):
                done = subprocess.run(pgrelay(path, command), capture_output=True, text=True, check=False)
                if done.returncode:
                    raise RuntimeError(f"pgrelay {command} failed:\n{done.stderr}")
            yield database
        finally:
            with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    def pgbench(self) -> Path | None:
        """The pgbench that belongs to the server."""
        path = self.cluster.binaries.bin_dir / "pgbench"
        return path if path.is_file() else None


@contextmanager
def world(version: str | None, *, quick: bool) -> Iterator[World]:
    """Start a server; `version` is a major version, or None for the first one found."""
    with (
        tempfile.TemporaryDirectory(prefix="pgrelay-bench-") as directory,
        Cluster.start(tuned="durable", settings=SERVER, version=version) as cluster,
    ):
        yield World(cluster, Path(directory), quick)


def sample_sources(*, joins: bool = True) -> list[dict[str, Any]]:
    """The sources of config.example.yaml; without joins, the same rules with bodies made of the changed row alone."""
    # all scalars as text: YAML 1.1 takes the key "on" for a truth value
    sources: list[dict[str, Any]] = yaml.load(SAMPLE_SOURCES, yaml.BaseLoader)["sources"]
    if not joins:
        for source in sources:
            source.pop("payload", None)
            for rule in source["events"]:
                rule.pop("payload", None)
    return sources


def pgrelay(config: Path, *words: str) -> list[str]:
    """The command line of pgrelay."""
    return [sys.executable, "-m", "pgrelay", "--config", str(config), *words]


def wait_for(happened: Callable[[], bool], what: str, seconds: float, every: float = 0.05) -> None:
    """Return once it has happened; RuntimeError after so many seconds."""
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            raise RuntimeError(f"waited {seconds:.0f} s for {what} in vain")
        time.sleep(every)
