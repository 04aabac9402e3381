"""Each receiver of docs/verify, started with its real interpreter, takes what is genuine and new, and nothing else.

Requests are signed by the published Standard Webhooks library and by an HMAC of this file's own; none of pgrelay's.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count

import pytest
import standardwebhooks

from docs.receivers import LANGUAGES, Missing, Running, running
from pgrelay.addresses import Policy
from pgrelay.delivery import Claim, Response, Webhook
from pgrelay.request import RequestBuilder
from pgrelay.transport import Transport

#: A short key, and the longest: as a whole string it is longer than a block of SHA-256.
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
LONG_SECRET = "whsec_" + base64.b64encode(bytes(range(192, 256))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret, as long as 32 b.").decode()
#: What is lost when JSON is parsed and written again: spaces, escapes, digits beyond 2^53, an order of keys.
BODY = '{"b": 12345678901234567890,  "a":"\\u00fc ü", "amount":1.10, "empty":""}\n'.encode()

_numbers = count(1)


def new_id() -> str:
    return f"callback_{next(_numbers)}_created_1795480530546000001"


def standard(
    id: str, body: bytes = BODY, *secrets: str, at: float | None = None, shown_id: str | None = None
) -> dict[str, str]:
    """Headers of Standard Webhooks; one signature a secret, each by the published library."""
    at = time.time() if at is None else at
    signatures = [
        standardwebhooks.Webhook(secret).sign(id, datetime.fromtimestamp(at, UTC), body.decode())
        for secret in secrets or (SECRET,)
    ]
    return {
        "webhook-id": shown_id or id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(signatures),
    }


def by_hand(id: str, body: bytes) -> dict[str, str]:
    """The same by an HMAC of our own, for bodies that are no text."""
    timestamp = str(int(time.time()))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = b".".join([id.encode(), timestamp.encode(), body])
    signature = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {"webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature}


def classic(body: bytes, secret: str = LONG_SECRET) -> dict[str, str]:
    return {"X-Webhook-Signature": "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()}


def start(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, secret: str, *, by_classic: bool
) -> Iterator[Running]:
    try:
        with running(request.param, factory.mktemp(request.param), secret, classic=by_classic) as receiver:
            yield receiver
    except Missing as missing:
        pytest.skip(f"receiver in {request.param}: {missing}")


@pytest.fixture(scope="module", params=LANGUAGES)
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from start(request, tmp_path_factory, SECRET, by_classic=False)


@pytest.fixture(scope="module", params=LANGUAGES)
def classic_receiver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    yield from start(request, tmp_path_factory, LONG_SECRET, by_classic=True)


def test_a_genuine_request_is_handled(receiver: Running):
    id = new_id()
    assert receiver.post(BODY, standard(id)) == 204
    assert receiver.next_verdict() == ("handled", id)


def test_the_raw_bytes_are_what_is_verified_even_where_they_are_no_text(receiver: Running):
    body, id = bytes(range(256)) * 40, new_id()
    assert receiver.post(body, by_hand(id, body)) == 204
    assert receiver.next_verdict() == ("handled", id)


def test_the_same_id_again_is_a_duplicate_answered_2xx_and_not_acted_on(receiver: Running):
    id, later = new_id(), new_id()
    first = standard(id, at=time.time() - 60)
    assert [receiver.post(BODY, headers) for headers in (first, first, standard(id))] == [204, 204, 204]
    assert receiver.post(BODY, standard(later)) == 204
    assert [receiver.next_verdict() for _ in range(4)] == [
        ("handled", id),
        ("duplicate", id),
        ("duplicate", id),
        ("handled", later),
    ]


def test_of_many_duplicates_at_once_one_is_acted_on(receiver: Running):
    id = new_id()
    headers = standard(id)
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: receiver.post(BODY, headers), range(8)))
    assert answers == [204] * 8
    verdicts = sorted(receiver.next_verdict() for _ in answers)
    assert verdicts == [("duplicate", id)] * 7 + [("handled", id)]


def test_a_request_with_anything_tampered_with_is_refused(receiver: Running):
    id, now = new_id(), time.time()
    genuine = standard(id, at=now)
    assert receiver.post(BODY.replace(b"1.10", b"1.1"), genuine) == 401
    assert receiver.post(BODY + b" ", genuine) == 401
    assert receiver.post(BODY, standard(id, at=now, shown_id=new_id())) == 401
    assert receiver.post(BODY, genuine | {"webhook-timestamp": str(int(now) + 1)}) == 401
    assert receiver.post(BODY, standard(id, BODY, OTHER_SECRET)) == 401
    assert receiver.post(BODY, genuine | {"webhook-signature": genuine["webhook-signature"][3:]}) == 401
    assert receiver.has_done_nothing_more()


def test_an_old_request_is_refused_although_its_signature_is_right(receiver: Running):
    assert receiver.post(BODY, standard(new_id(), at=time.time() - 330)) == 401
    assert receiver.post(BODY, standard(new_id(), at=time.time() + 330)) == 401
    assert receiver.has_done_nothing_more()
    id = new_id()
    assert receiver.post(BODY, standard(id, at=time.time() - 200)) == 204
    assert receiver.next_verdict() == ("handled", id)


def test_while_a_secret_is_rotated_either_of_the_two_signatures_will_do(receiver: Running):
    ids = [new_id(), new_id(), new_id()]
    assert receiver.post(BODY, standard(ids[0], BODY, OTHER_SECRET, SECRET)) == 204
    assert receiver.post(BODY, standard(ids[1], BODY, SECRET, OTHER_SECRET)) == 204
    unknown_first = standard(ids[2])
    unknown_first["webhook-signature"] = "v1a,of+another/scheme== " + unknown_first["webhook-signature"]
    assert receiver.post(BODY, unknown_first) == 204
    assert [receiver.next_verdict() for _ in ids] == [("handled", id) for id in ids]


def test_a_request_without_one_of_the_headers_is_no_webhook(receiver: Running):
    for missing in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        headers = standard(new_id()) | classic(BODY, SECRET)  # the other signature is no way around this one
        del headers[missing]
        assert receiver.post(BODY, headers) == 400, missing
    assert receiver.has_done_nothing_more()


def test_hostile_headers_are_refused_and_the_receiver_lives_on(receiver: Running):
    hostile = [
        ("webhook-signature", "v1," + "é" * 44),  # as many characters as a signature, but not as many bytes
        ("webhook-signature", "v1,"),
        ("webhook-signature", ","),
        ("webhook-signature", "v1,* /* $(id) `id`"),
        ("webhook-timestamp", "NaN"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "0x69"),
        ("webhook-timestamp", "9" * 40),
        ("webhook-timestamp", "a[$(id)]"),
        ("webhook-id", "%s%n$(id)\\x00"),
    ]
    for name, value in hostile:
        assert receiver.post(BODY, standard(new_id()) | {name: value}) == 401, f"{name}: {value}"
    assert receiver.has_done_nothing_more()
    id = new_id()
    assert receiver.post(BODY, standard(id)) == 204
    assert receiver.next_verdict() == ("handled", id)


def test_a_body_of_more_than_a_mebibyte_is_refused(receiver: Running):
    body = b"x" * ((1 << 20) + 1)
    with suppress(BrokenPipeError, ConnectionResetError):  # it answered without reading on, which is as good
        assert receiver.post(body, by_hand(new_id(), body)) == 413
    assert receiver.has_done_nothing_more()


async def test_what_the_daemon_sends_is_handled_and_its_second_attempt_is_a_duplicate(receiver: Running):
    """Through the room that signs and the transport that sends; in the midst of a rotation, with the old secret."""
    soon = datetime.fromtimestamp(time.time() + 3600, UTC)
    webhook = Webhook(1, 1, "acme", "CRM", receiver.url, OTHER_SECRET, SECRET, soon)
    builder, key = RequestBuilder(webhook, "pgrelay/test"), new_id()
    transport = Transport(Policy.of(["127.0.0.1/32"], allow_http=True), 1000)
    await transport.start()
    try:
        for attempt, verdict in enumerate(["handled", "duplicate"], start=1):
            claim = Claim(1, attempt, 1, 1, 1, attempt, "callback.created", key, BODY, 0.0)
            answer = await transport.send(builder.build(claim, int(time.time())))
            assert isinstance(answer, Response) and answer.status == 204, answer
            assert receiver.next_verdict() == (verdict, key)
    finally:
        await transport.close()


def test_by_the_classic_signature_a_genuine_request_is_handled_once(classic_receiver: Running):
    body = BODY + new_id().encode()
    key = hashlib.sha256(body).hexdigest()
    assert classic_receiver.post(body, classic(body)) == 204
    assert classic_receiver.post(body, classic(body) | {"X-Webhook-Idempotency-Key": "another"}) == 204
    assert [classic_receiver.next_verdict() for _ in range(2)] == [("handled", key), ("duplicate", key)]


def test_by_the_classic_signature_what_is_not_genuine_is_refused(classic_receiver: Running):
    genuine = classic(BODY)
    assert classic_receiver.post(BODY + b" ", genuine) == 401
    assert classic_receiver.post(BODY, classic(BODY, OTHER_SECRET)) == 401
    assert classic_receiver.post(BODY, {"X-Webhook-Signature": "sha256=" + "é" * 64}) == 401
    bare = genuine["X-Webhook-Signature"].removeprefix("sha256=")
    assert classic_receiver.post(BODY, {"X-Webhook-Signature": bare}) == 401
    assert classic_receiver.post(BODY, {}) == 400
    assert classic_receiver.has_done_nothing_more()
