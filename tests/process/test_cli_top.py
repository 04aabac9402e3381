"""`pgrelay top`: one frame, frames as JSON, and live on a terminal that is given back as it was."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest

from support.command import Command
from support.database import connections_refused, new_role
from support.queue import add_event, add_webhook, expand, failed, record, sign_on, succeeded

PATIENCE = 30.0
QUIT = "\x1b[?1049l"


@pytest.fixture
def pgrelay(database, tmp_path):
    return Command(tmp_path, database.dsn)


@pytest.fixture
def busy(db):
    """Two webhooks, one that works and one that does not, and a daemon."""
    good = add_webhook(db, "1", name="good one")
    poor = add_webhook(db, "1", name="poor \x1b[2J one")
    daemon = sign_on(db, "relay-1")
    for _ in range(2):
        add_event(db)
    for lease in expand(db, daemon).leases:
        record(db, daemon, succeeded(lease) if lease.webhook_id == good else failed(lease))
    return good, poor


def test_once_prints_who_runs_what_waits_and_who_fails_without_any_escape_sequence(pgrelay, busy):
    done = pgrelay("top", "--once")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "Daemons   relay-1: " in done.out
    assert "Queue     0 events to expand, 0 pending, 0 in flight" in done.out
    assert "2 dead letters within a day" in done.out
    worst = done.out.split("Worst webhooks\n")[1].split("\n\n")[0].splitlines()
    assert len(worst) == 2 and "poor" in worst[1] and "100 %" in worst[1]
    failures = done.out.split("Latest failures\n")[1].splitlines()
    assert len(failures) == 3 and "timeout: no answer" in failures[1]


def test_without_a_terminal_it_prints_once(pgrelay, busy):
    assert pgrelay("top").out.count("Daemons ") == 1


def test_json_is_one_object_with_the_names_of_the_schema(pgrelay, busy):
    frame = pgrelay("top", "--once", "--json").data
    assert frame.keys() == {
        "at", "database", "health", "daemons", "lately", "webhooks", "failures", "rates"
    }  # fmt: skip
    assert frame["lately"]["attempts"] == 4
    assert frame["rates"]["attempts"] == pytest.approx(4 / frame["lately"]["seconds"])
    assert [row["webhook_id"] for row in frame["webhooks"]] == list(busy)
    assert {row["error_kind"] for row in frame["failures"]} == {"timeout"}


def test_json_goes_on_until_nobody_reads_and_tells_rates_of_the_last_seconds(pgrelay, db, busy):
    with pgrelay.start("top", "--json") as running:
        first = json.loads(running.stdout.readline())
        add_event(db)
        daemon = sign_on(db, "relay-2")
        record(db, daemon, *map(succeeded, expand(db, daemon).leases))
        second = json.loads(running.stdout.readline())
        running.stdout.close()
        assert running.wait(PATIENCE) == 141
    assert second["rates"]["seconds"] < 30 < first["rates"]["seconds"]
    assert second["rates"]["attempts"] == pytest.approx(2 / second["rates"]["seconds"])


def test_a_reader_may_use_it(database, tmp_path, busy):
    with new_role(database, "watcher", "in role pgrelay_reader") as role:
        done = Command(tmp_path, role.dsn)("top", "--once")
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("end", ["q", "\x04", signal.SIGINT, signal.SIGTERM])
def test_live_it_ends_with_q_or_ctrl_c_and_gives_the_terminal_back_as_it_was(pgrelay, busy, end):
    with live(pgrelay) as (running, screen):
        before = screen.modes
        screen.wait_for("Latest failures")
        assert screen.modes != before
        if isinstance(end, str):
            screen.type(end)
        else:
            running.send_signal(end)
        screen.wait_for(QUIT)
        assert running.wait(PATIENCE) == 0
        assert screen.modes == before
    assert screen.seen.count("\x1b[?1049h") == screen.seen.count("\x1b[?1049l") == 1
    assert screen.seen.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")


def test_live_it_fits_a_small_window_and_follows_when_it_grows(pgrelay, busy):
    with live(pgrelay, lines=5, columns=40) as (running, screen):
        screen.wait_for("\x1b[J")
        frame = screen.seen.split("\x1b[H")[1]
        assert frame.count("\n") == 4 and "webhooks\n" not in frame
        screen.resize(lines=40, columns=120)
        running.send_signal(signal.SIGWINCH)
        screen.wait_for("Latest failures")
        screen.type("q")
        assert running.wait(PATIENCE) == 0


def test_ctrl_z_gives_the_shell_its_terminal_and_fg_goes_on(pgrelay, busy):
    with live(pgrelay) as (running, screen):
        before = screen.modes
        screen.wait_for("Latest failures")
        running.send_signal(signal.SIGTSTP)
        screen.wait_for(QUIT)
        assert os.WIFSTOPPED(os.waitpid(running.pid, os.WUNTRACED)[1])
        assert screen.modes == before
        screen.seen = ""
        running.send_signal(signal.SIGCONT)
        screen.wait_for("Latest failures")
        screen.type("q")
        assert running.wait(PATIENCE) == 0


def test_a_database_that_goes_away_is_waited_for(pgrelay, database, db, busy):
    with live(pgrelay) as (running, screen):
        screen.wait_for("Latest failures")
        with connections_refused(database):
            screen.wait_for("The database is away: ")
        screen.seen = ""
        screen.wait_for("Latest failures")
        screen.type("q")
        assert running.wait(PATIENCE) == 0


class Screen:
    """The other end of a terminal: what was written to it, and the keys."""

    def __init__(self, end: int, terminal: int) -> None:
        self._end = end
        self._terminal = terminal
        self.seen = ""

    @property
    def modes(self) -> list:
        return termios.tcgetattr(self._terminal)

    def resize(self, *, lines: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = until - time.monotonic()
            if not select.select([self._end], [], [], max(0.0, left))[0]:
                raise TimeoutError(f"no {text!r} in {self.seen!r}")
            self.seen += os.read(self._end, 65_536).decode()


@contextlib.contextmanager
def live(
    pgrelay: Command, *, lines: int = 40, columns: int = 100
) -> Iterator[tuple[subprocess.Popen[bytes], Screen]]:
    """`pgrelay top` on a terminal of its own."""
    end, terminal = pty.openpty()
    screen = Screen(end, terminal)
    screen.resize(lines=lines, columns=columns)
    running = subprocess.Popen(
        [sys.executable, "-m", "pgrelay", "top"],
        cwd=pgrelay.directory,
        env={**pgrelay.environ, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    try:
        yield running, screen
    finally:
        running.kill()
        running.wait(PATIENCE)
        assert running.stderr is not None
        running.stderr.close()
        os.close(end)
        os.close(terminal)
