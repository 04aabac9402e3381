"""The receivers of docs/verify, started as their readers would start them.

A language whose interpreter is not on this machine has no command, and a reason why.
"""

import http.client
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from docs.blocks import ROOT

FOLDER = ROOT / "docs/verify"
#: Seconds until a receiver listens, and until it says what it did: a busy machine compiles slowly.
PATIENCE = 120.0
_VERDICT = re.compile(r"\b(handled|duplicate) (\S+)$")


class Missing(Exception):
    """What a receiver needs is not on this machine."""


class Language(NamedTuple):
    """A receiver and the command that starts it, made in a folder of its own for what must be compiled."""

    file: Path
    command: Callable[[Path, int], list[str]]


def needs(*programs: str) -> None:
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        raise Missing(f"not on this machine: {', '.join(absent)}")


def _interpreted(program: str, file: str, *, words: Callable[[int], list[str]] = lambda port: []) -> Language:
    path = FOLDER / file

    def command(folder: Path, port: int) -> list[str]:
        needs(program)
        return [program, *words(port), str(path)]

    return Language(path, command)


def _go(folder: Path, port: int) -> list[str]:
    needs("go")
    _compile("go", "build", "-o", str(folder / "receiver"), str(FOLDER / "go/receiver.go"))
    return [str(folder / "receiver")]


def _csharp(folder: Path, port: int) -> list[str]:
    """.NET runs one file from version 10 on; Mono compiles it too."""
    path = FOLDER / "csharp/Receiver.cs"
    if shutil.which("mcs") and shutil.which("mono"):
        _compile("mcs", f"-out:{folder}/receiver.exe", str(path))
        return ["mono", str(folder / "receiver.exe")]
    needs("dotnet")
    version = subprocess.run(
        ["dotnet", "--version"], check=False, capture_output=True, text=True, timeout=60
    ).stdout.strip()
    if int(version.partition(".")[0] or 0) < 10:
        raise Missing(f".NET 10 or later; this is {version or 'a runtime without the SDK'}")
    return ["dotnet", "run", str(path)]


def _shell(folder: Path, port: int) -> list[str]:
    needs("bash", "openssl", "od")
    if not (shutil.which("socat") or shutil.which("systemd-socket-activate")):
        raise Missing("not on this machine: socat, and systemd-socket-activate")
    return ["bash", str(FOLDER / "shell/receiver.sh")]


def _compile(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        FOLDER / "python/receiver.py",
        lambda folder, port: [sys.executable, str(FOLDER / "python/receiver.py")],
    ),
    "javascript": _interpreted("node", "javascript/receiver.js"),
    "php": _interpreted("php", "php/receiver.php", words=lambda port: ["-S", f"127.0.0.1:{port}"]),
    "ruby": _interpreted("ruby", "ruby/receiver.rb"),
    "go": Language(FOLDER / "go/receiver.go", _go),
    "java": _interpreted("java", "java/Receiver.java"),
    "csharp": Language(FOLDER / "csharp/Receiver.cs", _csharp),
    "shell": Language(FOLDER / "shell/receiver.sh", _shell),
}


def verification(name: str) -> str:
    """The upper part of a receiver, which verifies, as a block for a document."""
    above, marker, _ = LANGUAGES[name].file.read_text("utf-8").partition("--- The receiver ---")
    assert marker, f"{name}: no line that says where the receiver begins"
    code = above[: above.rindex("\n")].rstrip()
    return f"```{'bash' if name == 'shell' else name}\n{code}\n```\n"


class Running:
    """A receiver that listens, and what it says it did."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hooks"
        self._verdicts: queue.Queue[tuple[str, str]] = queue.Queue()
        self._said: list[str] = []
        self._process = process
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)
            if found := _VERDICT.search(line.rstrip()):
                self._verdicts.put((found[1], found[2]))

    def wait_until_listening(self) -> None:
        wait_until_open(self.port, self._process, lambda: "".join(self._said))

    def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/hooks", body, {"Content-Type": "application/json", **headers})
            return connection.getresponse().status
        finally:
            connection.close()

    def next_verdict(self) -> tuple[str, str]:
        """The next thing it did: ("handled" or "duplicate", the key). Nothing is skipped."""
        return self._verdicts.get(timeout=PATIENCE)

    def has_done_nothing_more(self) -> bool:
        return self._verdicts.empty()

    def stop(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, number)
                self._process.wait(timeout=10)
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def wait_until_open(port: int, process: subprocess.Popen[str], said: Callable[[], str]) -> None:
    """Until the process listens there; what it said instead is shown when it never does."""
    until = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < until, said()
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(name: str, folder: Path, secret: str, *, classic: bool = False) -> Iterator[Running]:
    """The receiver of a language, until the end of the block. Missing if this machine cannot run it."""
    port = free_port()
    seen = folder / "seen"
    seen.mkdir()
    settings = {"PORT": str(port), "WEBHOOK_SECRET": secret, "SEEN_DIR": str(seen)}
    settings["MONO_DISABLE_SHARED_AREA"] = "1"  # a file in /dev/shm, which is left when Mono is killed
    process = subprocess.Popen(
        LANGUAGES[name].command(folder, port),
        env={**os.environ, **settings, **({"WEBHOOK_SCHEME": "classic"} if classic else {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # `dotnet run` has a process below it, which is to end too
    )
    receiver = Running(port, process)
    try:
        receiver.wait_until_listening()
        yield receiver
    finally:
        receiver.stop()
