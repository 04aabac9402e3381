"""pgrelay.mask_url() shows of a URL what the program's mask_url() shows."""

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgrelay.masking import mask_url
from support.queue import value

hosts = st.sampled_from(["example.com", "[2001:db8::1]:8443", "u:p@example.com", "a.b:80"])
words = st.text("aZ09-_.~%=&;,@:+/?#", max_size=30)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["https://", "http://", "HTTP://"]), hosts, words)
def test_sql_and_program_mask_the_same(db: psycopg.Connection, scheme: str, host: str, rest: str) -> None:
    url = f"{scheme}{host}/{rest}"
    assert value(db, "select pgrelay.mask_url(%s)", url) == mask_url(url)


def test_a_url_that_ends_with_its_host_has_nothing_to_mask(db: psycopg.Connection) -> None:
    for url in ("https://example.com", "https://example.com?a=b", "https://example.com#a"):
        assert value(db, "select pgrelay.mask_url(%s)", url) == mask_url(url)
