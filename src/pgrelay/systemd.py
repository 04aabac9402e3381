"""What a service tells systemd, and what systemd tells a service (sd_notify(3), systemd.exec(5)).

Without systemd everything here does nothing, so nobody has to ask. Telling never fails and never waits: a
message that cannot be sent at once is dropped, for a daemon must not stop because its supervisor is slow.
Durations are seconds.
"""

import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

#: systemd ends the service if it hears nothing for the watchdog's time: it hears from us this often within it.
_BEATS = 2.0


class Notifier:
    """Tells systemd how the service fares. Made from the environment that systemd gave this process."""

    __slots__ = ("_address", "_socket", "watchdog_interval")

    #: How often to call `watchdog()`; None when systemd does not wait for it.
    watchdog_interval: float | None

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.watchdog_interval = _watchdog_interval(environ)
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self) -> bool:
        """Started, or done with reloading."""
        return self._tell("READY=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._tell(f"STATUS={' '.join(text.split())}")

    def reloading(self) -> bool:
        """The configuration is being read again; `ready()` ends it."""
        # systemd tells this reload from an earlier one by the time, which is that of its own clock.
        return self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> bool:
        """On the way out."""
        return self._tell("STOPPING=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Starting or stopping will take so much longer, from now."""
        return self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def watchdog(self) -> bool:
        """Still alive."""
        return self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> bool:
        """True if it was sent."""
        if self._socket is None or self._address is None:
            return False
        try:
            # The address each time, not once by connect(): systemd makes a new socket when it executes itself anew.
            self._socket.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            return False
        return True


def credentials_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where systemd put the credentials of this service (LoadCredential=); None without any."""
    environ = os.environ if environ is None else environ
    directory = environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def _address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]  # the abstract namespace of Linux
    # Anything else, such as vsock: from a virtual machine, is not spoken here.
    return name if name.startswith("/") else None


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return None  # meant for the process that started us
    if not re.fullmatch("[0-9]{1,18}", microseconds) or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000 / _BEATS
