"""What is shown of secrets: of URLs what leads somewhere, of answers what we did not send ourselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.masking import Scrubber, mask_url
from pgrelay.signing import Signer
from support.factories import SECRET

SLACK = "https://hooks.slack.com/services/T0AB/B0CD/aB3dE5fG7hI9jK1lM3nO5pQ7"
names = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
clean_urls = st.from_regex(
    r"[a-z]{1,6}://[a-z.]{1,20}(:[0-9]{1,4})?((/[a-zA-Z0-9._-]{0,10}){0,3})?", fullmatch=True
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a/b", "https://example.com/a/b"),
        ("https://user:hush@example.com/a", "https://***@example.com/a"),
        ("https://us@er:hu:sh@example.com:8443/a@b", "https://***@example.com:8443/a@b"),
        ("https://example.com/?token=hush&b=&flag", "https://example.com/?token=***&b=***&***"),
        ("https://example.com?hush", "https://example.com?***"),
        ("https://example.com/?next=https://u:hush@other/", "https://example.com/?next=***"),
        ("https://example.com/#hush", "https://example.com/#***"),
        ("https://example.com/#?hush=hush", "https://example.com/#***"),
        ("//user:hush@example.com/", "//***@example.com/"),
        ("user:hush@example.com/", "***@example.com/"),
        ("https://example.com/\r\nX: \0", "https://example.com/??X: ?"),
        ("", ""),
        (SLACK, "https://hooks.slack.com/services/T0AB/B0CD/***"),
        ("https://x.example/3f2504e0-4f89-11d3-9a0c-0305e82c3301/y?a#b", "https://x.example/***/y?***#***"),
        ("https://x.example/an-address-without-any-digit", "https://x.example/an-address-without-any-digit"),
    ],
)
def test_a_masked_url_shows_where_it_leads_and_no_secret(url, shown):
    assert mask_url(url) == shown


@given(clean_urls)
def test_a_url_without_credentials_query_and_tokens_is_shown_as_it_is(url):
    assert mask_url(url) == url


@given(clean_urls, st.from_regex(r"[a-z]{0,3}(:[a-z]{0,3})?", fullmatch=True), names)
def test_neither_credentials_nor_query_values_are_ever_shown(url, user, parameter):
    scheme, _, rest = url.partition("://")
    secret = "S3cr3t!"
    full = f"{scheme}://{user}{secret}@{rest}?{parameter}={secret}&{secret}#{secret}"
    assert secret not in mask_url(full)


@given(st.text())
def test_masking_takes_any_text_and_gives_a_printable_one(text):
    assert mask_url(text).isprintable()


def test_what_was_sent_along_is_taken_out_of_an_answer_in_every_spelling():
    scrubber = Scrubber(
        f"{SLACK}?key=qu%2Fery-value&v=1",
        {"Authorization": "Bearer t0p/s3cret", "X-Quoted": 'a "quoted" one', "X-Short": "on"},
        ["whsec_abc/def+ghi="],
    )
    echo = (
        b'{"path": "/services/T0AB/B0CD/aB3dE5fG7hI9jK1lM3nO5pQ7", "query": "qu%2Fery-value", "decoded": "qu/ery-value",'
        b' "Authorization": "Bearer t0p\\/s3cret", "token": "t0p/s3cret", "q": "a \\"quoted\\" one", "on": 1,'
        b' "secret": "whsec_abc\\/def+ghi="}'
    )
    assert scrubber.body(echo) == (
        b'{"path": "/services/T0AB/B0CD/***", "query": "***", "decoded": "***",'
        b' "Authorization": "***", "token": "***", "q": "***", "on": 1, "secret": "***"}'
    )
    assert scrubber.text(echo.decode()) == scrubber.body(echo).decode()


@given(st.integers(6, 20))
def test_the_beginning_of_a_secret_at_which_an_answer_was_cut_off_is_taken_out(kept):
    scrubber = Scrubber("https://example.com/hooks", {"X-Key": "t0p-s3cret-of-21-long"}, [])
    assert scrubber.body(b"t0p-s3, said t0p-s3cret-of-21-long"[: 13 + kept]) == b"t0p-s3, said ***"


def test_an_answer_that_echoes_nothing_stays_as_it_is():
    scrubber = Scrubber("https://example.com/hooks", {}, ["whsec_abcdefgh"])
    assert scrubber.body(b"\xff\x00 ok") == b"\xff\x00 ok"
    assert scrubber.text("ok") == "ok"


@given(st.text(), st.dictionaries(st.text(), st.text()), st.lists(st.text()), st.binary())
def test_scrubbing_takes_whatever_stands_in_a_row(url, headers, secrets, body):
    Scrubber(url, headers, secrets).body(body)


def test_signatures_are_taken_out_of_an_answer_too():
    classic, standard = Signer(SECRET, SECRET).sign("key_1", 1_700_000_000, b"{}")
    scrubber = Scrubber("https://example.com/hooks", {}, [])
    echo = f"X-Webhook-Signature: {classic}; webhook-signature: {standard}; no v1,signature, no sha256=abc"
    masked = (
        "X-Webhook-Signature: sha256=***; webhook-signature: v1,*** v1,***; no v1,signature, no sha256=abc"
    )
    assert scrubber.text(echo) == scrubber.text(echo.replace("/", "\\/")) == masked
    assert scrubber.body(echo.encode()) == masked.encode()
