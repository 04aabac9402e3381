"""One attempt: build the request, send it, judge what came of it.

Decides nothing of its own: `request` says what is sent, `retry` what its result means. Never raises for what a
receiver or a webhook's settings did; what could not even be built is a failed attempt that says why.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pgrelay.delivery import Claim, ErrorKind, Failure, Outcome, Request, Response, Verdict, Webhook
from pgrelay.request import RequestBuilder
from pgrelay.retry import Decision, decide

Send = Callable[[Request], Awaitable[Response | Failure]]


class RetryPolicy(NamedTuple):
    """What holds for webhooks that say nothing else. Seconds; `jitter` is a fraction."""

    schedule: Sequence[float]
    jitter: float
    max_wait: float


async def attempt(
    claim: Claim, webhook: Webhook, builder: RequestBuilder, policy: RetryPolicy, send: Send
) -> Outcome:
    """Make the request of this claim. Being cancelled is an outcome too: the receiver may have got it."""
    started = asyncio.get_running_loop().time()
    if claim.body is None:
        lost = Failure(ErrorKind.PROTOCOL, "the event is no longer kept: there is no body to send")
        return _outcome(claim, _given_up(lost), started, lost, "{}")
    headers = "{}"
    try:
        request = builder.build(claim, int(time.time()))
        headers = builder.recorded_headers(request)
        result = await send(request)
    except asyncio.CancelledError:
        elapsed = asyncio.get_running_loop().time() - started
        result = Failure(ErrorKind.SHUTDOWN, "the daemon stopped before an answer came", elapsed)
    except Exception as error:
        # A fault of ours that this webhook brings out. Its deliveries fail where everybody can see it, and no
        # other webhook's do: raising would end the daemon, again and again.
        message = f"pgrelay could not make this request: {type(error).__name__}: {error}"
        result = Failure(ErrorKind.PROTOCOL, message, asyncio.get_running_loop().time() - started)
    decision = decide(
        result,
        attempt=claim.attempt,
        max_attempts=webhook.max_retry_attempts,
        schedule=policy.schedule if webhook.retry_schedule is None else webhook.retry_schedule,
        now=datetime.now(UTC),
        jitter_fraction=policy.jitter * random.random() if policy.jitter else 0.0,
        max_wait=policy.max_wait,
    )
    return _outcome(claim, decision, started, result, headers)


def _given_up(failure: Failure) -> Decision:
    return Decision(Verdict.FAILED, None, failure.kind, failure.message)


def _outcome(
    claim: Claim, decision: Decision, started: float, result: Response | Failure, request_headers: str
) -> Outcome:
    answered = isinstance(result, Response)
    return Outcome(
        claim,
        decision.verdict,
        started,
        result.duration,
        decision.status_code,
        decision.error_kind,
        decision.error_message,
        decision.retry_in,
        request_headers,
        _recorded(result) if answered else None,
        result.body if answered else None,
    )


def _recorded(response: Response) -> str:
    """Response headers as JSON text; cookies are credentials, so their values are masked."""
    return json.dumps(
        {name: "***" if name.lower() == "set-cookie" else value for name, value in response.headers.items()}
    )
