"""What goes over the wire for a claim, and what of it is recorded and shown."""

import json
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

from pgrelay.delivery import Claim, Request, Webhook
from pgrelay.request import RESERVED_HEADERS, RequestBuilder
from pgrelay.signing import Scheme, classic_signature, generate_secret, standard_signature, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = generate_secret(b"the secret before this one")
BODY = b'{"event": "callback.created"}'
KEY = "callback_123_created_00000042"
NOW = 1_700_000_000
AGENT = "pgrelay/0.1.0"

names = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
values = st.text("".join(map(chr, [9, *range(0x20, 0x7F), *range(0xA0, 0x100)])), max_size=40)


def a_webhook(**changes) -> Webhook:
    fields = {
        "id": 7,
        "version": 1,
        "company_id": "acme",
        "name": "CRM",
        "url": "https://example.com/hooks?token=abc",
        "secret_key": SECRET,
        "previous_secret_key": None,
        "previous_secret_expires_at": None,
    }
    return Webhook(**{**fields, **changes})


def a_claim(**changes) -> Claim:
    claim = Claim(1, 1, 7, 1, 3, 1, "callback.created", KEY, BODY, 0.5)
    return claim._replace(**changes)


def build(claim=None, timestamp=NOW, **webhook) -> Request:
    return RequestBuilder(a_webhook(**webhook), AGENT).build(claim or a_claim(), timestamp)


def recorded(claim=None, timestamp=NOW, **webhook) -> dict[str, str]:
    builder = RequestBuilder(a_webhook(**webhook), AGENT)
    return json.loads(builder.recorded_headers(builder.build(claim or a_claim(), timestamp)))


def test_a_request_carries_exactly_these_headers():
    request = build(a_claim(attempt=2), headers={"Authorization": "Bearer token"})
    assert request == Request(
        url="https://example.com/hooks?token=abc",
        headers={
            "Content-Type": "application/json",
            "User-Agent": AGENT,
            "X-Webhook-Signature": classic_signature(SECRET, BODY),
            "X-Webhook-Event": "callback.created",
            "X-Webhook-Idempotency-Key": KEY,
            "X-Webhook-Delivery-Attempt": "2",
            "webhook-id": KEY,
            "webhook-timestamp": str(NOW),
            "webhook-signature": standard_signature(SECRET, KEY, NOW, BODY),
            "Authorization": "Bearer token",
        },
        body=BODY,
        timeout_seconds=10.0,
    )


def test_the_webhooks_timeout_is_the_requests():
    assert build(timeout_seconds=3.5).timeout_seconds == 3.5


@given(st.binary(max_size=200))
def test_the_body_goes_out_byte_for_byte(body):
    assert build(a_claim(body=body)).body is body


def test_another_attempt_has_the_same_id_and_a_signature_of_its_own_time():
    first, second = build(), build(a_claim(attempt=2), NOW + 60)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["X-Webhook-Signature"] == second.headers["X-Webhook-Signature"]
    assert second.headers["webhook-signature"] == standard_signature(SECRET, KEY, NOW + 60, BODY)


def test_the_published_library_verifies_a_built_request_under_either_secret_of_a_rotation():
    now = datetime.now(UTC)
    request = build(
        timestamp=int(now.timestamp()),
        previous_secret_key=OLD_SECRET,
        previous_secret_expires_at=now + timedelta(hours=1),
    )
    for secret in (SECRET, OLD_SECRET):
        standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))


@pytest.mark.parametrize(("timestamp", "both"), [(NOW - 1, True), (NOW, False), (NOW + 1, False)])
def test_the_previous_secret_signs_until_it_expires(timestamp, both):
    rotation = {
        "previous_secret_key": OLD_SECRET,
        "previous_secret_expires_at": datetime.fromtimestamp(NOW, UTC),
    }
    expected = standard_signature(SECRET, KEY, timestamp, BODY)
    if both:
        expected += " " + standard_signature(OLD_SECRET, KEY, timestamp, BODY)
    headers = build(timestamp=timestamp, **rotation).headers
    assert headers["webhook-signature"] == expected
    assert headers["X-Webhook-Signature"] == classic_signature(SECRET, BODY)
    assert recorded(timestamp=timestamp, **rotation)["webhook-signature"] == (
        "v1,*** v1,***" if both else "v1,***"
    )


def test_a_previous_secret_without_an_end_does_not_sign():
    headers = build(previous_secret_key=OLD_SECRET).headers
    assert headers["webhook-signature"] == standard_signature(SECRET, KEY, NOW, BODY)


