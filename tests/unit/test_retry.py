"""What an attempt means for its delivery, and how long the next one waits."""

import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgrelay.delivery import ErrorKind, Failure, Response, Verdict
from pgrelay.retry import DEFAULT_WAIT, Decision, decide

NOW = datetime(2027, 3, 4, 12, 0, 0, tzinfo=UTC)

waits = st.floats(0, 1e6)
schedules = st.lists(waits, max_size=5)
failing_statuses = (st.integers(100, 199) | st.integers(300, 999)).filter(lambda status: status != 410)
fractions = st.floats(0, 1)
no_answers = st.builds(Failure, st.sampled_from(ErrorKind), st.text())


def answer(status=503, **headers) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"", 0.1)


def judge(result, *, attempt=1, max_attempts=3, schedule=(60.0, 60.0), now=NOW, **options) -> Decision:
    return decide(result, attempt=attempt, max_attempts=max_attempts, schedule=schedule, now=now, **options)


def wait_asked_with(value: str, **options) -> float | None:
    return judge(answer(Retry_After=value), schedule=(1.0,), max_wait=1e9, **options).retry_in


@given(st.integers(200, 299), st.integers(1, 9), st.integers(1, 9))
def test_every_2xx_is_success_whatever_the_attempt(status, attempt, max_attempts):
    decision = judge(answer(status, Retry_After="60"), attempt=attempt, max_attempts=max_attempts)
    assert decision == Decision(Verdict.SUCCEEDED, status)


@given(failing_statuses.map(answer) | no_answers, st.integers(1, 9), st.integers(1, 9), schedules)
def test_a_failure_is_tried_again_exactly_while_attempts_are_left(result, attempt, max_attempts, schedule):
    decision = judge(result, attempt=attempt, max_attempts=max_attempts, schedule=schedule)
    assert decision.verdict is (Verdict.RETRY if attempt < max_attempts else Verdict.FAILED)
    assert (decision.retry_in is None) is (decision.verdict is Verdict.FAILED)
    assert decision.error_kind is not None


@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_gone_is_given_up_at_once(attempt):
    decision = judge(answer(410, Retry_After="5"), attempt=attempt, max_attempts=3)
    assert (decision.verdict, decision.status_code, decision.hold) == (Verdict.FAILED, 410, None)


@pytest.mark.parametrize(("status", "hold"), [(429, 30.0), (503, 30.0), (500, None), (404, None)])
def test_only_busy_with_retry_after_holds_back_the_whole_webhook(status, hold):
    assert judge(answer(status, Retry_After="30")).hold == hold
    assert judge(answer(status)).hold is None
    assert judge(answer(status, Retry_After="30"), attempt=3, max_attempts=3).hold == hold


def test_the_default_schedule_is_at_once_then_a_minute_then_a_minute_then_given_up():
    decisions = [judge(answer(500), attempt=attempt) for attempt in (1, 2, 3)]
    assert [(decision.verdict, decision.retry_in) for decision in decisions] == [
        (Verdict.RETRY, 60.0),
        (Verdict.RETRY, 60.0),
        (Verdict.FAILED, None),
    ]


@pytest.mark.parametrize(("attempt", "wait"), [(1, 5.0), (2, 300.0), (3, 1800.0), (4, 1800.0), (9, 1800.0)])
def test_each_wait_of_the_schedule_follows_its_attempt_and_the_last_repeats(attempt, wait):
    decision = judge(answer(), attempt=attempt, max_attempts=10, schedule=(5.0, 300.0, 1800.0))
    assert decision.retry_in == wait


def test_without_a_schedule_there_is_still_a_wait():
    assert judge(answer(), schedule=()).retry_in == DEFAULT_WAIT == 60.0


