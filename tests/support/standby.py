"""Two servers: one streams to the other, which can take its place.

with Pair.start() as pair:
    pair.fail_over()
"""

import time
from types import TracebackType
from typing import Self

import psycopg
import pytest

from pgrelay.demo.cluster import Cluster
from pgrelay.demo.places import Account
from support.database import VERSION, in_memory

#: A throw-away server forgets what this says is committed; a killed one, whose machine lives on, does not need more.
_SETTINGS = {"synchronous_commit": "on", "max_connections": "60", "timezone": "UTC"}


class Standby(Cluster):
    """A cluster that begins as a copy of another, and follows it."""

    _primary: Cluster

    @classmethod
    def of(cls, primary: Cluster) -> Self:
        """Copied from a running server by pg_basebackup; skips the test where that is not installed."""
        if not (primary.binaries.bin_dir / "pg_basebackup").is_file():
            pytest.skip(f"pg_basebackup is not in {primary.binaries.bin_dir}")
        follower = type("Follower", (cls,), {"_primary": primary})
        made: Self = follower.start(
            in_memory(), tuned="throwaway", tcp=True, version=VERSION, settings=_SETTINGS
        )
        made.password = primary.password
        return made

    def _initialise(self, account: Account | None) -> None:
        program = str(self.binaries.bin_dir / "pg_basebackup")
        source = f"--dbname={self._primary.dsn()}"
        target = f"--pgdata={self._data}"
        self._ask(
            do="run",
            command=[program, source, target, "--checkpoint=fast", "--no-sync", "--write-recovery-conf"],
        )


class Pair:
    """A primary and its standby. What is committed on one is on the other before the commit returns."""

    def __init__(self, primary: Cluster, standby: Cluster) -> None:
        self.primary = primary
        self.standby = standby

    @classmethod
    def start(cls) -> Self:
        """Both run, and replication is synchronous."""
        primary = Cluster.start(in_memory(), tuned="throwaway", tcp=True, version=VERSION, settings=_SETTINGS)
        try:
            standby = Standby.of(primary)
        except BaseException:
            primary.stop()
            raise
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            # only now, so that the copy does not wait for a standby of its own
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
            _wait(connection, "select count(*) > 0 from pg_stat_replication where sync_state = 'sync'")
        return cls(primary, standby)

    def dsn(self, dbname: str) -> str:
        """Whichever of the two takes writes."""
        ports = f"{self.primary.port},{self.standby.port}"
        return (
            f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres password={self.primary.password} dbname={dbname}"
            " target_session_attrs=read-write"
        )

    def fail_over(self) -> None:
        """The primary dies, and the standby is promoted."""
        self.primary.crash("kill")
        with psycopg.connect(self.standby.dsn(), autocommit=True) as connection:
            connection.execute("select pg_promote()")

    def wait_until_copied(self) -> None:
        """What is committed on the primary can be read on the standby."""
        with psycopg.connect(self.primary.dsn(), autocommit=True) as primary:
            row = primary.execute("select pg_current_wal_lsn()").fetchone()
        assert row is not None
        with psycopg.connect(self.standby.dsn(), autocommit=True) as standby:
            _wait(standby, "select pg_last_wal_replay_lsn() >= %s", row[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.standby.stop()
        self.primary.stop()


def _wait(connection: psycopg.Connection, query: str, *parameters: object) -> None:
    """Return when the answer is true."""
    deadline = time.monotonic() + 30
    while connection.execute(query.encode(), parameters).fetchone() != (True,):
        assert time.monotonic() < deadline, f"not within 30 s: {query}"
        time.sleep(0.01)