def test_a_secret_that_serves_the_classic_scheme_only_leaves_the_standard_signature_out():
    request = build(secret_key="not-a-standard-secret")
    assert "webhook-signature" not in request.headers
    assert "webhook-signature" not in recorded(secret_key="not-a-standard-secret")
    assert verify(BODY, request.headers, "not-a-standard-secret", now=NOW) is Scheme.CLASSIC


@given(st.sampled_from(sorted(RESERVED_HEADERS)), st.sampled_from([str.lower, str.upper, str.title]))
def test_no_header_of_the_webhook_takes_the_place_of_ours_or_frames_the_message(name, spelled):
    builder = RequestBuilder(a_webhook(headers={spelled(name): "mine", "X-Kept": "yes"}), AGENT)
    request = builder.build(a_claim(), NOW)
    assert request.headers == {**build().headers, "X-Kept": "yes"}
    assert builder.left_out == (spelled(name),)


def test_every_header_that_is_ours_is_reserved():
    assert {name.lower() for name in build().headers} <= RESERVED_HEADERS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Split", "a\r\nX-Injected: 1"),
        ("X-Line", "a\nb"),
        ("X-Null", "a\0b"),
        ("X-Wide", "日本"),
        ("X-Control", "a\x85b"),
        ("X Space", "a"),
        ("X-Injected: 1\r\nX", "a"),
        ("X-Line\n", "a"),
        ("Naïve", "a"),
        ("", "a"),
    ],
)
def test_a_header_that_cannot_be_sent_is_left_out_and_named(name, value):
    builder = RequestBuilder(a_webhook(headers={"X-First": "1", name: value, "X-Last": "2"}), AGENT)
    headers = builder.build(a_claim(), NOW).headers
    assert headers == {**build().headers, "X-First": "1", "X-Last": "2"}
    assert builder.left_out == (name,)


def test_of_a_header_given_in_two_spellings_the_first_is_sent():
    builder = RequestBuilder(a_webhook(headers={"X-Mine": "1", "x-mine": "2"}), AGENT)
    assert builder.build(a_claim(), NOW).headers == {**build().headers, "X-Mine": "1"}
    assert builder.left_out == ("x-mine",)


@given(
    st.dictionaries(st.text(max_size=8) | names, st.text(max_size=20) | values, max_size=4),
    st.text(max_size=20),
    st.text(max_size=20).map("callback_{}_1".format),
    st.text(max_size=20),
)
@example({}, "событие\r\n", "ключ\0", "агент\n")
def test_whatever_is_configured_every_header_sent_is_one_line_of_latin_1(own, event_type, key, agent):
    builder = RequestBuilder(a_webhook(headers=own), agent)
    request = builder.build(a_claim(event_type=event_type, idempotency_key=key), NOW)
    for name, value in request.headers.items():
        assert re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name)
        assert not set(value.encode("latin-1")) & {0, 10, 13}
    assert unquote(request.headers["X-Webhook-Event"]) == unquote(event_type)
    assert verify(BODY, request.headers, SECRET, now=NOW) is Scheme.STANDARD


@given(
    st.dictionaries(names, values, max_size=4),
    st.text(max_size=20),
    st.text(max_size=20),
    st.text(max_size=20),
    st.integers(1, 100),
    st.sampled_from([SECRET, "classic only"]),
    st.none() | st.just(OLD_SECRET),
)
def test_the_record_is_the_sent_headers_in_order_with_signatures_and_own_values_masked(
    own, event_type, key, agent, attempt, secret, previous
):
    webhook = a_webhook(
        headers=own,
        secret_key=secret,
        previous_secret_key=previous,
        previous_secret_expires_at=datetime.fromtimestamp(NOW + 1, UTC),
    )
    builder = RequestBuilder(webhook, agent)
    request = builder.build(a_claim(event_type=event_type, idempotency_key=key, attempt=attempt), NOW)
    ours = build().headers.keys()
    expected = {}
    for name, value in request.headers.items():
        if name.lower().endswith("-signature") and name in ours:
            expected[name] = re.sub(r"(sha256=|v1,)[^ ]+", r"\1***", value)
        else:
            expected[name] = value if name in ours else "***"
    assert list(json.loads(builder.recorded_headers(request)).items()) == list(expected.items())


def test_the_record_holds_neither_the_signatures_nor_the_values_of_own_headers():
    builder = RequestBuilder(a_webhook(headers={"Authorization": "Bearer hush"}), AGENT)
    request = builder.build(a_claim(), NOW)
    text = builder.recorded_headers(request)
    assert '"X-Webhook-Signature": "sha256=***"' in text
    assert '"webhook-signature": "v1,***"' in text
    assert '"Authorization": "***"' in text
    assert "hush" not in text
    assert request.headers["X-Webhook-Signature"][7:] not in text
    assert request.headers["webhook-signature"][3:] not in text
