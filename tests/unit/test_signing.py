"""Both signatures against known answers, an independent computation and the published library."""

import base64
import hashlib
import hmac
import math
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st

from pgrelay.signing import (
    Scheme,
    Signer,
    WrongSignature,
    classic_signature,
    examine,
    generate_secret,
    is_standard,
    standard_signature,
    verify,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + base64.b64encode(b"the secret before this one").decode()
WORD = "not-a-standard-secret"
BODY = b'{"test": 2432232314}'
NOW = 1_700_000_000

keys = st.binary(min_size=24, max_size=64)
secrets = keys.map(generate_secret)
bodies = st.binary(max_size=300)
message_ids = st.from_regex(r"[A-Za-z0-9_-]{1,60}", fullmatch=True)
timestamps = st.integers(0, 99_999_999_999)
not_secrets = st.one_of(
    st.text(max_size=60),
    st.text(max_size=60).map("whsec_".__add__),
    st.binary(max_size=23).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
    st.binary(min_size=65, max_size=90).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
)


def both_headers(secret=SECRET, previous=None, body=BODY, message_id="callback_1_created_1", timestamp=NOW):
    classic, standard = Signer(secret, previous).sign(message_id, timestamp, body)
    headers = {"X-Webhook-Signature": classic, "webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    return headers if standard is None else headers | {"webhook-signature": standard}


def only(headers, *names):
    return {name: value for name, value in headers.items() if name.lower() in names}


def test_the_classic_signature_of_the_known_body_is_the_known_answer():
    expected = "sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    assert classic_signature(SECRET, BODY) == expected


def test_the_standard_signature_of_the_specifications_example_is_the_specifications():
    signature = standard_signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, BODY)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=150), bodies)
def test_the_classic_signature_is_the_hmac_keyed_with_the_whole_secret_string(secret, body):
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert classic_signature(secret, body) == f"sha256={expected}"


@given(keys, message_ids, timestamps, bodies)
def test_the_standard_signature_is_the_hmac_keyed_with_the_decoded_secret(key, message_id, timestamp, body):
    signed = message_id.encode() + b"." + str(timestamp).encode() + b"." + body
    expected = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert standard_signature(generate_secret(key), message_id, timestamp, body) == f"v1,{expected}"


@given(secrets, st.none() | secrets, message_ids, st.text(max_size=200).map(str.encode))
def test_the_published_library_verifies_what_is_signed_with_any_secret_of_a_rotation(
    secret, previous, message_id, body
):
    headers = both_headers(secret, previous, body, message_id, int(time.time()))
    for known in {secret, previous} - {None}:
        standardwebhooks.Webhook(known).verify(body, headers, json_parse=False)


