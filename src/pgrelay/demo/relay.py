"""pgrelay as the demonstration runs it: the real commands, in processes of their own, with a configuration file.

On Linux they are killed when the process that started them ends, however it ends; elsewhere when it ends in
any orderly way. They lead sessions of their own, so that Ctrl-C in a terminal reaches the demonstration alone.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import suppress
from pathlib import Path

import pgrelay
from pgrelay.config.sample_sources import SAMPLE_SOURCES
from pgrelay.demo.promises import NotAsPromised

#: Seconds a daemon keeps its deliveries without a heartbeat: short, for one is killed and its work taken over.
LEASE = 2
#: Waits before the second and the third attempt.
RETRY_SCHEDULE = [1, 1]
_STOP_TIMEOUT = 10.0
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
    """The commands of pgrelay, and the one daemon."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.config = directory / "pgrelay.yaml"
        self.log = directory / "daemon.log"
        self.config.write_text(configuration(dsn))
        self.log.touch()
        self._running: Process | None = None

    @property
    def pid(self) -> int:
        """Of the daemon; 0 when it was not started."""
        return self._running.pid if self._running else 0

    @property
    def died(self) -> bool:
        """Whether the daemon ended without having been asked to."""
        return self._running is not None and self._running.returncode is not None

    async def command(self, *words: str) -> str:
        """Run `pgrelay …` to its end; its summary."""
        process = await self._start(*words, stdout=PIPE, stderr=PIPE)
        try:
            out, said = await process.communicate()
        finally:
            await _killed(process)
        if process.returncode:
            raise NotAsPromised(
                f"pgrelay {words[0]} ended with exit code {process.returncode}", (said or out).decode()
            )
        return said.decode().partition("Next:")[0].strip()

    async def start(self) -> None:
        """Start the daemon, `pgrelay run`."""
        with self.log.open("ab") as log:
            self._running = await self._start("run", stdout=log.fileno(), stderr=STDOUT)

    async def kill(self) -> None:
        """End the daemon as a power cut would (SIGKILL). Does nothing when it does not run."""
        if self._running is not None:
            running, self._running = self._running, None
            await _killed(running)

    async def stop(self) -> None:
        """End the daemon as systemd would (SIGTERM); it leaves in good order."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                code = await self._running.wait()
        except TimeoutError:
            raise NotAsPromised(
                f"the daemon did not stop within {_STOP_TIMEOUT:.0f} s", self.last_lines()
            ) from None
        self._running = None
        if code:
            raise NotAsPromised(f"the daemon stopped with exit code {code}", self.last_lines())

    def last_lines(self) -> str:
        """The end of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    async def _start(self, *words: str, stdout: int, stderr: int) -> Process:
        command = [*words, "--config", str(self.config)]
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _LEASH, str(os.getpid()), *command,
            stdin=DEVNULL, stdout=stdout, stderr=stderr, env=_environment(), start_new_session=True,
        )  # fmt: skip


async def _killed(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _environment() -> dict[str, str]:
    """Ours, less what would go before the configuration file, and with this very pgrelay to be imported."""
    ours = {
        key: value for key, value in os.environ.items() if not key.startswith(("PG", "NOTIFY_", "WATCHDOG_"))
    }
    ours.pop("CREDENTIALS_DIRECTORY", None)
    paths = [str(Path(pgrelay.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return ours | {"PYTHONPATH": os.pathsep.join(paths)}
