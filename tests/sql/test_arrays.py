"""Arrays against the server that reads them."""

import math
import string
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgrelay.db.arrays import Array, bigints, doubles, integers, texts
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
    assert value(db, "select %s", texts(given)) == [storable(text) for text in given]


def test_what_comes_again_and_again_arrives_as_often(db: psycopg.Connection) -> None:
    again = "".join(["sa", "me"])
    given = [None, None, again, again, "other", again, None, "same"]
    assert value(db, "select %s", texts(given)) == given


def test_long_and_odd_bodies_arrive(db: psycopg.Connection) -> None:
    bodies = ['"\\' * 8_192, "\0" * 16_384, "🚀" * 4_096, "\udcff" * 100]
    assert value(db, "select %s", texts(bodies)) == [storable(body) for body in bodies]


@relaxed
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_arrive(db: psycopg.Connection, given: list[int | None]) -> None:
    assert value(db, "select %s", bigints(given)) == given


@relaxed
@given(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)))
def test_small_whole_numbers_arrive(db: psycopg.Connection, given: list[int | None]) -> None:
    assert value(db, "select %s", integers(given)) == given


@pytest.mark.parametrize(
    ("made", "of"),
    [
        (bigints([1]), "bigint[]"),
        (integers([1]), "integer[]"),
        (doubles([1]), "double precision[]"),
        (texts(["1"]), "text[]"),
    ],
)
def test_the_server_is_told_of_which_type_they_are(db: psycopg.Connection, made: Array, of: str) -> None:
    assert value(db, "select pg_typeof(%s)::text", made) == of


@pytest.mark.parametrize(("make", "number"), [(bigints, 2**63), (integers, 2**31), (integers, -(2**31) - 1)])
def test_what_does_not_fit_is_refused_here(make: Callable[[list[int | None]], Array], number: int) -> None:
    with pytest.raises(OverflowError):
        make([1, number, None])


@relaxed
@given(st.lists(st.none() | st.floats(allow_nan=False)))
def test_floats_arrive_to_the_last_digit_infinities_included(
    db: psycopg.Connection, given: list[float | None]
) -> None:
    found = value(db, "select %s", doubles(given))
    assert found == given
    assert [x is not None and math.copysign(1, x) for x in found] == [
        x is not None and math.copysign(1, x) for x in given
    ]
