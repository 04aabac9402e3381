"""What of the attempts of a webhook is told to the database, and what need not be."""

import pytest

from pgrelay.circuit import Report, Reports
from pgrelay.delivery import ErrorKind, Outcome, Verdict
from support.factories import claim, outcome


def failed(status_code: int = 500, **fields: object) -> Outcome:
    given = {"verdict": Verdict.RETRY, "status_code": status_code, "error_kind": ErrorKind.STATUS, **fields}
    return outcome(claim(), **given)


def told(*outcomes: Outcome, failing: frozenset[int] = frozenset()) -> list[Report]:
    reports = Reports()
    reports.failing = failing
    for one in outcomes:
        reports.add(one)
    return reports.take()


def test_successes_of_a_healthy_webhook_are_not_told() -> None:
    assert told(outcome(), outcome()) == []
    assert told(outcome(), failing=frozenset({1})) == [Report(1, succeeded=True)]


def test_failures_are_counted_from_the_last_success() -> None:
    gave_up = failed(verdict=Verdict.FAILED)
    assert told(failed(), gave_up, failed()) == [Report(1, failures=3, given_up=1)]
    assert told(failed(), outcome(), gave_up) == [Report(1, succeeded=True, failures=1, given_up=1)]


def test_what_a_receiver_asks_for_outlives_a_request_that_succeeds_meanwhile() -> None:
    busy, gone = failed(429, hold=60.0), failed(410, verdict=Verdict.FAILED)
    assert told(busy, outcome()) == [Report(1, succeeded=True, hold=60.0)]
    assert told(failed(429, hold=5.0), busy, outcome(), failed(503, hold=9.0)) == [
        Report(1, succeeded=True, failures=1, hold=60.0)
    ]
    assert told(gone, outcome()) == [Report(1, succeeded=True, gone=True)]


def test_a_request_that_our_own_stop_cut_off_says_nothing_of_the_receiver() -> None:
    assert told(failed(error_kind=ErrorKind.SHUTDOWN)) == []


def test_who_failed_or_wants_to_be_left_alone_is_watched_from_then_on() -> None:
    reports = Reports()
    reports.add(failed(429, hold=60.0))
    reports.add(outcome())
    reports.take()
    reports.add(outcome())
    assert reports.take() == [Report(1, succeeded=True)]


def test_what_was_perhaps_not_told_is_told_again_but_for_failures_which_would_be_counted_twice() -> None:
    reports = Reports()
    reports.add(failed(429, hold=60.0))
    taken = reports.take()
    reports.add(failed(503, hold=9.0))
    reports.take_back(taken)
    assert reports.take() == [Report(1, failures=1, hold=60.0)]
    reports.take_back([Report(1, succeeded=True), Report(2, failures=3), Report(3, failures=1, gone=True)])
    assert reports.take() == [Report(1, succeeded=True), Report(3, gone=True)]


@pytest.mark.parametrize(
    ("outcomes", "urgent"),
    [
        ([failed()], False),
        ([outcome(), failed(), outcome()], False),
        ([failed(), failed(), failed()], True),
        ([failed(503, hold=5.0)], True),
        ([failed(410, verdict=Verdict.FAILED)], True),
        ([outcome(claim(webhook_id=2))], True),
    ],
)
def test_what_something_follows_from_is_told_at_once_and_the_rest_may_wait(
    outcomes: list[Outcome], urgent: bool
) -> None:
    reports = Reports()
    reports.failing = frozenset({1, 2})
    for one in outcomes:
        reports.add(one)
    assert reports and reports.urge(3, held={2}) is urgent


def test_the_failure_that_opens_a_circuit_is_told_at_once_also_when_those_before_were_told_already() -> None:
    reports = Reports()
    for number in range(1, 4):
        reports.add(failed())
        assert reports.urge(3, held=()) is (number == 3)
        reports.take()
    reports.add(outcome())
    reports.add(failed())
    assert not reports.urge(3, held=())


def test_without_circuits_no_number_of_failures_is_urgent() -> None:
    reports = Reports()
    reports.add(failed())
    assert not reports.urge(0, held=())
