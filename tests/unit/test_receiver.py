"""The local receiver: what it makes of requests, and how it answers. Requests come from our own transport."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook as StandardWebhook

from pgrelay import receiver
from pgrelay.delivery import Claim, ErrorKind, Failure, Request, Response, Webhook
from pgrelay.errors import Refused
from pgrelay.receiver import Answer, Received, Receiver, honest
from pgrelay.request import RequestBuilder
from pgrelay.signing import Scheme
from support.sending import transport

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CLAIM = Claim(1, 1, 1, 1, 1, 2, "callback.created", "callback_123_created_1", b'{"test": 2432232314}', 0.0)


@asynccontextmanager
async def listening(
    secrets: tuple[str, ...] = (SECRET,), answer: Callable[[Received], Answer] = honest
) -> AsyncIterator[tuple[str, list[Received]]]:
    """A running receiver: its URL, and what it tells."""
    told: list[Received] = []
    made = Receiver(secrets, tell=told.append, answer=answer)
    url = await made.start()
    try:
        yield url, told
    finally:
        await made.stop()


def signed(
    url: str, secret: str = SECRET, *, at: float | None = None, previous: str | None = None
) -> Request:
    """What the daemon sends."""
    until = None if previous is None else datetime.now(UTC) + timedelta(days=1)
    webhook = Webhook(1, 1, "acme", "crm", f"{url}/hook?a=%7e", secret, previous, until, {"X-Own": "1"})
    return RequestBuilder(webhook, "pgrelay/test").build(CLAIM, int(time.time() if at is None else at))


async def send(request: Request) -> Response | Failure:
    async with transport() as sender:
        return await sender.send(request)


async def test_a_genuine_request_is_told_as_it_came_and_answered_with_200():
    before = datetime.now(UTC)
    async with listening() as (url, told):
        result = await send(signed(url))
    assert isinstance(result, Response)
    assert (result.status, result.body) == (200, b"")
    [received] = told
    assert (received.method, received.target, received.body) == ("POST", "/hook?a=%7e", CLAIM.body)
    assert (received.event, received.idempotency_key) == ("callback.created", "callback_123_created_1")
    assert received.attempt == 2
    assert received.headers["x-own"] == "1"
    assert before <= received.arrived_at <= datetime.now(UTC)
    assert received.verification is not None
    assert received.verification.scheme is Scheme.STANDARD
    # What it calls genuine, the published library does too.
    assert StandardWebhook(SECRET).verify(received.body, dict(received.headers)) == {"test": 2432232314}


async def test_a_forged_request_is_told_and_refused_with_the_reason():
    async with listening() as (url, told):
        result = await send(signed(url)._replace(body=b'{"test": 1}'))
    assert isinstance(result, Response)
    assert result.status == 401
    assert b"webhook-signature holds no v1 signature of this body" in result.body
    assert told[0].verification is not None
    assert not told[0].verification


async def test_an_old_request_is_refused():
    async with listening() as (url, _):
        result = await send(signed(url, at=time.time() - 600))
    assert isinstance(result, Response)
    assert result.status == 401
    assert b"s old" in result.body


async def test_a_secret_that_serves_the_classic_scheme_only_is_verified_by_that():
    async with listening(("an old secret",)) as (url, told):
        await send(signed(url, "an old secret"))
    assert told[0].verification is not None
    assert told[0].verification.scheme is Scheme.CLASSIC


async def test_any_of_several_secrets_makes_a_request_genuine():
    async with listening((OTHER, SECRET)) as (url, told):
        await send(signed(url))
        await send(signed(url, OTHER))
        await send(signed(url, "another one"))
    assert [bool(received.verification) for received in told] == [True, True, False]


async def test_while_a_secret_is_rotated_the_old_one_still_verifies():
    async with listening((OTHER,)) as (url, told):
        await send(signed(url, SECRET, previous=OTHER))
    assert told[0].verification


async def test_without_a_secret_nothing_is_verified_and_all_is_accepted():
    async with listening(()) as (url, told):
        result = await send(signed(url))
    assert isinstance(result, Response)
    assert (result.status, told[0].verification) == (200, None)


@pytest.mark.parametrize("attempt", ["", "second", "-1", "²", "9" * 5000])
async def test_headers_that_say_nothing_are_nothing(attempt):
    async with listening() as (url, told):
        headers = {"X-Webhook-Delivery-Attempt": attempt.encode().decode("latin-1")}
        await send(Request(f"{url}/", headers, b"", 5.0))
    assert (told[0].event, told[0].idempotency_key, told[0].attempt) == (None, None, None)


async def test_it_answers_what_it_is_told_to_for_each_request():
    answers = [Answer(503, b"later", {"Retry-After": "7"}), Answer(204)]
    async with listening(answer=lambda received: answers.pop(0)) as (url, _):
        first, second = await send(signed(url)), await send(signed(url))
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert (first.status, first.body, first.headers["Retry-After"]) == (503, b"later", "7")
    assert second.status == 204


async def test_a_delay_holds_the_answer_back_but_not_the_news():
    async with listening(answer=lambda received: Answer(delay=60.0)) as (url, told):
        result = await send(signed(url)._replace(timeout_seconds=0.2))
        assert len(told) == 1
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TIMEOUT


async def test_a_body_of_some_megabytes_is_taken_and_one_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(receiver, "MAX_BODY_BYTES", 5_000_000)
    async with listening(()) as (url, told):
        taken = await send(Request(f"{url}/", {}, b"x" * 4_000_000, 30.0))
        refused = await send(Request(f"{url}/", {}, b"x" * 6_000_000, 30.0))
    assert isinstance(taken, Response)
    assert (taken.status, len(told[0].body)) == (200, 4_000_000)
    # Refused while the rest is still on its way: the sender may see the answer, or its connection break.
    assert not (isinstance(refused, Response) and refused.status != 413)
    assert len(told) == 1


async def test_a_port_that_is_taken_is_refused_with_a_reason():
    async with listening() as (url, _):
        port = int(url.rsplit(":", 1)[1])
        with pytest.raises(Refused, match=f"127.0.0.1, port {port}: Address already in use"):
            await Receiver().start(port=port)


async def test_once_stopped_it_can_be_started_again_on_the_same_port():
    told: list[Received] = []
    made = Receiver(tell=told.append)
    url = await made.start()
    await made.stop()
    assert isinstance(await send(signed(url)), Failure)
    assert await made.start(port=int(url.rsplit(":", 1)[1])) == url
    assert isinstance(await send(signed(url)), Response)
    await made.stop()
    await made.stop()
    assert len(told) == 1


async def test_many_requests_at_once_are_each_told_once():
    async with listening() as (url, told), transport() as sender:
        await asyncio.gather(*[sender.send(signed(url)._replace(timeout_seconds=60.0)) for _ in range(200)])
    assert len(told) == 200
    assert all(received.verification for received in told)
