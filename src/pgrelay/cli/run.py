"""`pgrelay run`: the daemon."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from pgrelay.cli.context import Context


def run(context: Context) -> int:
    from pgrelay.daemon import serve

    daemon = serve(context.settings, reload=context.read_settings)
    runner = None if context.argument("no_uvloop") else _uvloop_run()
    return runner(daemon) if runner is not None else asyncio.run(daemon)


def _uvloop_run() -> Callable[[Coroutine[Any, Any, int]], int] | None:
    """uvloop.run where uvloop is installed (the extra `fast`)."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.run