def test_the_published_library_and_this_one_sign_alike():
    published = standardwebhooks.Webhook(SECRET).sign("m", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    assert standard_signature(SECRET, "m", NOW, BODY) == published


@given(secrets, st.none() | secrets | not_secrets, message_ids, timestamps, bodies)
def test_a_prepared_signer_signs_as_the_plain_functions_do_however_often_it_is_used(
    secret, previous, message_id, timestamp, body
):
    expected = [standard_signature(secret, message_id, timestamp, body)]
    if previous is not None and is_standard(previous):
        expected.append(standard_signature(previous, message_id, timestamp, body))
    signer = Signer(secret, previous)
    for _ in range(2):
        assert signer.sign(message_id, timestamp, body) == (
            classic_signature(secret, body),
            " ".join(expected),
        )


def test_a_secret_of_another_form_signs_the_classic_header_and_no_other():
    assert Signer(WORD).sign("m", NOW, BODY) == (classic_signature(WORD, BODY), None)
    with pytest.raises(ValueError, match="X-Webhook-Signature only"):
        standard_signature(WORD, "m", NOW, BODY)


def test_when_only_the_previous_secret_can_key_the_standard_header_it_alone_does():
    expected = (classic_signature(WORD, BODY), standard_signature(OLD_SECRET, "m", NOW, BODY))
    assert Signer(WORD, OLD_SECRET).sign("m", NOW, BODY) == expected


@given(keys)
def test_a_generated_secret_is_standard_and_holds_the_bytes_it_was_made_of(key):
    secret = generate_secret(key)
    assert is_standard(secret)
    assert base64.b64decode(secret.removeprefix("whsec_"), validate=True) == key


@given(st.binary(max_size=23) | st.binary(min_size=65, max_size=90))
def test_no_secret_is_made_of_too_few_or_too_many_bytes(random_bytes):
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        generate_secret(random_bytes)


@given(not_secrets)
@example("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS-")  # the url-safe alphabet, which some libraries skip over
@example("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA")  # padding missing
@example("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
@example("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
@example("whsec_ÀfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
def test_what_is_not_the_prefix_and_base64_of_24_to_64_bytes_is_not_standard(text):
    try:
        decoded = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        decoded = b""
    assert is_standard(text) is (text.startswith("whsec_") and 24 <= len(decoded) <= 64)


@given(secrets | st.just(WORD), message_ids, timestamps, bodies)
def test_what_is_signed_verifies_with_either_set_of_headers(secret, message_id, timestamp, body):
    headers = both_headers(secret, None, body, message_id, timestamp)
    scheme = Scheme.STANDARD if is_standard(secret) else Scheme.CLASSIC
    assert verify(body, headers, secret, now=timestamp) is scheme
    assert verify(body, only(headers, "x-webhook-signature"), secret, now=timestamp) is Scheme.CLASSIC


@given(secrets, bodies, st.data())
def test_one_changed_byte_of_the_body_is_refused_under_either_scheme(secret, body, data):
    place = data.draw(st.integers(0, len(body)))
    changed = body[:place] + data.draw(st.binary(min_size=1, max_size=3)) + body[place:]
    headers = both_headers(secret, None, body)
    assert not examine(changed, headers, secret, now=NOW)
    assert not examine(changed, only(headers, "x-webhook-signature"), secret, now=NOW)


@given(secrets, secrets, bodies)
def test_another_secret_is_refused_under_either_scheme(secret, other, body):
    headers = both_headers(secret, None, body)
    classic = only(headers, "x-webhook-signature")
    assert bool(examine(body, headers, other, now=NOW)) is (secret == other)
    assert bool(examine(body, classic, other, now=NOW)) is (secret == other)


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_during_a_rotation_the_standard_header_verifies_with_either_secret(secret):
    assert verify(BODY, both_headers(SECRET, OLD_SECRET), secret, now=NOW) is Scheme.STANDARD


def test_during_a_rotation_the_classic_header_is_the_new_secrets():
    classic = only(both_headers(SECRET, OLD_SECRET), "x-webhook-signature")
    assert examine(BODY, classic, SECRET, now=NOW)
    assert not examine(BODY, classic, OLD_SECRET, now=NOW)


@given(st.floats(-400, 400), st.floats(0, 350))
@example(300.0, 300.0)
@example(-300.0, 300.0)
def test_a_timestamp_is_tolerated_up_to_the_tolerance_both_ways(late, tolerance):
    now = NOW + late
    found = examine(BODY, both_headers(), SECRET, now=now, tolerance=tolerance)
    assert bool(found) is (abs(now - NOW) <= tolerance)


def test_an_old_request_is_told_from_a_forged_one():
    old = examine(BODY, both_headers(), SECRET, now=NOW + 301)
    forged = examine(BODY, both_headers(OLD_SECRET), SECRET, now=NOW)
    assert old.reason == "genuine, but 301 s old; 300 s are tolerated"
    assert "holds no v1 signature" in forged.reason


def test_an_infinite_tolerance_takes_a_request_of_any_age():
    assert verify(BODY, both_headers(), SECRET, now=0, tolerance=math.inf) is Scheme.STANDARD


def test_a_clock_that_is_no_number_tolerates_nothing():
    assert not examine(BODY, both_headers(), SECRET, now=math.nan)


def test_a_request_with_an_altered_timestamp_is_not_saved_by_its_classic_signature():
    headers = both_headers() | {"webhook-timestamp": str(NOW + 1000)}
    with pytest.raises(WrongSignature, match="holds no v1 signature"):
        verify(BODY, headers, SECRET, now=NOW + 1000)


def test_a_receiver_that_requires_the_standard_scheme_is_not_served_by_the_classic_one():
    classic = only(both_headers(), "x-webhook-signature")
    refused = examine(BODY, classic, SECRET, now=NOW, require=Scheme.STANDARD)
    assert refused.reason == (
        "no webhook-signature and no webhook-id and no webhook-timestamp among the headers"
    )
    assert "cannot key" in examine(BODY, both_headers(WORD), WORD, now=NOW, require=Scheme.STANDARD).reason
    assert verify(BODY, both_headers(), SECRET, now=NOW, require=Scheme.STANDARD) is Scheme.STANDARD


def test_a_receiver_that_requires_the_classic_scheme_does_not_look_at_the_time():
    assert verify(BODY, both_headers(), SECRET, now=NOW + 9999, require=Scheme.CLASSIC) is Scheme.CLASSIC


@given(st.sampled_from([str.upper, str.lower, str.title, str.swapcase]))
def test_names_of_headers_may_be_in_any_case(change):
    headers = {change(name): f" {value} " for name, value in both_headers().items()}
    assert verify(BODY, headers, SECRET, now=NOW) is Scheme.STANDARD
    assert verify(BODY, headers, SECRET, now=NOW, require=Scheme.CLASSIC) is Scheme.CLASSIC


def test_signatures_of_versions_unknown_here_are_passed_over():
    headers = both_headers()
    headers["webhook-signature"] = f"v1a,abcd v2,efgh  {headers['webhook-signature']} v1,ijkl"
    assert verify(BODY, headers, SECRET, now=NOW) is Scheme.STANDARD


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("X-Webhook-Signature", classic_signature(SECRET, BODY)[7:], "does not begin with sha256="),
        ("X-Webhook-Signature", "sha256=" + "0" * 64, "not of this body and secret"),
        ("X-Webhook-Signature", "", "does not begin with sha256="),
        ("X-Request-Id", "1", "no X-Webhook-Signature among the headers"),
    ],
)
def test_the_reason_for_refusing_a_classic_signature_is_told(name, value, reason):
    with pytest.raises(WrongSignature, match=reason):
        verify(BODY, {name: value}, SECRET, now=NOW)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("webhook-timestamp", "1700000000.0", "not a whole number"),
        ("webhook-timestamp", "-1700000000", "not a whole number"),
        ("webhook-timestamp", "١٧٠٠٠٠٠٠٠٠", "not a whole number"),
        ("webhook-timestamp", "9" * 5000, "not a whole number"),
        ("webhook-timestamp", "", "no webhook-timestamp among"),
        ("webhook-id", "", "no webhook-id among"),
        ("webhook-id", "another", "holds no v1 signature"),
        ("webhook-signature", "", "no webhook-signature among"),
        ("webhook-signature", "v1", "holds no v1 signature"),
        ("webhook-signature", "v2" + standard_signature(SECRET, "m", NOW, BODY)[2:], "holds no v1 signature"),
    ],
)
def test_the_reason_for_refusing_a_standard_signature_is_told(name, value, reason):
    with pytest.raises(WrongSignature, match=reason):
        verify(BODY, both_headers() | {name: value}, SECRET, now=NOW)


@given(
    bodies,
    st.dictionaries(
        st.sampled_from(["X-Webhook-Signature", "webhook-id", "webhook-timestamp", "webhook-signature", "a"]),
        st.text() | st.just(str(NOW)) | st.text().map("sha256=".__add__) | st.text().map("v1,".__add__),
    ),
    st.text() | secrets,
)
@example(b"", {"X-Webhook-Signature": "sha256=\ud800"}, "s")
@example(b"", {"webhook-signature": "\ud800", "webhook-id": "\udcff", "webhook-timestamp": "1"}, SECRET)
def test_whatever_the_headers_hold_is_refused_and_never_an_error(body, headers, secret):
    found = examine(body, headers, secret, now=NOW)
    assert not found
    assert found.reason
    assert classic_signature(secret, body) not in found.reason
