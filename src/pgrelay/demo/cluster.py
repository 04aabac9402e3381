"""An embedded Postgres: one throw-away server that leaves neither a process nor a file behind.

Start it, connect to `dsn()`, stop it; or let it end with this process, however that ends: `guardian.py` sees
to it. Only we can connect: the socket lies in a private directory, and TCP, when asked for, listens on
127.0.0.1 with a random password. Calls block (a start takes about a second): asyncio programs use a thread.
"""

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pgrelay.demo import guardian
from pgrelay.demo.binaries import Binaries, copied, find_binaries
from pgrelay.demo.places import Account, give, new_directory, reachable, server_account
from pgrelay.errors import Refused

__all__ = ["Binaries", "Cluster", "find_binaries"]

SUPERUSER = "postgres"
#: The port in the name of the socket, when nothing listens on TCP.
SOCKET_PORT = 5432
#: The system allows 107 bytes on Linux and 103 on macOS for the path of a socket.
LONGEST_SOCKET_PATH = 100
#: How often a free TCP port is chosen again because somebody else took it first.
PORT_ATTEMPTS = 5

#: "durable" keeps what Postgres promises, so that what people measure is true; "throwaway" is for tests.
TUNING: Mapping[str, Mapping[str, str]] = {
    "durable": {},
    "throwaway": {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "shared_buffers": "32MB",
        "jit": "off",
        # among its own files, not in /dev/shm: where it is killed, they are left, and go with its directory
        "dynamic_shared_memory_type": "mmap",
    },
}


