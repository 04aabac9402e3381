"""How the demonstration looks: columns that line up, nothing wider than the terminal, colours only where wanted."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.demo.hooks import Arrival
from pgrelay.demo.lines import (
    MOST_LINES,
    Event,
    Failure,
    milliseconds,
    percentile,
    show_arrivals,
    show_events,
    show_failures,
)
from pgrelay.demo.screen import Screen

ARRIVAL = Arrival("crm.example", "callback.created", "k", "7", "1", 1, 200, b"{}", 0.0, "")
FAILURE = Failure(1, "mail.example", "callback.completed", "7", 1, 3, 500, "status", "pending", 0.98)


def shown(draw, *arguments, **options) -> list[str]:
    """The lines that drawing on a screen gives."""
    out = io.StringIO()
    draw(Screen(out, **options), *arguments)
    return out.getvalue().splitlines()


def test_an_arrival_tells_who_what_how_late_and_that_it_is_genuine():
    [line] = shown(show_arrivals, [ARRIVAL], lambda arrival: 0.012)
    words = r" +recv +crm.example +200 +created #7 +12 ms after commit +verified \(standard \+ sha256\)"
    assert re.fullmatch(words, line)


def test_a_second_attempt_tells_its_number_instead_of_the_time_since_the_commit():
    [line] = shown(show_arrivals, [ARRIVAL._replace(attempt=2)], lambda arrival: 1.0)
    assert "attempt 2" in line and "after commit" not in line


def test_an_arrival_whose_event_nobody_knows_is_shown_too():
    [line] = shown(show_arrivals, [ARRIVAL._replace(problem="forged")], lambda arrival: None)
    assert "wrong: forged" in line


def test_a_failure_tells_when_it_is_tried_again_or_that_it_was_given_up():
    assert shown(show_failures, [FAILURE])[0].endswith(
        "attempt 1 of 3      status 500; next attempt in 1.0 s"
    )
    [dead] = shown(show_failures, [FAILURE._replace(error_kind="connect", status="failed", retry_in=None)])
    assert dead.split()[0] == "dead" and dead.endswith("cannot connect; given up: dead letter")


def test_events_arrivals_and_failures_line_up():
    event = Event(1, "callback.created", "7", "1", "callback_7_created_17", 0.0)
    lines = [
        *shown(show_events, [event]),
        *shown(show_arrivals, [ARRIVAL], lambda arrival: 0.0),
        *shown(show_failures, [FAILURE]),
    ]
    columns = [
        lines[0].index("company 1"),
        lines[1].index("created #7"),
        lines[2].index("completed #7"),
    ]
    assert len(set(columns)) == 1


def test_many_at_once_are_counted():
    many = [ARRIVAL] * (MOST_LINES + 1)
    [line] = shown(show_arrivals, many, lambda arrival: 0.0)
    assert f"{MOST_LINES + 1} requests" in line
    assert len(shown(show_arrivals, many[:-1], lambda arrival: 0.0)) == MOST_LINES
    [line] = shown(show_failures, [FAILURE] * 10)
    assert "10 attempts failed: status" in line


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_live_lines_are_cut_to_the_terminal_and_copied_ones_are_not(columns):
    [line] = shown(show_arrivals, [ARRIVAL], lambda arrival: 0.0, columns=columns)
    assert len(line) <= columns
    statement = "select " + ", ".join(f"column_{number}" for number in range(40))
    assert statement in shown(lambda screen: screen.sql(statement), columns=columns)[0]


def test_colours_come_only_when_asked_for_and_change_no_text():
    plain = shown(show_arrivals, [ARRIVAL], lambda arrival: 0.0)
    colored = shown(show_arrivals, [ARRIVAL], lambda arrival: 0.0, color=True)
    assert "\x1b[" in colored[0] and re.sub(r"\x1b\[[0-9;]*m", "", colored[0]) == plain[0]


def test_a_terminal_is_asked_and_no_color_is_respected(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def is_colored(**variables: str) -> bool:
        out = Terminal()
        monkeypatch.setattr("sys.stdout", out)
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        Screen.of_terminal().line("app", "x")
        return "\x1b" in out.getvalue()

    assert is_colored()
    assert not is_colored(NO_COLOR="1")
    assert not is_colored(TERM="dumb")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert not Screen.of_terminal()._color


def test_a_stream_that_knows_few_characters_gets_others_instead():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Screen(out).print("wait … ×")
    out.seek(0)
    assert out.read() == "wait ? ?\n"


def test_numbers_of_a_table_stand_to_the_right_and_nulls_are_empty():
    rows = [{"name": "a", "count": 5}, {"name": "bbbbb", "count": None}, {"name": None, "count": 1000}]
    lines = [line.strip("\n")[10:] for line in shown(lambda screen: screen.table(rows))]
    assert lines == ["name   count", "a          5", "bbbbb", "        1000"]
    assert shown(lambda screen: screen.table([])) == []


@given(st.lists(st.floats(0, 100), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_value_that_so_many_percent_do_not_exceed(values, percent):
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_durations_read_as_milliseconds_and_from_a_second_on_as_seconds():
    assert [milliseconds(seconds) for seconds in (0.0034, 0.25, 2.64)] == ["3 ms", "250 ms", "2.6 s"]
