"""pgrelay as the demonstration runs it: the real commands, in processes of their own, with a configuration file.

On Linux they are killed when the process that started them ends, however it ends; elsewhere when it ends in
any orderly way. They lead sessions of their own, so that Ctrl-C in a terminal reaches the demonstration alone.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import IO

import pgrelay
from pgrelay.config.sample_sources import SAMPLE_SOURCES
from pgrelay.demo.promises import NotAsPromised

#: Seconds a daemon keeps its deliveries without a heartbeat: short, for one is killed and its work taken over.
LEASE = 4
#: Waits before the second and the third attempt.
RETRY_SCHEDULE = [1, 1]
_STOP_TIMEOUT = 10.0
_LOOK_EVERY = 0.02
_LOG_LINES = 8

# A program between us and the command, because asyncio has threads and code between fork and exec must not.
# The wish to die with the parent (prctl PR_SET_PDEATHSIG) outlives exec.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.executable, [sys.executable, "-m", "pgrelay", *sys.argv[2:]])
"""


def configuration(dsn: str) -> str:
    """The text of the file: what differs from the defaults, and the sources of config.example.yaml."""
    return f"""\
database:
  dsn: {json.dumps(dsn)}
daemon:
  name: demo
  lease: {LEASE}s
delivery:
  retry_schedule: {RETRY_SCHEDULE}
network:  # the receivers are on this machine
  allow_http: true
  allowed_networks: [127.0.0.0/8]
log:
  format: console
{SAMPLE_SOURCES}"""


class Relay:
    """The commands of pgrelay, and the one daemon.

    Processes are looked at instead of waited for: what asyncio has for it (a thread for each, until Python 3.11)
    complains on standard error when Ctrl-C comes at the wrong moment.
    """

    def __init__(self, directory: Path, dsn: str) -> None:
        self.config = directory / "pgrelay.yaml"
        self.log = directory / "daemon.log"
        self.config.write_text(configuration(dsn))
        self.log.touch()
        self._said = directory / "command.log"
        self._running: Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the daemon; 0 when it was not started."""
        return self._running.pid if self._running else 0

    @property
    def died(self) -> bool:
        """Whether the daemon ended without having been asked to."""
        return self._running is not None and self._running.poll() is not None

    async def command(self, name: str) -> str:
        """Run `pgrelay name` to its end; its summary."""
        with self._said.open("wb") as said:
            process = self._start(name, stdout=DEVNULL, stderr=said)
        try:
            code = await _end_of(process)
        finally:
            _kill(process)
        summary = self._said.read_text(errors="replace")
        if code == -signal.SIGINT:
            # Ctrl-C met it before it had a session of its own; we were met too, and end with this
            await asyncio.sleep(_LOOK_EVERY)
        if code:
            raise NotAsPromised(f"pgrelay {name} ended with exit code {code}", summary)
        return summary.partition("Next:")[0].strip()

    def start(self) -> None:
        """Start the daemon, `pgrelay run`."""
        with self.log.open("ab") as log:
            self._running = self._start("run", stdout=log, stderr=log)

    def kill(self) -> None:
        """End the daemon as a power cut would (SIGKILL). Does nothing when it does not run."""
        if self._running is not None:
            _kill(self._running)
            self._running = None

    async def stop(self) -> None:
        """End the daemon as systemd would (SIGTERM); it leaves in good order."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                code = await _end_of(self._running)
        except TimeoutError:
            message = f"the daemon did not stop within {_STOP_TIMEOUT:.0f} s"
            raise NotAsPromised(message, self.last_lines()) from None
        self._running = None
        if code:
            raise NotAsPromised(f"the daemon stopped with exit code {code}", self.last_lines())

    def last_lines(self) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def _start(self, name: str, *, stdout: int | IO[bytes], stderr: int | IO[bytes]) -> Popen[bytes]:
        command = [name, "--config", str(self.config)]
        return Popen(
            [sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command],
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=_environment(),
            start_new_session=True,
        )


async def _end_of(process: Popen[bytes]) -> int:
    """The exit code, once there is one."""
    while (code := process.poll()) is None:  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(_LOOK_EVERY)
    return code


def _kill(process: Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    """Ours, less what would go before the configuration file, and with this very pgrelay to be imported."""
    ours = {
        key: value for key, value in os.environ.items() if not key.startswith(("PG", "NOTIFY_", "WATCHDOG_"))
    }
    ours.pop("CREDENTIALS_DIRECTORY", None)
    paths = [str(Path(pgrelay.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return ours | {"PYTHONPATH": os.pathsep.join(paths)}
