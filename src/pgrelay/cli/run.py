"""`pgrelay run`: the daemon, or several of them."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pgrelay.cli.context import Context
from pgrelay.config import Settings


def run(context: Context) -> int:
    if context.argument("processes") > 1:
        return asyncio.run(_supervise(context))
    number = context.argument("process")
    daemon = _serve(context, number)
    runner = None if context.argument("no_uvloop") else _uvloop_run()
    return runner(daemon) if runner is not None else asyncio.run(daemon)


async def _serve(context: Context, number: int | None) -> int:
    from pgrelay.daemon import serve

    if number is None:
        return await serve(context.settings, reload=context.read_settings)
    return await serve(
        _of_process(context.settings, number),
        reload=lambda: _of_process(context.read_settings(), number),
        is_child=True,
    )


async def _supervise(context: Context) -> int:
    from pgrelay.logs import configure, log_observation
    from pgrelay.supervisor import Supervisor

    log = context.settings.log
    configure(log.level, log.format, sys.stdout)
    supervisor = Supervisor(
        context.argument("processes"),
        lambda number: _command(context, number),
        context.environ,
        observe=log_observation,
    )
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    return await supervisor.run()


def _command(context: Context, number: int) -> list[str]:
    """The command line of one process."""
    words = [sys.executable, "-m", "pgrelay"]
    if context.arguments.config is not None:
        words += ["--config", str(context.arguments.config)]
    words += ["run", "--process", str(number)]
    return [*words, "--no-uvloop"] if context.argument("no_uvloop") else words


def _of_process(settings: Settings, number: int) -> Settings:
    """The settings of one of several: a name and a port of its own."""
    changed: dict[str, Any] = {"daemon.name": f"{settings.daemon.name}-{number}"}
    if settings.http.listen is not None:
        host, _, port = settings.http.listen.rpartition(":")
        # port 0 takes a free one, each another
        changed["http.listen"] = f"{host}:{int(port) + number - 1 if int(port) else 0}"
    return settings.with_values(changed)


def _uvloop_run() -> Callable[[Coroutine[Any, Any, int]], int] | None:
    """uvloop.run where uvloop is installed (the extra `fast`)."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.run
