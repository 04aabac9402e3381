"""One frame of `pgrelay top`, and the rates in it."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pgrelay.cli.output import Output
from pgrelay.cli.top import Rates
from pgrelay.cli.top_frame import _number, _shares, show

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
QUIET = {
    "events_waiting": 0, "deliveries_pending": 0, "deliveries_in_flight": 0, "oldest_due_at": None,
    "oldest_untried_at": None, "failed_last_day": 0, "capture_errors_open": 0, "deadlines_overdue": 0,
    "webhooks_paused": 0, "circuits_open": 0, "webhooks_held": 0, "disabled_last_week": 0,
}  # fmt: skip
NOTHING = {"seconds": 90.0, "attempts": 0, "attempts_failed": 0, "succeeded": 0, "failed": 0, "mean_ms": None}


def daemon(name: str = "relay-1", alive: bool = True) -> dict[str, Any]:
    return {
        "name": name, "alive": alive, "note": "listening", "started_at": NOW - timedelta(hours=3), "heartbeat_at": NOW
    }  # fmt: skip


def webhook(number: int, attempts: int = 10, failed: int = 0, **changed: Any) -> dict[str, Any]:
    return {
        "webhook_id": number, "name": f"hook {number}", "company_id": "1", "attempts": attempts,
        "attempts_failed": failed, "mean_ms": 12.0, "paused": False, "pending_deliveries": 0, "oldest_pending_at": None,
        "is_active": True, "held_until": None, "circuit_open": False, **changed,
    }  # fmt: skip


def failure(number: int) -> dict[str, Any]:
    return {
        "started_at": NOW, "delivery_id": number, "webhook_id": 1, "name": "hook 1", "attempt": 1,
        "error_kind": "timeout", "error_message": "no answer",
    }  # fmt: skip


def frame(rows: int | None = None, color: bool = False, **changed: Any) -> list[str]:
    """The lines of a quiet moment, but for what is `changed`."""
    figures = {
        "at": NOW, "database": "app", "health": QUIET, "daemons": [daemon()], "lately": NOTHING,
        "rates": {"seconds": 10.0, "attempts": 0.0, "succeeded": 0.0, "failed": 0.0}, "webhooks": [], "failures": [],
        **changed,
    }  # fmt: skip
    out = Output(out=io.StringIO(), color=color, columns=None if rows is None else 80)
    show(figures, out, rows=rows)
    return out.out.getvalue().splitlines()


def test_a_quiet_moment_is_four_lines():
    assert frame() == [
        "pgrelay top  app  2026-11-24 08:30:00 UTC",
        "Daemons   relay-1: listening; up 3 h",
        "Rates     0 attempts/s, 0 delivered/s, 0 given up/s",
        "Queue     0 events to expand, 0 pending, 0 in flight",
    ]


def test_trouble_is_told_only_where_there_is_some():
    trouble = {**QUIET, "capture_errors_open": 2, "deadlines_overdue": 1}
    assert frame(health=trouble)[-1] == "Trouble   2 capture errors, 1 deadline overdue"


def test_nobody_running_is_the_first_thing_one_sees():
    assert frame(daemons=[daemon(alive=False)], color=True)[1].startswith("\x1b[31mDaemons   none is running")


def test_many_daemons_take_few_lines():
    lines = frame(daemons=[daemon(f"relay-{number}") for number in range(9)])
    assert [line for line in lines if "relay-" in line][-1].strip() == "relay-3: listening; up 3 h"
    assert "          and 5 more" in lines


def test_the_worst_webhooks_are_those_with_most_failures_and_none_that_has_none():
    lines = frame(webhooks=[webhook(1, 90), webhook(2, 50, failed=5), webhook(3, 20, failed=20)])
    worst = lines[lines.index("Worst webhooks") + 2 :]
    assert [line.split()[0] for line in worst] == ["3", "2"]
    assert "100 %" in worst[0] and "10 %" in worst[1]


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "mean"),
        ({"paused": True}, "paused"),
        ({"is_active": False, "paused": True}, "inactive"),
        ({"name": None, "is_active": False}, "(deleted)"),
        ({"held_until": NOW + timedelta(minutes=5)}, "held, goes on in 5 min"),
        ({"held_until": NOW - timedelta(minutes=5)}, "mean"),
        (
            {"held_until": NOW + timedelta(minutes=5), "circuit_open": True},
            "circuit open, probed in 5 min",
        ),
    ],
)
def test_a_webhook_that_is_not_served_as_usual_says_why(changed: dict[str, Any], state: str):
    assert state in "\n".join(frame(webhooks=[webhook(1, **changed)]))
    if state == "mean":
        assert frame(webhooks=[webhook(1, **changed)])[-1].endswith("0")


@pytest.mark.parametrize("rows", range(1, 60))
def test_tables_never_take_more_lines_than_the_window_has(rows: int):
    lines = frame(
        rows,
        webhooks=[webhook(number, failed=1) for number in range(50)],
        failures=[failure(number) for number in range(50)],
    )
    assert len(lines) <= max(rows, 4)


def test_what_one_table_does_not_need_goes_to_the_others():
    assert _shares([1, 0, 50], 30) == [1, 0, 23]
    assert _shares([50, 50, 50], 30) == [7, 7, 7]
    assert _shares([50, 50, 50], 3) == [0, 0, 0]
    assert _shares([50, 50, 2], None) == [10, 10, 2]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.034, "0.034"), (1.25, "1.2"), (99.5, "99.5"), (1204.4, "1,204")]
)
def test_a_rate_has_the_figures_that_matter(value: float, text: str):
    assert _number(value) == text


def reading(seconds: float, attempts: int) -> dict[str, Any]:
    return {
        "at": NOW + timedelta(seconds=seconds),
        "counters": {"attempts": attempts, "succeeded": attempts, "failed": 0},
        "lately": {**NOTHING, "attempts": 45, "succeeded": 45},
    }


def test_the_first_rate_is_of_the_last_minute_and_all_others_of_the_last_ten_seconds():
    rates = Rates()
    assert rates.added_to(reading(0, 1000))["rates"] == {
        "seconds": 90.0, "attempts": 0.5, "succeeded": 0.5, "failed": 0.0
    }  # fmt: skip
    assert rates.added_to(reading(2, 1010))["rates"]["attempts"] == 5.0
    for second in range(3, 30):
        last = rates.added_to(reading(second, 1010 + 7 * (second - 2)))
    assert last["rates"]["seconds"] == pytest.approx(10.0)
    assert last["rates"]["attempts"] == pytest.approx(7.0)


def test_counts_that_went_with_their_webhook_are_no_negative_rate():
    rates = Rates()
    rates.added_to(reading(0, 1000))
    assert rates.added_to(reading(1, 10))["rates"]["attempts"] == 0.0
