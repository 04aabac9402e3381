"""The receivers of the demonstration: each stands behind one webhook, verifies what arrives, and plays its part.

A request is genuine here only if both its signatures are. Times are seconds since the epoch.
"""

import json
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from pgrelay.receiver import Answer, Received, Receiver
from pgrelay.signing import Scheme, examine

HOST = "127.0.0.1"


class Arrival(NamedTuple):
    """One request that reached a receiver, and what was answered."""

    hook: str
    event_type: str
    key: str
    #: Of the resource in the body; empty for a test event, which has none.
    resource_id: str
    company_id: str
    attempt: int
    status: int
    body: bytes
    at: float
    #: Why it must not be believed; empty if it is genuine.
    problem: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


class Hook:
    """One webhook and its receiver, which refuses connections until it is opened."""

    def __init__(
        self,
        name: str,
        company_id: str,
        events: str,
        *,
        tell: Callable[[Arrival], None],
        fails_first: bool = False,
    ) -> None:
        self.name = name
        self.company_id = company_id
        #: As an array literal of Postgres.
        self.events = events
        #: Answers 500 to every first attempt.
        self.fails_first = fails_first
        #: Seconds it takes for an answer.
        self.delay = 0.0
        #: Known once the row is written, as are these two.
        self.secret = ""
        self.id = 0
        self._tell = tell
        self._receiver: Receiver | None = None
        # Bound but not listening: connections are refused, and nobody else gets the port.
        self._reserved = socket.socket()
        self._reserved.bind((HOST, 0))
        self._port: int = self._reserved.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}/"

    async def open(self) -> None:
        """Listen from now on."""
        self._reserved.close()
        self._receiver = Receiver([self.secret], answer=self._answer)
        await self._receiver.start(HOST, self._port)

    async def close(self) -> None:
        """Listen no more."""
        self._reserved.close()
        if self._receiver is not None:
            await self._receiver.stop()

    def _answer(self, received: Received) -> Answer:
        problem = self._problem(received)
        status = 401 if problem else 500 if self.fails_first and received.attempt == 1 else 200
        resource = _resource(received.body)
        self._tell(
            Arrival(
                hook=self.name,
                event_type=received.event or "",
                key=received.idempotency_key or "",
                resource_id=str(resource.get("id", "")),
                company_id=str(resource.get("company_id", "")),
                attempt=received.attempt or 0,
                status=status,
                body=received.body,
                at=received.arrived_at.timestamp(),
                problem=problem,
            )
        )
        return Answer(status, problem.encode(), delay=self.delay)

    def _problem(self, received: Received) -> str:
        now = received.arrived_at.timestamp()
        found = [
            examine(received.body, received.headers, self.secret, now=now, require=scheme)
            for scheme in (Scheme.STANDARD, Scheme.CLASSIC)
        ]
        return next((each.reason for each in found if not each), "")


def _resource(body: bytes) -> dict[str, Any]:
    """The object that the event is about."""
    data = json.loads(body).get("data", {})
    found: dict[str, Any] = next(iter(data.values()), {})
    return found
