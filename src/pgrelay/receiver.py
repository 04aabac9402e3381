"""A local receiver of webhooks: verifies what arrives, tells about it, and answers as it is told.

For `pgrelay listen`, the demonstration and tests. It decides nothing but whether a request is genuine, which
`signing` knows; it keeps nothing. Not meant to face the internet.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from pgrelay.errors import Refused
from pgrelay.request import ATTEMPT_HEADER, EVENT_HEADER, KEY_HEADER
from pgrelay.signing import Verification, examine

#: A larger request is answered with 413 and not told about.
MAX_BODY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it arrived."""

    method: str
    #: Path and query, exactly as sent.
    target: str
    #: Names as sent; looked up without regard to case.
    headers: Mapping[str, str]
    body: bytes
    arrived_at: datetime
    #: Whether it is genuine; None if the receiver has no secret to tell by.
    verification: Verification | None
    #: What the headers say of it; None where they say nothing, or nothing that can be read.
    event: str | None
    idempotency_key: str | None
    attempt: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer, and after how many seconds."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


def honest(received: Received) -> Answer:
    """200, or 401 with the reason for what is not genuine."""
    if received.verification is None or received.verification:
        return Answer()
    return Answer(401, received.verification.reason.encode(), {"Content-Type": "text/plain; charset=utf-8"})


class Receiver:
    """Listens from `start` to `stop`. Any method and any path is a webhook to it.

    A request is genuine if it is by one of `secrets`. `tell` is called with each request before it is answered,
    and `answer` says with what.
    """

    def __init__(
        self,
        secrets: Sequence[str] = (),
        *,
        tell: Callable[[Received], None] = lambda received: None,
        answer: Callable[[Received], Answer] = honest,
    ) -> None:
        self._secrets = tuple(secrets)
        self._tell = tell
        self._answer = answer
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, on a free port if it is 0. The URL to send to, without a path. Refused if the port is taken."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._receive)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise Refused(
                f"cannot listen on {host}, port {port}: {reason}", "Port 0 takes any free one."
            ) from error
        self._runner = runner
        return f"http://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Listen no more. Requests under way get a second to end."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        arrived_at = datetime.now(UTC)
        headers = request.headers
        received = Received(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            body=body,
            arrived_at=arrived_at,
            verification=self._verify(body, headers, arrived_at.timestamp()),
            event=headers.get(EVENT_HEADER),
            idempotency_key=headers.get(KEY_HEADER),
            attempt=_number(headers.get(ATTEMPT_HEADER, "")),
        )
        self._tell(received)
        answer = self._answer(received)
        if answer.delay > 0:
            await asyncio.sleep(answer.delay)
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    def _verify(self, body: bytes, headers: Mapping[str, str], now: float) -> Verification | None:
        """By the first secret that fits; the reason of the first one if none does."""
        found = [examine(body, headers, secret, now=now) for secret in self._secrets]
        return next((each for each in found if each), found[0] if found else None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None
