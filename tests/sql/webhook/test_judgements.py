"""URL, headers and secret: the database's judgement against one made here, on random input."""

import base64
import binascii
import json
import re
import string

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pgrelay.addresses import Policy, check_url
from pgrelay.delivery import ErrorKind
from pgrelay.request import RESERVED_HEADERS
from pgrelay.signing import LONGEST_KEY, SHORTEST_KEY
from support.queue import value

# one connection serves all examples: nothing is written
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)

ANYTHING = Policy.of(["0.0.0.0/0", "::/0"], allow_http=True)

hosts = st.one_of(
    st.sampled_from(
        ["", "example.com", "a", "[::1]", "[::1", "::1", "127.0.0.1", "a_b.c", "-a.b", "a..b", "é.example"]
    ),
    st.text(alphabet="ab.-_%[]:0", max_size=8),
)
ports = st.sampled_from(
    ["", ":", ":0", ":1", ":80", ":00080", ":65535", ":65536", ":99999", ":100000", ":8a", ":+1"]
)
urls = st.one_of(
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(
            ["https://", "http://", "HTTPS://", "ftp://", "https:/", "//", "", "https://u:p@", "https://@"]
        ),
        hosts,
        ports,
        st.sampled_from(
            ["", "/", "/a?b#c", "?q", "#f", "/@", "/a b", "/\\", "/é", "\n", "/\t", "/" + "x" * 2020]
        ),
        st.sampled_from(["", "", "", "\x7f", "@x"]),
    ),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)


def may_be_called(url: str) -> bool:
    """As far as the text says."""
    match = re.fullmatch(
        r"(?i:https?)://(?P<host>\[[^\]]*\]|[^:/?#\[\]]*)(?::(?P<port>[^/?#]*))?(?:[/?#].*)?", url
    )
    if match is None or len(url) > 2048 or re.search(r"[^\x21-\x7e]|\\", url):
        return False
    host, port = match["host"], match["port"]
    if host.startswith("["):
        good_host = re.fullmatch(r"\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?\]", host) is not None
    else:
        good_host = re.fullmatch(r"[A-Za-z0-9._-]+", host) is not None
    return good_host and (
        port is None or (re.fullmatch(r"[0-9]{1,5}", port) is not None and 1 <= int(port) <= 65535)
    )


@relaxed
@given(urls)
@example("https://example.com/" + "x" * 2029)
@example("https://example.com:65535/" + "x" * 2022)
def test_a_url_is_refused_exactly_when_its_text_says_it_cannot_be_called(
    db: psycopg.Connection, url: str
) -> None:
    assert (value(db, "select pgrelay.url_problem(%s)", url) is None) is may_be_called(url)


@relaxed
@given(urls)
def test_no_url_is_refused_that_the_daemon_would_call(db: psycopg.Connection, url: str) -> None:
    failure = check_url(url, ANYTHING)
    if failure is None and len(url) <= 2048:
        assert value(db, "select pgrelay.url_problem(%s)", url) is None
    elif value(db, "select pgrelay.url_problem(%s)", url) is None:
        # what is left to the moment of the request: how a host is spelled
        assert failure is not None and failure.kind is ErrorKind.INVALID_URL
        assert re.search("malformed (host|IPv[46] address)|spells its IPv4 address oddly", failure.message)


names = st.one_of(
    st.sampled_from(
        [
            "X-A",
            "x-a",
            "Host",
            "X-Webhook-Any",
            "webhook-id",
            "Webhooks",
            "te",
            "Té",
            "a:b",
            "a b",
            "",
            "Trailer",
        ]
    ),
    st.text(alphabet=string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-:;() \n", max_size=6),
)
header_values = st.one_of(
    st.sampled_from(
        ["", "b", " b", "b ", "\tb", "b\r\nc", "b\n", "é", "\x7f", "a\tb", "a  b", 1, None, True, ["x"], {}]
    ),
    st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=300), max_size=5),
)


def may_be_sent(headers: object) -> bool:
    if not isinstance(headers, dict):
        return False
    lower = [name.lower() for name in headers]
    for name, content in headers.items():
        if not name or not set(name) <= set(string.ascii_letters + string.digits + "!#$%&'*+.^_`|~-"):
            return False
        if name.lower() in RESERVED_HEADERS or name.lower().startswith(("webhook-", "x-webhook-")):
            return False
        if not isinstance(content, str) or any(not (" " <= c <= "~" or c == "\t") for c in content):
            return False
        if content != content.strip(" \t") or lower.count(name.lower()) > 1:
            return False
    return True


@relaxed
@given(
    st.dictionaries(names, header_values, max_size=3) | st.lists(st.integers()) | st.text("ab") | st.none()
)
@example({name: "x" for name in RESERVED_HEADERS})
def test_headers_are_refused_exactly_when_they_would_break_http_or_overwrite_ours(
    db: psycopg.Connection, headers: object
) -> None:
    problem = value(db, "select pgrelay.header_problem(%s::jsonb)", json.dumps(headers))
    assert (problem is None) is may_be_sent(headers)


def test_every_reserved_header_is_refused_in_any_case(db: psycopg.Connection) -> None:
    for name in RESERVED_HEADERS:
        for spelled in (name, name.upper(), name.title()):
            assert (
                value(db, "select pgrelay.header_problem(%s::jsonb)", json.dumps({spelled: "x"})) is not None
            )


secrets = st.one_of(
    st.binary(min_size=20, max_size=70).map(lambda key: "whsec_" + base64.b64encode(key).decode()),
    st.binary(min_size=24, max_size=40).map(
        lambda key: "whsec_" + base64.b64encode(key).decode().rstrip("=")
    ),
    st.text(alphabet="ABab01+/=-_ \n", min_size=30, max_size=60).map(lambda text: "whsec_" + text),
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10),
)


def serves_as_secret(text: str) -> bool:
    if not text.startswith("whsec_"):
        return False
    try:
        key = base64.b64decode(text[6:].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return False
    return SHORTEST_KEY <= len(key) <= LONGEST_KEY and "=" not in text[6:].rstrip("=")


@relaxed
@given(secrets)
def test_a_secret_is_refused_exactly_when_a_receivers_library_could_not_use_it(
    db: psycopg.Connection, secret: str
) -> None:
    assert (value(db, "select pgrelay.secret_problem(%s)", secret) is None) is serves_as_secret(secret)


def test_generated_secrets_pass_their_own_judgement(db: psycopg.Connection) -> None:
    made = [value(db, "select pgrelay.generate_secret()") for _ in range(20)]
    assert all(serves_as_secret(secret) for secret in made)
