"""One attempt: build the request, send it, judge what came of it.

Decides nothing of its own: `request` says what is sent, `retry` what its result means. Never raises for what a
receiver or a webhook's settings did; what could not even be built is a failed attempt that says why.
"""

import asyncio
import os
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as json_string
from time import monotonic
from typing import NamedTuple

from pgrelay.delivery import Claim, ErrorKind, Failure, Outcome, Request, Response, Verdict, Webhook
from pgrelay.masking import MASK, mask_url
from pgrelay.payloads import Unrenderable
from pgrelay.request import Answered, RequestBuilder
from pgrelay.retry import Decision, decide, is_success

Send = Callable[[Request, Callable[[], None] | None], Awaitable[Response | Failure]]

#: Characters of an answer that is remembered; there is one for each webhook.
_LONGEST_REMEMBERED = 2048


class RetryPolicy(NamedTuple):
    """What holds for webhooks that say nothing else. Seconds; `jitter` is a fraction."""

    schedule: Sequence[float]
    jitter: float
    max_wait: float


async def attempt(
    claim: Claim,
    webhook: Webhook,
    builder: RequestBuilder,
    policy: RetryPolicy,
    send: Send,
    on_sent: Callable[[], None] | None = None,
) -> Outcome:
    """Make the request of this claim. Being cancelled is an outcome too: the receiver may have got it.

    `on_sent` is called when the request has been written.
    """
    started = monotonic()
    if claim.body is None:
        lost = Failure(ErrorKind.PROTOCOL, "the event is no longer kept: there is no body to send")
        return _outcome(claim, _given_up(lost), started, lost, "{}")
    headers = "{}"
    try:
        request = builder.build(claim, int(time.time()))
        headers = builder.recorded_headers(request)
        result = await send(request, on_sent)
    except asyncio.CancelledError:
        elapsed = monotonic() - started
        result = Failure(ErrorKind.SHUTDOWN, "the daemon stopped before an answer came", elapsed)
    except Unrenderable as error:
        # tried again like any other failure: somebody may mend the template meanwhile
        elapsed = monotonic() - started
        result = Failure(ErrorKind.PAYLOAD, error.message, elapsed)
    except Exception as error:
        # A fault of ours that this webhook brings out. Its deliveries fail where everybody can see it, and no
        # other webhook's do: raising would end the daemon, again and again.
        elapsed = monotonic() - started
        result = Failure(ErrorKind.PROTOCOL, f"pgrelay could not make this request: {_place(error)}", elapsed)
    if isinstance(result, Response) and is_success(result):
        decision = Decision(Verdict.SUCCEEDED, result.status)
    else:
        decision = decide(
            result,
            attempt=claim.attempt,
            max_attempts=webhook.max_retry_attempts,
            schedule=policy.schedule if webhook.retry_schedule is None else webhook.retry_schedule,
            now=datetime.now(UTC),
            jitter_fraction=policy.jitter * random.random() if policy.jitter else 0.0,
            max_wait=policy.max_wait,
        )
    return _outcome(claim, decision, started, result, headers, builder)


def _place(error: Exception) -> str:
    """What went wrong and where, without its text, which may quote a secret."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} ({os.path.basename(frame.filename)}:{frame.lineno})"


def _given_up(failure: Failure) -> Decision:
    return Decision(Verdict.FAILED, None, failure.kind, failure.message)


def _outcome(
    claim: Claim,
    decision: Decision,
    started: float,
    result: Response | Failure,
    request_headers: str,
    builder: RequestBuilder | None = None,
) -> Outcome:
    answer = result if isinstance(result, Response) else None
    message, response_headers, response_body = decision.error_message, None, None
    if answer is not None and builder is not None:
        # whoever may read the record may not call the receiver: what we sent along is taken out, should it echo
        scrubber, same = builder.scrubber, builder.answered
        # most answers are those of before, and the transport gives the same object for the same headers
        if same is None or same.headers is not answer.headers or same.body != answer.body:
            body = scrubber.body(answer.body).decode("utf-8", "replace")
            same = Answered(answer.headers, answer.body, scrubber.text(_recorded(answer)), body)
            if len(same.body) + len(same.recorded_headers) <= _LONGEST_REMEMBERED:
                builder.answered = same
        response_headers, response_body = same.recorded_headers, same.recorded_body
        message = None if message is None else scrubber.text(message)
    return Outcome(
        claim,
        decision.verdict,
        started,
        result.duration,
        decision.status_code,
        decision.error_kind,
        message,
        decision.retry_in,
        decision.hold,
        request_headers,
        response_headers,
        response_body,
        result.requests,
    )


def _recorded(response: Response) -> str:
    """Response headers as JSON text; cookies are credentials, and where a redirect leads may hold some."""
    return (
        "{"
        + ", ".join(
            [
                f"{json_string(name)}: {json_string(_shown(name.lower(), value))}"
                for name, value in response.headers.items()
            ]
        )
        + "}"
    )


def _shown(name: str, value: str) -> str:
    if name == "set-cookie":
        return MASK
    return mask_url(value) if name in ("location", "content-location", "refresh") else value
