"""What a peer's worker does with a job: POST its body, with the signature and headers that the daemon would send."""

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from world import SECRET

from pgrelay.config.settings import DeliverySettings
from pgrelay.delivery import Claim, Request, Webhook
from pgrelay.request import RequestBuilder

Send = Callable[[Request], Awaitable[int]]
#: A job's id, of which the idempotency key is made, and its body. RuntimeError when the receiver did not want it.
Post = Callable[[int, bytes], Awaitable[None]]


def request_builder(url: str) -> RequestBuilder:
    """Builds and signs requests to this URL."""
    webhook = Webhook(1, 1, "1", "benchmark", url, SECRET, None, None)
    return RequestBuilder(webhook, DeliverySettings().user_agent)


@asynccontextmanager
async def session(tls: ssl.SSLContext | bool = True) -> AsyncIterator[Send]:
    """Sends a request and gives the status of the answer: an aiohttp session, as fast as one can be had."""
    connector = aiohttp.TCPConnector(limit=0, ssl=tls)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def send(request: Request) -> int:
            async with client.post(
                request.url, data=request.body, headers=request.headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status

        yield send


@asynccontextmanager
async def posting(url: str) -> AsyncIterator[Post]:
    """Posts the body of a job; prints the time (of day, in seconds) at which the first one began."""
    builder = request_builder(url)
    began = False
    async with session() as send:

        async def post(job_id: int, body: bytes) -> None:
            nonlocal began
            if not began:
                began = True
                print(time.time(), flush=True)
            claim = Claim(job_id, 1, 1, 1, job_id, 1, "callback.created", f"job_{job_id}", body, 0.0)
            status = await send(builder.build(claim, int(time.time())))
            if status != 200:
                raise RuntimeError(f"the receiver answered {status}")

        yield post
