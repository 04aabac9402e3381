"""Several daemons as children of one process: `pgrelay run --processes N`.

Each child is a whole daemon with a name, connections and leases of its own; two daemons are safe on one database, so
nothing here has to be. What is ours: they start and stop together, one that dies or falls silent is replaced, signals
reach all, and systemd hears of them as of one.

A child speaks to us as it would to systemd (sd_notify(3)), through a socket of ours. It reads its standard input, which
ends when we do, so that no child outlives us.
"""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pgrelay.observation import Observation, ProcessEnded, ProcessStuck
from pgrelay.systemd import Notifier

#: A child that says nothing for so long is stuck. It says something at least every ten seconds.
SILENCE_SECONDS = 30.0
#: Exit codes that say what only a person can mend; all others may be bad luck. See `cli.main`.
_FOR_A_PERSON = frozenset({2, 3, 77, 78})
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


@dataclass(slots=True)
class _Child:
    number: int
    socket: socket.socket
    address: str
    process: asyncio.subprocess.Process | None = None
    ready: bool = False
    heard_at: float = 0.0
    failures: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """`run()` until `stop()`, or until a child ends for a reason that another start would not mend.

    `command(k)` is the command line of child number k, from 1. Codes are exit codes of processes.
    """

    def __init__(
        self,
        count: int,
        command: Callable[[int], Sequence[str]],
        environ: Mapping[str, str],
        *,
        observe: Callable[[Observation], None],
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._count = count
        self._command = command
        self._environ = environ
        self._observe = observe
        self._silence = silence
        self._notifier = Notifier(environ)
        self._children: list[_Child] = []
        self._stopping = asyncio.Event()
        self._told_ready = False
        self._code = 0

    def stop(self) -> None:
        """Stop all, in good order; a second call changes nothing."""
        if not self._stopping.is_set():
            self._notifier.stopping()
            self._stopping.set()
            self._signal(signal.SIGTERM)

    def reload(self) -> None:
        """Have all read their configuration again."""
        self._notifier.reloading()
        self._told_ready = False
        for child in self._children:
            child.ready = False
        self._signal(signal.SIGHUP)

    async def run(self) -> int:
        """The exit code: 0 after `stop`, else that of the child which ended for good."""
        with tempfile.TemporaryDirectory(prefix="pgrelay-run-") as folder:
            loop = asyncio.get_running_loop()
            self._children = [self._child(number, Path(folder)) for number in range(1, self._count + 1)]
            for child in self._children:
                loop.add_reader(child.socket, self._hear, child)
            try:
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(self._watch())
                    for child in self._children:
                        child.task = group.create_task(self._keep_running(child))
                    await asyncio.wait([child.task for child in self._children if child.task is not None])
                    watching.cancel()
            finally:
                for child in self._children:
                    loop.remove_reader(child.socket)
                    child.socket.close()
                self._notifier.close()
        return self._code

    def _child(self, number: int, folder: Path) -> _Child:
        address = str(folder / str(number))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.setblocking(False)
        listening.bind(address)
        return _Child(number, listening, address)

    async def _keep_running(self, child: _Child) -> None:
        """Start it again whenever it ends, after a wait that grows while it keeps ending."""
        while not self._stopping.is_set():
            code = await self._run_once(child)
            if self._stopping.is_set():
                break
            child.failures += 1
            if code in _FOR_A_PERSON:
                self._code = self._code or code
                self.stop()
                break
            wait = min(_FIRST_WAIT * 2 ** (child.failures - 1), _LONGEST_WAIT)
            self._observe(ProcessEnded(child.number, code, wait))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _run_once(self, child: _Child) -> int:
        environ = {
            **self._environ,
            "NOTIFY_SOCKET": child.address,
            "WATCHDOG_USEC": str(int(self._silence * 1_000_000)),
        }
        environ.pop("WATCHDOG_PID", None)  # it names us
        child.heard_at = asyncio.get_running_loop().time()
        child.process = await asyncio.create_subprocess_exec(
            *self._command(child.number),
            env=environ,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us to pass on, once
        )
        if self._stopping.is_set():
            self._send(child, signal.SIGTERM)
        code = await child.process.wait()
        child.ready = False
        return code

    # What they say --------------------------------------------------------------------------------------------------

    def _hear(self, child: _Child) -> None:
        with contextlib.suppress(OSError):
            message = child.socket.recv(65_536).decode(errors="replace")
            child.heard_at = asyncio.get_running_loop().time()
            for line in message.split("\n"):
                name, _, value = line.partition("=")
                if name == "READY":
                    child.ready, child.failures = True, 0
                elif name == "RELOADING":
                    child.ready = False
                elif name == "EXTEND_TIMEOUT_USEC" and value.isdigit():
                    self._notifier.extend_timeout(int(value) / 1_000_000)
            self._tell()

    def _tell(self) -> None:
        ready = sum(child.ready for child in self._children)
        self._notifier.status(f"{ready} of {self._count} processes deliver")
        if ready == self._count and not self._told_ready:
            self._told_ready = self._notifier.ready()

    async def _watch(self) -> None:
        """End children that are stuck; tell systemd that we are not."""
        loop = asyncio.get_running_loop()
        interval = min(self._notifier.watchdog_interval or self._silence, self._silence) / 4
        while True:
            self._notifier.watchdog()
            for child in self._children:
                if loop.time() - child.heard_at > self._silence and self._is_running(child):
                    self._observe(ProcessStuck(child.number, self._silence))
                    self._send(child, signal.SIGKILL)  # what it holds lapses
                    child.heard_at = loop.time()
            await asyncio.sleep(interval)

    # What they are told ---------------------------------------------------------------------------------------------

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            self._send(child, number)

    def _is_running(self, child: _Child) -> bool:
        return child.process is not None and child.process.returncode is None

    def _send(self, child: _Child, number: signal.Signals) -> None:
        if child.process is not None and self._is_running(child):
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)


async def parent_gone() -> None:
    """In a child: returns when standard input ends, for then whoever started us is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(0, "rb", closefd=False)
    )
    while await reader.read(1024):
        pass
