"""Array literals against the server that reads them."""

import math
import string

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgrelay.db.arrays import numbers, texts
from support.queue import value

# one connection serves all examples: nothing is written
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)

awkward = st.text(
    alphabet=st.sampled_from(string.printable + "{}\"\\,'\0\ud800\udfff\ufeff\u2028é🚀"), max_size=20
)


def storable(text: str | None) -> str | None:
    """What Postgres can keep of a text."""
    if text is None:
        return None
    return "".join("\ufffd" if c == "\0" else "?" if "\ud800" <= c <= "\udfff" else c for c in text)


@relaxed
@given(st.lists(st.none() | awkward | st.text() | st.sampled_from(["NULL", "null", "", " ", "{}", '"'])))
def test_texts_arrive_as_they_are_but_for_what_cannot_be_stored(
    db: psycopg.Connection, given: list[str | None]
) -> None:
    assert value(db, "select %s::text[]", texts(given)) == [storable(text) for text in given]


def test_long_and_odd_bodies_arrive(db: psycopg.Connection) -> None:
    bodies = ['"\\' * 8_192, "\0" * 16_384, "🚀" * 4_096, "\udcff" * 100]
    assert value(db, "select %s::text[]", texts(bodies)) == [storable(body) for body in bodies]


@relaxed
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_arrive(db: psycopg.Connection, given: list[int | None]) -> None:
    assert value(db, "select %s::bigint[]", numbers(given)) == given


@relaxed
@given(st.lists(st.none() | st.floats(allow_nan=False)))
def test_floats_arrive_to_the_last_digit_infinities_included(
    db: psycopg.Connection, given: list[float | None]
) -> None:
    found = value(db, "select %s::double precision[]", numbers(given))
    assert found == given
    assert [x is not None and math.copysign(1, x) for x in found] == [
        x is not None and math.copysign(1, x) for x in given
    ]