class Cluster:
    """A running server. `with Cluster.start() as cluster: …` stops it at the end.

    `settings` may be changed between restarts.
    """

    def __init__(
        self,
        binaries: Binaries,
        account: Account | None,
        directory: Path,
        *,
        tcp: bool,
        settings: Mapping[str, str],
    ) -> None:
        """Made by `start`."""
        self.binaries = binaries
        self.settings = dict(settings)
        self.password = secrets.token_hex(16)
        self.pid: int | None = None
        self.tcp = tcp
        self.port = SOCKET_PORT
        self.directory = directory
        self.log = directory / "log"
        self._data = directory / "data"
        self._sockets = directory
        self._remove = [directory]
        if len(str(directory / f".s.PGSQL.{SOCKET_PORT}.lock")) > LONGEST_SOCKET_PATH:
            self._sockets = new_directory(account, within=Path("/tmp"))
            self._remove.append(self._sockets)
        specification = {
            "data": str(self._data),
            "log": str(self.log),
            "account": [account.uid, account.gid] if account else None,
            "environment": _environment(),
            "remove": [str(path) for path in self._remove],
        }
        # -I: neither the environment nor the current directory decides what the guardian imports.
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            bufsize=0,
        )

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        *,
        tuned: Literal["durable", "throwaway"] = "durable",
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> Self:
        """A new, empty cluster that takes connections. Refused when there are no programs, or they fail.

        Its files go into a new directory inside `data_dir`, which must exist; or else, and when the account
        that the server runs as cannot get there, into the system's temporary place. `version` is the
        `preferred` of `find_binaries`.
        """
        binaries = find_binaries(version)
        account = server_account()
        within = data_dir.resolve() if data_dir and reachable(data_dir, account) else None
        directory = new_directory(account, within=within)
        try:
            if not reachable(binaries.bin_dir, account):
                binaries = copied(binaries, directory / "programs")
            cluster = cls(
                binaries, account, directory, tcp=tcp, settings={**TUNING[tuned], **(settings or {})}
            )
        except BaseException:
            shutil.rmtree(directory)
            raise
        try:
            cluster._initialise(account)
            cluster._start_on_a_free_port()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The directory of the socket, as libpq's `host`."""
        return str(self._sockets)

    @property
    def psql(self) -> Path | None:
        """A psql that can be shown to people, when there is one."""
        return self.binaries.psql

    def dsn(self, dbname: str = "postgres", *, user: str = SUPERUSER, tcp: bool = False) -> str:
        """A libpq connection string, by socket or by TCP. Any role comes in by the socket without a password;
        by TCP a role needs one, and the superuser's is included."""
        words = {"host": self.host, "port": str(self.port), "user": user, "dbname": dbname}
        if tcp:
            words |= {"host": "127.0.0.1", "password": self.password}
        return " ".join(f"{key}={_quoted(value)}" for key, value in words.items())

    def stop(self) -> None:
        """End the server for good and remove its files. Does nothing the second time."""
        assert self._guardian.stdin is not None and self._guardian.stdout is not None
        self._guardian.stdin.close()
        try:
            if self._guardian.wait(timeout=90):
                self._clear_up()
        finally:
            self._guardian.stdout.close()
            self.pid = None

    def _clear_up(self) -> None:
        """What the guardian would have done, had it not been killed."""
        running = self._data / "postmaster.pid"
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(running.read_text().split("\n", 1)[0]), signal.SIGQUIT)
        for directory in self._remove:
            guardian.remove(directory)

    def shut_down(self) -> None:
        """Stop the server as an administrator would, keeping its files; `restart` brings it back."""
        self._ask(do="stop", how="fast")
        self.pid = None

    def crash(self, how: Literal["immediate", "kill"] = "immediate") -> None:
        """End the server without a checkpoint: by its own emergency stop, or by killing the postmaster.

        Returns when the last of its processes is gone.
        """
        self._ask(do="stop", how=how)
        self.pid = None

    def restart(self) -> None:
        """Bring the server up, stopping it first when it runs. Port and password stay the same."""
        self.shut_down()
        self.pid = self._ask(do="start", command=self._command())["pid"]

    def _start_on_a_free_port(self) -> None:
        for attempts_left in reversed(range(PORT_ATTEMPTS if self.tcp else 1)):
            if self.tcp:
                self.port = _free_port()
            try:
                return self.restart()
            except Refused as refused:
                if "ddress already in use" not in refused.message or not attempts_left:
                    raise

    def _initialise(self, account: Account | None) -> None:
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        give(password_file, account)
        self._ask(
            do="run",
            command=[
                str(self.binaries.bin_dir / "initdb"),
                "--no-sync",
                "--no-instructions",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                f"--pwfile={password_file}",
                f"--username={SUPERUSER}",
                "--encoding=UTF8",
                f"--locale={_locale()}",
                f"--pgdata={self._data}",
            ],
        )
        password_file.unlink()

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self.tcp else "",
            "port": str(self.port),
            "unix_socket_directories": self.host,
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.binaries.bin_dir / "postgres"), "-D", str(self._data), *options]

    def _ask(self, **command: object) -> Any:
        """Have the guardian do something, and wait for its answer."""
        assert self._guardian.stdin is not None and self._guardian.stdout is not None
        try:
            self._guardian.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError as error:
            raise Refused("the process that guards the embedded Postgres is gone") from error
        answer = b""
        deadline = time.monotonic() + 2 * guardian.START_TIMEOUT
        while not answer.endswith(b"\n"):
            if not select.select([self._guardian.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Refused(f"the embedded Postgres does not answer; its log is {self.log}")
            piece = os.read(self._guardian.stdout.fileno(), 65536)
            if not piece:
                raise Refused("the process that guards the embedded Postgres is gone")
            answer += piece
        reply = json.loads(answer)
        if "error" in reply:
            raise Refused(f"the embedded Postgres ({self.binaries.bin_dir}) failed: {reply['error']}")
        return reply


def _environment() -> dict[str, str]:
    """Ours, less what would configure the server or its messages behind our back."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": _locale()}


def _locale() -> str:
    """UTF-8, and sorted by bytes everywhere. macOS has no C.UTF-8."""
    return "C" if sys.platform == "darwin" else "C.UTF-8"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quoted(value: str) -> str:
    """One value of a libpq connection string."""
    if value and not set(value) & set(" '\\"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
