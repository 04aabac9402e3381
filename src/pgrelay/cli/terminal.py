"""A terminal taken over for a while: a screen of its own, keys without Enter, and everything as before afterwards.

Standard library only. Lines too long for the screen are cut by the terminal itself, escape sequences and all.
"""

import asyncio
import contextlib
import os
import signal
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TextIO

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the alternate screen, no cursor, no line wrap
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_QUIT_KEYS = frozenset(
    "qQ\x03\x04"
)  # Ctrl-C and Ctrl-D too, where the terminal does not make signals of them


class Terminal:
    """`async with` a terminal; `draw` lines, `pause` until it is time to draw again. Keys may come from nowhere."""

    def __init__(self, out: TextIO, keys: TextIO | None) -> None:
        self._out = out
        self._keys = keys.fileno() if keys is not None and keys.isatty() else None
        self._saved: list[Any] = []
        self._woken = asyncio.Event()
        self.quit = False

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines as they are now; some terminals do not know."""
        size = os.get_terminal_size(self._out.fileno())
        return os.terminal_size((size.columns or 80, size.lines or 24))

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGWINCH, self._woken.set)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        if self._keys is not None:
            self._saved = termios.tcgetattr(self._keys)
            loop.add_reader(self._keys, self._read)
        self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            loop.remove_reader(self._keys)
        self._leave()
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGWINCH", "SIGTSTP"):
            loop.remove_signal_handler(getattr(signal, name))

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is on the screen; lines below its end are left out."""
        try:
            shown = "\x1b[K\n".join(lines[: self.size.lines])
            self._out.write(f"\x1b[H{shown}\x1b[K\x1b[J")
            self._out.flush()
        except OSError:  # the window was closed
            self._stop()

    async def pause(self, seconds: float) -> None:
        """Until so many seconds are over, a key is pressed, or the window has another size."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    def _enter(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)
        self._out.write(_ENTER)
        self._out.flush()

    def _leave(self) -> None:
        with contextlib.suppress(OSError):  # the window may be closed
            self._out.write(_LEAVE)
            self._out.flush()
            if self._keys is not None:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._saved)

    def _read(self) -> None:
        try:
            pressed = os.read(self._keys or 0, 1024).decode(errors="replace")
        except OSError:
            pressed = ""
        if not pressed or _QUIT_KEYS & set(pressed):
            self._stop()
        self._woken.set()

    def _stop(self) -> None:
        self.quit = True
        self._woken.set()

    def _suspend(self) -> None:
        """Ctrl-Z: the shell gets its terminal back, and `fg` goes on here."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()
        self._woken.set()
