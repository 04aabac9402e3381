"""Requests held against schemas: what is read, what is refused, and how the place is named."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from pgrelay.api import validate
from pgrelay.api.problems import Problem, of_error
from pgrelay.api.schemas import COMPONENTS
from pgrelay.db.admin import LockRefused, TookTooLong
from pgrelay.errors import DatabaseUnavailable, NotPermitted, PgrelayError, Refused

NEW = validate.validator({**COMPONENTS["NewWebhook"], "components": {"schemas": COMPONENTS}})
GOOD = {"name": "n", "url": "https://example.com/", "subscribed_events": ["*"]}
PARAMETERS = {
    "limit": {"type": "integer", "minimum": 1},
    "active": {"type": "boolean"},
    "since": {"type": "string", "format": "date-time"},
    "text": {"type": "string"},
}


def faults_of(body: Any) -> dict[str | None, str]:
    with pytest.raises(Problem) as refused:
        validate.checked(NEW, body)
    assert refused.value.status is HTTPStatus.UNPROCESSABLE_ENTITY
    return {fault.pointer: fault.detail for fault in refused.value.faults}


def test_every_fault_is_told_once_with_its_place_and_in_words():
    faults = faults_of({"name": "", "url": "x", "timeout_seconds": "5", "retry_schedule": [1, -1], "a/b~": 1})
    assert faults == {
        "/name": faults["/name"],
        "/url": "it must begin with https:// (or http:// where the operator allows it), and be ASCII without spaces",
        "/timeout_seconds": "it must be a whole number",
        "/retry_schedule/1": "it must be at least 0",
        "/a~1b~0": "there is no such field",
        "/subscribed_events": "it is missing",
    }


def test_a_secret_that_is_refused_is_not_repeated():
    for field in ({"secret_key": "whsec_hunter2"}, {"headers": {"Authorization": "hun\nter2"}}):
        with pytest.raises(Problem) as refused:
            validate.checked(NEW, {**GOOD, **field})
        assert "ter2" not in str(refused.value.json())


def test_texts_that_postgres_cannot_store_are_refused_wherever_they_stand():
    assert list(faults_of({**GOOD, "description": "a\0b"})) == ["/description"]
    assert list(faults_of({**GOOD, "description": "\ud800"})) == ["/description"]
    assert "/headers" in faults_of({**GOOD, "headers": {"X\0": "v"}})


def test_whole_numbers_are_integers_however_they_were_written():
    read = validate.checked(NEW, {**GOOD, "timeout_seconds": 5.0, "retry_schedule": [1e2]})
    assert (repr(read["timeout_seconds"]), repr(read["retry_schedule"])) == ("5", "[100]")


@hypothesis.given(st.binary(max_size=60))
def test_a_body_of_any_bytes_is_json_or_a_problem(body: bytes):
    try:
        validate.parsed(body)
    except Problem as problem:
        assert problem.status is HTTPStatus.BAD_REQUEST


@hypothesis.given(
    st.dictionaries(
        st.text(max_size=20),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5
        ),
    )
)
def test_any_object_is_checked_or_a_problem(body: dict[str, Any]):
    try:
        validate.checked(NEW, body)
    except Problem as problem:
        assert problem.faults


def test_parameters_are_read_as_their_types():
    given = [("limit", "5"), ("active", "false"), ("since", "2026-11-01T08:30:00+02:00"), ("text", "5")]
    assert validate.query(PARAMETERS, given) == {
        "limit": 5,
        "active": False,
        "since": datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
        "text": "5",
    }


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([("limit", "0")], "limit"),
        ([("limit", "٣")], "limit"),
        ([("limit", "1" * 30)], "limit"),
        ([("active", "yes")], "active"),
        ([("since", "2026-11-01")], "since"),
        ([("since", "2026-11-01T08:30:00")], "since"),
        ([("since", "0001-01-01T00:00:00+01:00")], "since"),
        ([("text", "a\0")], "text"),
        ([("text", "a"), ("text", "b")], "text"),
        ([("other", "a")], "other"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(given: list[tuple[str, str]], wrong: str):
    with pytest.raises(Problem) as refused:
        validate.query(PARAMETERS, given)
    assert [fault.parameter for fault in refused.value.faults] == [wrong]


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.0", "٣", "9223372036854775808", "1" * 100])
def test_what_cannot_be_an_id_is_none(text: str):
    assert validate.number(text) is None


def test_the_greatest_id_is_one():
    assert validate.number("9223372036854775807") == 2**63 - 1


@pytest.mark.parametrize(
    ("error", "status", "field"),
    [
        (Refused("the url", constraint="url_usable"), 422, "/url"),
        (Refused("x", constraint="subscribed_events_known_form"), 422, "/subscribed_events"),
        (Refused("x", constraint="timeout_seconds_from_1_to_120"), 422, "/timeout_seconds"),
        (Refused("x", constraint="something_else"), 409, None),
        (Refused("webhook 3 is inactive"), 409, None),
        (TookTooLong("x"), 503, None),
        (LockRefused("x"), 503, None),
        (NotPermitted("relay lacks", "grant x to relay"), 503, None),
        (DatabaseUnavailable("connection to db.internal failed"), 503, None),
        (PgrelayError("x"), 500, None),
    ],
)
def test_an_error_is_a_problem_of_whoever_can_mend_it(error: PgrelayError, status: int, field: str | None):
    problem = of_error(error)
    assert problem.status == status
    assert [fault.pointer for fault in problem.faults] == ([field] if field else [])
    assert status < 500 or error.message == "x" or error.message not in problem.detail
