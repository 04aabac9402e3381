"""The embedded Postgres: whatever ends it or its owner, no process and no file stays behind."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from pgrelay.demo import cluster as cluster_module
from pgrelay.demo import places
from pgrelay.demo.binaries import BINDIR_VARIABLE, WHEEL
from pgrelay.demo.cluster import Cluster
from pgrelay.errors import Refused
from support.database import VERSION

#: A program that owns a cluster, says where it is, and waits for its own end.
OWNER = """
import json, sys
from pgrelay.demo.cluster import Cluster
with Cluster.start(tuned="throwaway", version=sys.argv[1] or None) as cluster:
    print(json.dumps([cluster.dsn(), str(cluster.directory), cluster.pid]), flush=True)
    sys.stdin.read()
"""


def start(**options) -> Cluster:
    return Cluster.start(tuned="throwaway", version=VERSION, **options)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def values(cluster: Cluster, query: str, **where) -> list:
    with psycopg.connect(cluster.dsn(**where), autocommit=True) as connection:
        return [row[0] for row in connection.execute(query)]


@pytest.fixture
def owner():
    """The program above, running; its standard error stays open until the guardian has ended too."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, VERSION or ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        yield running
        running.kill()


def test_a_stopped_cluster_leaves_neither_process_nor_file():
    cluster = start()
    pid, directory = cluster.pid, cluster.directory
    assert exists(pid)
    assert values(cluster, "select pg_backend_pid() > 0") == [True]
    cluster.stop()
    cluster.stop()
    assert not exists(pid)
    assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_cluster_ends_with_its_owner_and_leaves_nothing(owner, number):
    dsn, directory, pid = json.loads(owner.stdout.readline())
    with psycopg.connect(dsn):
        os.killpg(owner.pid, number)
        owner.communicate(timeout=60)
    assert not exists(pid)
    assert not Path(directory).exists()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(owner):
    _, _, pid = json.loads(owner.stdout.readline())
    assert len({os.getsid(owner.pid), os.getsid(pid), os.getsid(0)}) == 3
    owner.communicate("", timeout=60)
    assert owner.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child at its parent's death")
def test_the_server_stops_when_the_guardian_is_killed():
    with start() as cluster, psycopg.connect(cluster.dsn()) as connection:
        cluster._guardian.kill()
        with pytest.raises(psycopg.OperationalError):
            for _ in connection.notifies(timeout=30):
                pass
        with pytest.raises(Refused, match="gone"):
            cluster.restart()
    assert not cluster.directory.exists()


@pytest.mark.parametrize("how", ["immediate", "kill"])
def test_a_crash_loses_nothing_that_was_committed(how):
    with start(settings={"fsync": "on", "synchronous_commit": "on"}) as cluster:
        with psycopg.connect(cluster.dsn()) as connection:
            connection.execute("create table kept as select 42 as n")
            connection.commit()
            connection.execute("update kept set n = 43")
            cluster.crash(how)
            with pytest.raises(psycopg.OperationalError):
                connection.commit()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(cluster.dsn(), connect_timeout=2)
        cluster.restart()
        assert values(cluster, "select n from kept") == [42]


def test_settings_are_passed_on_and_may_change_with_a_restart():
    with start(settings={"max_prepared_transactions": "7"}) as cluster:
        assert values(cluster, "show max_prepared_transactions") == ["7"]
        cluster.settings["max_prepared_transactions"] = "8"
        cluster.restart()
        assert values(cluster, "show max_prepared_transactions") == ["8"]


def test_tcp_is_off_unless_asked_for_and_then_needs_the_password():
    with start() as cluster:
        assert values(cluster, "show listen_addresses") == [""]
    with start(tcp=True) as cluster:
        assert values(cluster, "select host(inet_server_addr())", tcp=True) == ["127.0.0.1"]
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(cluster.dsn(tcp=True).replace(cluster.password, "wrong"))


def test_another_port_is_taken_when_somebody_was_quicker(cluster, monkeypatch):
    choose = cluster_module._free_port
    ports = iter([cluster.port])
    monkeypatch.setattr(cluster_module, "_free_port", lambda: next(ports, None) or choose())
    with start(tcp=True) as second:
        assert second.port != cluster.port
        assert values(second, "select 1", tcp=True) == [1]


def test_a_long_path_gets_a_short_socket_directory_that_is_removed_too():
    with tempfile.TemporaryDirectory() as made:
        deep = Path(made) / ("d" * 100)
        deep.mkdir()
        for directory in (deep, deep.parent):
            directory.chmod(0o755)
        with start(data_dir=deep) as cluster:
            sockets = Path(cluster.host)
            assert cluster.directory.parent == deep
            assert len(str(sockets)) < 80
            assert values(cluster, "select 1") == [1]
        assert not sockets.exists()
        assert list(deep.iterdir()) == []


def test_what_the_servers_account_cannot_reach_is_copied_or_put_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "reachable", lambda path, account: False)
    [package] = importlib.util.find_spec(WHEEL).submodule_search_locations
    monkeypatch.setenv(BINDIR_VARIABLE, f"{package}/pginstall/bin")
    with Cluster.start(tmp_path, tuned="throwaway") as cluster:
        assert cluster.directory.parent != tmp_path
        assert cluster.binaries.bin_dir.is_relative_to(cluster.directory)
        assert values(cluster, "select 1") == [1]


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(monkeypatch):
    made = []
    original = places.new_directory
    monkeypatch.setattr(
        cluster_module, "new_directory", lambda *a, **k: made.append(original(*a, **k)) or made[-1]
    )
    with pytest.raises(Refused, match="unrecognized configuration parameter"):
        start(settings={"no_such_setting": "1"})
    assert [directory.exists() for directory in made] == [False]


def test_durable_is_what_postgres_promises():
    with Cluster.start(version=VERSION) as cluster:
        assert values(cluster, "show fsync") + values(cluster, "show synchronous_commit") == ["on", "on"]
        assert values(cluster, "select datctype from pg_database where datname = 'template1'") in (
            ["C.UTF-8"],
            ["C"],
        )
