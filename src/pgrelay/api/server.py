"""Serves an application at one address, within an event loop that belongs to somebody else."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from pgrelay.errors import Refused

#: Seconds that requests under way get to end.
_SHUTDOWN_SECONDS = 2.0


@contextlib.asynccontextmanager
async def serving(app: web.Application, listen: str) -> AsyncIterator[str]:
    """Serve `app` at `listen` ("HOST:PORT"; port 0 takes a free one) while the block lasts; its URL, without a slash.

    Raises Refused when the address cannot be had.
    """
    host, _, port = listen.rpartition(":")
    # nobody waits for the answer of a client that hung up: its query ends, and its connection is free for others
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handler_cancellation=True
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise Refused(
                f"Cannot listen at {listen}: {error.strerror or error}.",
                "Choose another address for http.listen.",
            ) from None
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
