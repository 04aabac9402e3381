"""`python over_aiohttp.py ARGUMENT …`: the command pgrelay, with an aiohttp session in the place of its HTTP client.

All else of the daemon is as it is, so that what it adds to a client can be told apart from what the client costs. It
does what a benchmark needs: post, and read an answer.
"""

import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import aiohttp
from poster import client

import pgrelay.daemon
from pgrelay.cli.main import main
from pgrelay.delivery import Failure, Request, Response


class Session:
    """In the place of pgrelay.transport.Transport."""

    def __init__(
        self, policy: object, max_response_bytes: int, *, tls: ssl.SSLContext, proxy: object
    ) -> None:
        self._tls = tls
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession | None = None
        self._heads: dict[Any, Mapping[str, str]] = {}

    async def start(self) -> None:
        self._session = await self._stack.enter_async_context(client(self._tls))

    async def close(self) -> None:
        await self._stack.aclose()

    async def send(self, request: Request, on_sent: Callable[[], None] | None = None) -> Response | Failure:
        assert self._session is not None
        began = monotonic()
        async with self._session.post(
            request.url, data=request.body, headers=request.headers, allow_redirects=False
        ) as answer:
            body = await answer.read()
        # as the daemon's own client does it: the same object for the same headers
        headers = self._heads.setdefault(answer.raw_headers, answer.headers)
        return Response(answer.status, headers, body, monotonic() - began)


if __name__ == "__main__":
    pgrelay.daemon.Transport = Session  # type: ignore[misc, assignment]
    sys.exit(main(sys.argv[1:]))