@given(
    st.one_of(waits, st.sampled_from([-1.0, math.nan, math.inf])),
    st.one_of(fractions, st.sampled_from([-1.0, 2.0, math.nan, math.inf])),
    st.floats(0, 1e6),
    st.sampled_from(["", "0", "99", "9" * 12, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"]),
)
def test_a_wait_is_a_number_from_0_to_the_maximum_whatever_it_is_made_of(wait, jitter, max_wait, asked):
    result = answer(Retry_After=asked)
    decision = judge(result, schedule=(wait,), jitter_fraction=jitter, max_wait=max_wait)
    assert 0.0 <= decision.retry_in <= max_wait


@given(schedules, st.integers(1, 8), fractions, st.integers(0, 10**6), waits)
def test_jitter_and_the_receiver_only_ever_lengthen_a_wait_up_to_the_maximum(
    schedule, attempt, jitter, asked, max_wait
):
    options = {"attempt": attempt, "max_attempts": 9, "schedule": schedule, "max_wait": max_wait}
    plain = judge(answer(), **options).retry_in
    longer = judge(answer(Retry_After=str(asked)), jitter_fraction=jitter, **options).retry_in
    assert longer >= plain
    assert longer >= min(asked, max_wait)
    assert longer <= min(max_wait, max(plain, asked) * (1 + jitter) * 1.000001)


@pytest.mark.parametrize(("jitter", "wait"), [(0.0, 60.0), (0.1, 66.0), (1.0, 100.0)])
def test_jitter_adds_its_part_of_the_wait_but_never_passes_the_maximum(jitter, wait):
    assert judge(answer(), jitter_fraction=jitter, max_wait=100.0).retry_in == wait


@pytest.mark.parametrize(("asked", "wait"), [("0", 60.0), ("59", 60.0), ("61", 61.0), ("7200", 3600.0)])
def test_retry_after_lengthens_the_wait_but_never_beyond_the_maximum(asked, wait):
    assert judge(answer(Retry_After=asked), max_wait=3600.0).retry_in == wait


@given(failing_statuses)
def test_retry_after_counts_with_every_failing_status(status):
    assert judge(answer(status, Retry_After="600")).retry_in == 600.0


def test_retry_after_does_not_buy_another_attempt():
    assert judge(answer(Retry_After="1"), attempt=3).verdict is Verdict.FAILED


@pytest.mark.parametrize("name", ["retry-after", "RETRY-AFTER", "Retry-After"])
def test_the_name_of_the_header_may_be_in_any_case(name):
    assert judge(Response(503, {"Date": "x", name: " 90 "}, b"", 0.1)).retry_in == 90.0


@pytest.mark.parametrize(
    "value",
    [
        "Thu, 04 Mar 2027 12:02:00 GMT",
        "Thursday, 04-Mar-27 12:02:00 GMT",
        "Thu Mar  4 12:02:00 2027",
    ],
)
def test_retry_after_may_be_a_date_in_each_of_the_three_forms_of_http(value):
    assert wait_asked_with(value) == 120.0


@given(st.integers(0, 253_402_300_799), st.integers(946_684_800, 4_102_444_800), st.integers(-12, 12))
def test_a_date_is_a_wait_until_then_in_whatever_zone_now_is(date, now, offset):
    value = format_datetime(datetime.fromtimestamp(date, UTC), usegmt=True)
    here = datetime.fromtimestamp(now, timezone(timedelta(hours=offset)))
    wait = judge(answer(Retry_After=value), schedule=(1.0,), now=here, max_wait=1e12).retry_in
    assert wait == max(1.0, date - now)


@pytest.mark.parametrize(
    ("now_year", "digits", "waits_for_it"), [(2027, "28", True), (2027, "94", False), (2099, "01", False)]
)
def test_a_year_of_two_digits_far_ahead_is_one_that_has_passed(now_year, digits, waits_for_it):
    wait = wait_asked_with(f"Sunday, 06-Nov-{digits} 08:49:37 GMT", now=NOW.replace(year=now_year))
    assert (wait > 1.0) is waits_for_it


def test_a_leap_second_is_a_date_like_any():
    assert wait_asked_with("Thu, 04 Mar 2027 12:00:60 GMT") == 59.0


@pytest.mark.parametrize(
    "value",
    [
        "",
        "12.5",
        "-5",
        "+5",
        "300s",
        "1e3",
        "5 minutes",
        "60, 120",
        "٣٠٠",
        "³",
        "inf",
        "nan",
        "0x10",
        "1_000",
        "\0",
        "Thu, 04 Mar 2027 12:02:00 +0200",
        "Thu, 04 Mar 2027 12:02:00",
        "Thu, 31 Feb 2028 12:02:00 GMT",
        "Thu, 04 Foo 2028 12:02:00 GMT",
        "Thu, 04 Mar 2028 25:02:00 GMT",
        "Thu, 04 Mar 2028 ::::::00 GMT",
        "Thu, 04 Mar 0000 12:02:00 GMT",
        "2028-03-04T12:02:00Z",
        "tomorrow",
    ],
)
def test_a_malformed_retry_after_is_as_good_as_none(value):
    assert wait_asked_with(value) == 1.0


@given(st.text())
@example("9" * 100_000)
@example("Thu, 04 Mar 2028 12:02:00 GMT" * 1000)
def test_no_text_in_retry_after_is_an_error(value):
    assert 1.0 <= wait_asked_with(value) <= 1e9


@pytest.mark.parametrize(
    ("result", "recorded"),
    [
        (answer(404), (404, ErrorKind.STATUS, "HTTP 404 Not Found")),
        (answer(429), (429, ErrorKind.STATUS, "HTTP 429 Too Many Requests")),
        (answer(799), (799, ErrorKind.STATUS, "HTTP 799")),
        (answer(199), (199, ErrorKind.STATUS, "HTTP 199")),
        (answer(304), (304, ErrorKind.REDIRECT, "HTTP 304 Not Modified: redirect not followed")),
        (
            answer(301, location="https://user:hush@other.example/new?token=hush#hush"),
            (
                301,
                ErrorKind.REDIRECT,
                "HTTP 301 Moved Permanently: redirect to https://other.example/new not followed",
            ),
        ),
        (
            answer(302, Location="/login?next=hush"),
            (302, ErrorKind.REDIRECT, "HTTP 302 Found: redirect to /login not followed"),
        ),
        (
            Failure(ErrorKind.TIMEOUT, "no answer in 10 s", 10.0),
            (None, ErrorKind.TIMEOUT, "no answer in 10 s"),
        ),
    ],
)
def test_what_is_recorded_of_a_failed_attempt(result, recorded):
    decision = judge(result)
    assert (decision.status_code, decision.error_kind, decision.error_message) == recorded
    given_up = judge(result, attempt=3)
    assert (given_up.status_code, given_up.error_kind, given_up.error_message) == recorded


@given(st.text(), st.integers(300, 399))
@example("x" * 10_000, 301)
@example("https://h/\0\r\n", 301)
def test_wherever_a_redirect_leads_its_message_can_be_stored_and_read(location, status):
    message = judge(answer(status, Location=location)).error_message
    assert message.isprintable()
    assert len(message) < 300


def test_a_request_interrupted_by_a_shutdown_was_an_attempt_and_is_tried_again():
    interrupted = Failure(ErrorKind.SHUTDOWN, "stopped while the answer was awaited")
    first, last = judge(interrupted), judge(interrupted, attempt=3)
    assert (first.verdict, first.retry_in, first.error_kind) == (Verdict.RETRY, 60.0, ErrorKind.SHUTDOWN)
    assert last.verdict is Verdict.FAILED


@pytest.mark.parametrize("result", [answer(200), answer(503), Failure(ErrorKind.DNS, "")])
def test_a_time_without_a_zone_is_refused(result):
    with pytest.raises(ValueError, match="timezone-aware"):
        judge(result, now=NOW.replace(tzinfo=None))
