"""`pgrelay top`: what is delivered, what waits and what fails, again and again. Reads the database only."""

import asyncio
import io
import sys
import time
from collections import deque
from datetime import datetime
from typing import Any

from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.cli.text import printable
from pgrelay.cli.top_frame import show
from pgrelay.db import admin_top
from pgrelay.errors import DatabaseUnavailable

#: Rates are of the last so many seconds.
_WINDOW = 10.0
#: Looking may take this part of the time at most: a queue of millions is counted less often.
_SHARE = 0.1
#: Rows of each table where no window limits them.
_ROWS = 10
_MOST_ROWS = 50


async def top(context: Context) -> int:
    out, once = context.out, context.argument("once")
    interval = float(context.argument("interval"))
    rates = Rates()
    if out.json or once or not out.out.isatty() or context.environ.get("TERM") == "dumb":
        async with context.admin() as admin:
            while True:
                figures = rates.added_to(await admin_top.figures(admin, webhooks=_ROWS, failures=_ROWS))
                if out.json:
                    out.line(figures)
                    out.flush()
                else:
                    show(figures, out, rows=None)
                if once or not out.json:
                    return 0
                await asyncio.sleep(interval)
    await _live(context, rates, interval)
    return 0


async def _live(context: Context, rates: "Rates", interval: float) -> None:
    """Draw until told to stop. A database that was there once and is away is waited for."""
    from pgrelay.cli.terminal import Terminal

    out = context.out
    met = False
    async with Terminal(out.out, sys.stdin) as terminal:

        def draw(figures: dict[str, Any]) -> None:
            text = io.StringIO()
            screen = Output(color=out.color, columns=terminal.size.columns, out=text)
            show(figures, screen, rows=terminal.size.lines)
            terminal.draw(text.getvalue().splitlines())

        while not terminal.quit:
            try:
                async with context.admin() as admin:
                    while not terminal.quit:
                        began = time.monotonic()
                        figures = rates.added_to(
                            await admin_top.figures(admin, webhooks=_MOST_ROWS, failures=_MOST_ROWS)
                        )
                        met = True
                        draw(figures)
                        await terminal.pause(max(interval, (time.monotonic() - began) / _SHARE))
            except DatabaseUnavailable as error:
                if not met:
                    raise
                terminal.draw([out.style(f"The database is away: {printable(error.message)}", "red")])
                await terminal.pause(interval)


class Rates:
    """Rates of the last seconds, from readings of counters; of the last minute or two, as long as there is one only."""

    def __init__(self) -> None:
        self._readings: deque[tuple[datetime, dict[str, int]]] = deque()

    def added_to(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures with `rates`: attempts, succeeded and failed, each per second, and the seconds they are of."""
        now, counters = figures["at"], figures.pop("counters")
        self._readings.append((now, counters))
        while (now - self._readings[0][0]).total_seconds() > _WINDOW and len(self._readings) > 2:
            self._readings.popleft()
        began, first = self._readings[0]
        lately = figures["lately"]
        if (seconds := (now - began).total_seconds()) > 0:
            counted = {name: counters[name] - first[name] for name in counters}
        else:
            seconds, counted = lately["seconds"], {name: lately[name] for name in counters}
        # webhooks that are deleted take their counts along
        rates = {name: max(0, number) / seconds for name, number in counted.items()}
        return {**figures, "rates": {"seconds": seconds, **rates}}
