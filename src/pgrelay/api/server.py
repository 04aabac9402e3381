"""Serves an application at one address, within an event loop that belongs to somebody else.

What is no HTTP never reaches the application; it is answered here, in the same form as all that is wrong.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pgrelay.api.problems import Problem
from pgrelay.api.serve import SECURITY, as_json
from pgrelay.errors import Refused

#: Seconds that requests under way get to end.
_SHUTDOWN_SECONDS = 2.0


@contextlib.asynccontextmanager
async def serving(app: web.Application, listen: str) -> AsyncIterator[str]:
    """Serve `app` at `listen` ("HOST:PORT"; port 0 takes a free one) while the block lasts; its URL, without a slash.

    Raises Refused when the address cannot be had.
    """
    host, _, port = listen.rpartition(":")
    loop = asyncio.get_running_loop()
    no_log: Any = None  # of requests; the type does not say that it may be left out
    # nobody waits for the answer of a client that hung up: its query ends, and its connection is free for others
    runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_SECONDS, handler_cancellation=True)
    await runner.setup()
    listening = None
    try:
        server = runner.server
        assert server is not None
        try:
            listening = await loop.create_server(
                lambda: _Handler(server, loop=loop, access_log=no_log), host.strip("[]"), int(port)
            )
        except OSError as error:
            raise Refused(
                f"Cannot listen at {listen}: {error.strerror or error}.",
                "Choose another address for http.listen.",
            ) from None
        yield f"http://{host}:{listening.sockets[0].getsockname()[1]}"
    finally:
        if listening is not None:
            listening.close()
        await runner.cleanup()


class _Handler(web.RequestHandler):
    """aiohttp's side of one connection. On its own it answers what it cannot read as text, and logs a traceback."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        response = as_json(_unread(exc, message))
        response.headers.update(SECURITY)
        response.force_close()
        return response


def _unread(error: BaseException | None, message: str | None) -> Problem:
    """A request that is no HTTP. What it said is not repeated."""
    if isinstance(error, LineTooLong):
        return Problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header-too-large",
            "the request line and each header have at most 8190 bytes",
        )
    said = (message or "").partition("\n")[0].rstrip(":. ") or "it cannot be read"
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-request", f"this is not HTTP/1.1: {said}")
