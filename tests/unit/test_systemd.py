"""What a service tells systemd, as seen by a real notify socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.systemd import Notifier, credentials_directory


class NotifySocket:
    """Listens as systemd does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(10.0)

    def told(self) -> dict[str, str]:
        """The next message."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().split("\n"))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotifySocket]:
    abstract = request.param == "an abstract name"
    listening = NotifySocket(f"@pgrelay-test-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield listening
    listening.close()


@pytest.fixture
def notifier(systemd: NotifySocket) -> Iterator[Notifier]:
    made = Notifier({"NOTIFY_SOCKET": systemd.name})
    yield made
    made.close()


def test_every_message_arrives_in_the_words_of_the_protocol(systemd, notifier):
    before = time.monotonic_ns() // 1000
    assert all(
        [
            notifier.status("connecting"),
            notifier.ready(),
            notifier.watchdog(),
            notifier.reloading(),
            notifier.extend_timeout(1.5),
            notifier.stopping(),
        ]
    )
    assert systemd.told() == {"STATUS": "connecting"}
    assert systemd.told() == {"READY": "1"}
    assert systemd.told() == {"WATCHDOG": "1"}
    reloading = systemd.told()
    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert systemd.told() == {"EXTEND_TIMEOUT_USEC": "1500000"}
    assert systemd.told() == {"STOPPING": "1"}


def test_a_status_is_one_line_and_cannot_say_anything_else(systemd, notifier):
    notifier.status("waiting:\n  READY=1\tü \udc00")
    assert systemd.told() == {"STATUS": "waiting: READY=1 ü ?"}


@pytest.mark.parametrize("name", [None, "", "vsock:2:1234", "relative/path"])
def test_without_a_socket_nothing_is_told_and_nothing_fails(name):
    notifier = Notifier({} if name is None else {"NOTIFY_SOCKET": name})
    assert not notifier.ready()
    assert not notifier.status("unheard")
    notifier.close()


def test_the_environment_of_the_process_is_the_default(monkeypatch, systemd):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.name)
    notifier = Notifier()
    assert notifier.ready()
    notifier.close()
    assert systemd.told() == {"READY": "1"}


def test_a_socket_that_nobody_listens_to_is_no_failure_and_a_new_one_there_is_found(tmp_path):
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path})
    assert not notifier.ready()
    for _ in range(2):  # systemd made it anew
        listening = NotifySocket(path)
        assert notifier.ready()
        assert listening.told() == {"READY": "1"}
        listening.close()
        Path(path).unlink()
    notifier.close()


def test_a_supervisor_that_does_not_read_holds_nobody_up(systemd, notifier):
    told = [notifier.watchdog() for _ in range(10_000)]
    assert told[0]
    assert not told[-1]


def test_a_closed_notifier_tells_nothing(systemd, notifier):
    notifier.close()
    assert not notifier.ready()


def test_the_watchdog_is_fed_twice_in_its_time():
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval == 15.0
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_interval == 15.0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"},
    ],
)
def test_a_watchdog_that_is_off_unreadable_or_of_another_process_is_not_fed(environ):
    assert Notifier(environ).watchdog_interval is None


@given(st.text(), st.text())
def test_no_environment_breaks_the_start(microseconds, pid):
    interval = Notifier({"WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}).watchdog_interval
    assert interval is None or interval > 0


def test_the_credentials_directory_is_what_systemd_says(monkeypatch):
    assert credentials_directory({"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == Path(
        "/run/credentials/x"
    )
    assert credentials_directory({"CREDENTIALS_DIRECTORY": ""}) is None
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert credentials_directory() is None
