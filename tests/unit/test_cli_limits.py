"""A webhook's limits and health in words."""

from datetime import UTC, datetime, timedelta

import pytest

from pgrelay.cli.limits import limits_of, standing

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WEBHOOK = {
    "is_active": True,
    "state": "healthy",
    "max_retry_attempts": 3,
    "retry_schedule": None,
    "max_concurrency": None,
    "rate_limit_per_second": None,
    "ordering": "none",
    "owner_daemon": None,
    "disabled_at": None,
    "disabled_reason": None,
    "failures_in_row": 0,
    "failing_since": None,
    "circuit_open": False,
    "held_until": None,
}


def lines(**facts):
    found = limits_of({**WEBHOOK, **facts}, (60.0, 60.0), NOW)
    return {name: words for name, words in found.items() if words is not None}


def test_of_a_webhook_without_limits_only_its_attempts_are_told():
    assert lines() == {
        "attempts": "at most 3, waiting 1 min and 1 min between them (the configuration's schedule)"
    }


@pytest.mark.parametrize(
    ("most", "schedule", "words"),
    [
        (3, [10, 60], "at most 3, waiting 10 s and 1 min between them"),
        (5, [10, 60], "at most 5, waiting 10 s and 1 min between them"),
        (
            2,
            [10, 60, 600],
            "at most 2, waiting 10 s between them; max_attempts=4 would use all of its schedule",
        ),
        (2, [], "at most 2, waiting 1 min between them"),
        (1, [10], "one alone"),
    ],
)
def test_waits_are_told_as_far_as_they_matter(most, schedule, words):
    assert lines(max_retry_attempts=most, retry_schedule=schedule)["attempts"] == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (20.0, "at most 20 requests a second"),
        (1.0, "at most 1 request a second"),
        (0.5, "at most 0.5 requests a second (one in 2 s)"),
    ],
)
def test_a_rate_is_told_so_that_one_can_picture_it(rate, words):
    assert lines(rate_limit_per_second=rate)["rate"] == words


def test_a_limited_webhook_has_one_daemon_while_it_is_active():
    assert lines(max_concurrency=1, owner_daemon="relay-1")["served by"].startswith("daemon relay-1 alone")
    assert lines(max_concurrency=1)["served by"].endswith("none serves it now")
    assert "served by" not in lines(max_concurrency=1, is_active=False)


def test_health_is_told_with_what_comes_next():
    failing = {"failures_in_row": 12, "failing_since": NOW - timedelta(hours=1)}
    soon = NOW + timedelta(seconds=30)
    told = "12 attempts in a row failed, the first 1 h ago"
    assert lines(**failing)["health"] == told
    assert (
        lines(**failing, circuit_open=True, held_until=soon)["health"]
        == f"{told}; circuit open, next probe in 30 s"
    )
    assert (
        lines(**failing, circuit_open=True, held_until=NOW)["health"]
        == f"{told}; circuit open, next probe now"
    )
    assert lines(held_until=soon)["health"] == "nothing is sent for 30 s, as it asked (Retry-After)"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "healthy"),
        ({"state": "circuit open", "circuit_open": True}, "circuit open"),
        ({"state": "inactive", "is_active": False}, "inactive"),
        (
            {"state": "disabled", "disabled_at": NOW - timedelta(days=1), "disabled_reason": "410 Gone"},
            "disabled by pgrelay 1 d ago: 410 Gone",
        ),
    ],
)
def test_its_state_is_a_word_and_for_a_disabled_one_a_reason(facts, words):
    assert standing({**WEBHOOK, **facts}, NOW) == words
