"""One attempt: whatever comes of it is an outcome, and none of it ends the daemon."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.attempt import RetryPolicy, attempt
from pgrelay.delivery import Claim, ErrorKind, Failure, Outcome, Request, Response, Verdict, Webhook
from pgrelay.request import RequestBuilder
from support.factories import SECRET, claim, webhook

POLICY = RetryPolicy(schedule=(60.0, 120.0), jitter=0.0, max_wait=86_400.0)


async def outcome_of(
    result: Response | Failure | Exception, of: Claim | None = None, to: Webhook | None = None
) -> Outcome:
    async def send(_: Request, __: object = None) -> Response | Failure:
        if isinstance(result, Exception):
            raise result
        return result

    to = webhook() if to is None else to
    return await attempt(claim() if of is None else of, to, RequestBuilder(to, "pgrelay/test"), POLICY, send)


async def test_an_answer_is_recorded_with_its_headers_but_not_with_its_cookies():
    answer = Response(200, {"Content-Type": "text/plain", "Set-Cookie": "session=abc"}, b"ok", 0.25)
    made = await outcome_of(answer)
    assert (made.verdict, made.status_code, made.duration, made.response_body) == (
        Verdict.SUCCEEDED,
        200,
        0.25,
        "ok",
    )
    assert json.loads(made.response_headers or "") == {"Content-Type": "text/plain", "Set-Cookie": "***"}
    assert SECRET not in made.request_headers and '"***"' not in made.request_headers


async def test_a_failure_is_tried_again_by_the_schedule_of_the_configuration_or_by_the_webhooks_own():
    refused = Failure(ErrorKind.CONNECT, "connection refused", 0.01)
    assert (await outcome_of(refused)).retry_in == 60.0
    assert (await outcome_of(refused, claim(attempt=2))).retry_in == 120.0
    assert (await outcome_of(refused, to=webhook(retry_schedule=(5.0,)))).retry_in == 5.0


async def test_the_last_attempt_is_the_last():
    made = await outcome_of(Failure(ErrorKind.TIMEOUT, "no answer"), claim(attempt=3))
    assert (made.verdict, made.error_kind, made.retry_in) == (Verdict.FAILED, ErrorKind.TIMEOUT, None)


async def test_an_event_that_is_no_longer_kept_fails_for_good_without_a_request():
    made = await outcome_of(RuntimeError("never sent"), claim(body=None))
    assert (made.verdict, made.error_kind) == (Verdict.FAILED, ErrorKind.PROTOCOL)
    assert "no body" in (made.error_message or "")


async def test_a_fault_of_ours_fails_this_attempt_and_says_where_but_not_what():
    made = await outcome_of(ValueError(f"cannot use {SECRET}"))
    assert (made.verdict, made.error_kind) == (Verdict.RETRY, ErrorKind.PROTOCOL)
    assert "ValueError (test_attempt.py:" in (made.error_message or "")
    assert SECRET not in str(made)


async def test_a_request_that_is_cut_off_counts_for_the_receiver_may_have_got_it():
    begun = asyncio.Event()

    async def send(_: Request, __: object = None) -> Response | Failure:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    to = webhook()
    running = asyncio.create_task(attempt(claim(), to, RequestBuilder(to, "pgrelay/test"), POLICY, send))
    await begun.wait()
    running.cancel()
    made = await running
    assert (made.verdict, made.error_kind, made.retry_in) == (Verdict.RETRY, ErrorKind.SHUTDOWN, 60.0)
    assert made.request_headers != "{}"


@pytest.mark.parametrize("jitter", [0.0, 0.5])
async def test_jitter_only_lengthens_waits(jitter: float):
    async def send(_: Request, __: object = None) -> Response | Failure:
        return Failure(ErrorKind.CONNECT, "connection refused")

    to = webhook()
    policy = POLICY._replace(jitter=jitter)
    waits = [
        (await attempt(claim(), to, RequestBuilder(to, "pgrelay/test"), policy, send)).retry_in or 0.0
        for _ in range(50)
    ]
    assert all(60.0 <= wait <= 60.0 * (1 + jitter) for wait in waits)
    assert (len(set(waits)) > 1) == (jitter > 0)


PLAIN, ECHOING = {"Server": "one"}, {"Server": "two", "X-Echo": SECRET}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([PLAIN, ECHOING]), st.sampled_from([b"", b"ok", SECRET.encode(), b"x" * 5_000])
        ),
        max_size=8,
    )
)
def test_each_answer_is_recorded_as_it_was_whatever_came_before_it(
    answers: list[tuple[dict[str, str], bytes]],
):
    async def ask() -> None:
        to = webhook()
        builder = RequestBuilder(to, "pgrelay/test")
        for headers, body in answers:

            async def send(
                _: Request, __: object = None, headers: dict[str, str] = headers, body: bytes = body
            ) -> Response | Failure:
                return Response(200, headers, body, 0.1)

            made = await attempt(claim(), to, builder, POLICY, send)
            assert made.response_body == body.decode().replace(SECRET, "***")
            assert json.loads(made.response_headers or "") == {
                name: value.replace(SECRET, "***") for name, value in headers.items()
            }
            # there may be thousands of webhooks: long answers are not kept
            assert builder.answered is None or len(builder.answered.body) < 5_000

    asyncio.run(ask())
