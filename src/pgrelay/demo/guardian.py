"""A small process that runs one Postgres server for exactly as long as the process that asked for it lives.

Run as a script by `cluster.py`, with the standard library alone. It takes commands from standard input, one
JSON object a line, and answers each with one line. When standard input ends, because its owner said so or
died in whatever way, it stops the server, removes the directories it was told to, and ends. It leads a
session of its own, so that Ctrl-C in a terminal reaches its owner and not the server. Should the guardian
itself be killed, Linux stops the server (death signal of the parent process); elsewhere that one case leaves
a server behind.

A thread's end would fire the death signal too, which is why the server is a child of this process with its
one thread and not of the owner with its many.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
POLL = 0.01

#: Ways to end a server, each with those that follow when it does not heed.
SIGNALS = {
    "fast": (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
    "immediate": (signal.SIGQUIT, signal.SIGKILL),
    "kill": (signal.SIGKILL,),
}

_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A command could not be carried out; the text goes back to the owner."""


class Server:
    """The one server, running or not."""

    def __init__(
        self, data: Path, log: Path, account: tuple[int, int] | None, environment: dict[str, str]
    ) -> None:
        self.data = data
        self.log = log
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None
        #: Our end of a pipe that ends when the last process of the server does.
        self.alive: int | None = None
        self.become: dict[str, Any] = {}
        if account:
            self.become = {"user": account[0], "group": account[1], "extra_groups": []}

    def run(self, command: list[str]) -> None:
        """A program that has to end well, such as initdb."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=self.environment,
            check=False,
            **self.become,
        )
        if done.returncode:
            raise Failed(done.stdout.decode(errors="replace").strip())

    def start(self, command: list[str]) -> int:
        """Start the server, wait until it takes connections; its process id."""
        said_before = self.log.stat().st_size if self.log.exists() else 0
        self.alive, held_by_server = os.pipe()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self.environment,
                start_new_session=True,
                pass_fds=[held_by_server],
                preexec_fn=stop_with_parent(),  # noqa: PLW1509 there are no other threads here
                **self.become,
            )
        os.close(held_by_server)
        if self.is_ready_before(time.monotonic() + START_TIMEOUT):
            return self.process.pid
        self.stop("immediate")
        with self.log.open("rb") as log:
            log.seek(said_before)
            said = log.read().decode(errors="replace").strip()
        raise Failed(said or f"the server was not ready after {START_TIMEOUT:.0f} s")

    def is_ready_before(self, deadline: float) -> bool:
        """Wait for `ready` in postmaster.pid (its eighth line). False when the server ended, or took too long."""
        assert self.process is not None
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                lines = (self.data / "postmaster.pid").read_text().splitlines()
            except FileNotFoundError:
                lines = []
            # A crashed server leaves its file behind: the first line tells whose it is.
            if len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(POLL)
        return False

    def stop(self, how: str) -> None:
        """End the server if it runs, asking less kindly each time, and return when all its processes are gone.

        The backends of a killed postmaster live on until they notice: they may commit until then, write files,
        and keep a new server from starting. Each holds the pipe open that it inherited.
        """
        for number in SIGNALS[how]:
            if self.process is None or self.process.poll() is not None:
                break
            self.process.send_signal(number)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                continue
        self.process = None
        if self.alive is not None:
            select.select([self.alive], [], [], STOP_TIMEOUT)
            os.close(self.alive)
            self.alive = None


def stop_with_parent() -> Callable[[], None] | None:
    """What the child does between fork and exec so that Linux stops it (fast shutdown) when we die."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:  # we died before the request was made
            os._exit(1)

    return ask_kernel


def answer_commands(server: Server) -> None:
    """Carry out one command a line until standard input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        reply: dict[str, object] = {}
        try:
            match command["do"]:
                case "run":
                    server.run(command["command"])
                case "start":
                    reply["pid"] = server.start(command["command"])
                case "stop":
                    server.stop(command["how"])
        except (Failed, OSError) as error:
            reply["error"] = str(error)
        print(json.dumps(reply), flush=True)


def remove(directory: Path) -> None:
    """Remove a directory and all in it, even while a server that is about to end still writes there."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        if directory.exists():
            time.sleep(0.1)


def leave(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)


def main(specification: str) -> None:
    spec = json.loads(specification)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    account = (spec["account"][0], spec["account"][1]) if spec["account"] else None
    server = Server(Path(spec["data"]), Path(spec["log"]), account, spec["environment"])
    try:
        answer_commands(server)
    except BrokenPipeError:
        # The owner died while we worked. Its end of the pipe is gone, and nothing may be written at exit
        # either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        server.stop("fast")
        for directory in spec["remove"]:
            remove(Path(directory))


if __name__ == "__main__":
    main(sys.argv[1])
