"""Data and talk: what goes where, as what, and how wide."""

import io
import json
import signal
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from pgrelay.cli.output import Column, Output
from pgrelay.errors import Refused

ROWS = [
    {"id": 1, "name": "CRM", "url": "https://example.com/hooks/one"},
    {"id": 22, "name": "Ärger", "url": "https://example.com/two"},
]
COLUMNS = [Column("id", right=True), Column("name"), Column("url", "address")]


def output(**options):
    return Output(out=io.StringIO(), err=io.StringIO(), **options)


def test_a_table_has_aligned_columns_and_no_spaces_at_the_end():
    out = output()
    out.table(ROWS, COLUMNS)
    assert out.out.getvalue().splitlines() == [
        "id  name   address",
        " 1  CRM    https://example.com/hooks/one",
        "22  Ärger  https://example.com/two",
    ]


def test_a_table_fits_the_terminal_by_cutting_its_widest_column_and_no_number():
    out = output(columns=30)
    out.table(ROWS, COLUMNS)
    lines = out.out.getvalue().splitlines()
    assert max(map(len, lines)) == 30
    assert lines[1].endswith("…")
    assert lines[2].startswith("22  Ärger")


def test_a_pipe_gets_every_character():
    out = output(columns=None)
    out.table([{"id": 1, "name": "x" * 500, "url": ""}], COLUMNS)
    assert "x" * 500 in out.out.getvalue()


def test_an_empty_table_is_talk():
    out = output()
    out.table([], COLUMNS, empty="There are none.")
    assert (out.out.getvalue(), out.err.getvalue()) == ("", "There are none.\n")


def test_received_text_cannot_break_a_table():
    out = output()
    out.table([{"id": 1, "name": "a\nb\x1b[2J", "url": None}], COLUMNS)
    assert out.out.getvalue().splitlines()[1:] == [" 1  a⏎b\\x1b[2J"]


def test_json_is_one_document_with_an_object_a_line_and_nothing_else():
    out = output(json=True)
    out.print("for people")
    out.table(ROWS, COLUMNS)
    text = out.out.getvalue()
    assert json.loads(text) == ROWS
    assert json.loads(text.splitlines()[1].rstrip(",")) == ROWS[0]
    out = output(json=True)
    out.table([], COLUMNS, empty="none")
    assert json.loads(out.out.getvalue()) == []


def test_values_of_postgres_become_json():
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    out = output(json=True)
    out.value({"at": moment, "wait": timedelta(minutes=1), "rate": Decimal("99.50")})
    assert json.loads(out.out.getvalue()) == {"at": "2026-11-01T00:00:00+00:00", "wait": 60.0, "rate": 99.5}


def test_colours_are_for_those_who_want_them():
    assert output(color=True).style("x", "red bold") == "\x1b[31;1mx\x1b[0m"
    assert output(color=False).style("x", "red") == "x"
    assert output(color=True).style("x", "") == "x"


@pytest.mark.parametrize(
    ("environ", "no_color", "color"),
    [
        ({"TERM": "xterm"}, False, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, False, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": "xterm"}, True, False),
    ],
)
def test_no_color_and_dumb_terminals_are_respected(monkeypatch, environ, no_color, color):
    monkeypatch.setattr("sys.stdout", Terminal())
    assert Output.of_terminal(environ, json=False, no_color=no_color).color is color


def test_a_pipe_is_never_coloured_nor_fitted(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.StringIO())
    out = Output.of_terminal({"TERM": "xterm"}, json=False, no_color=False)
    assert (out.color, out.columns) == (False, None)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_question_that_nobody_can_answer_is_a_refusal_that_names_yes(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(Refused) as refused:
        output().confirm("Delete it?", yes=False)
    assert "--yes" in refused.value.remedy


@pytest.mark.parametrize(
    ("answer", "goes_on"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_only_a_yes_goes_on(monkeypatch, answer, goes_on):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    out = output()
    try:
        out.confirm("Delete it?", yes=False)
    except Refused:
        assert not goes_on
    else:
        assert goes_on
    assert out.err.getvalue() == "Delete it? [y/N] "


def test_with_yes_nothing_is_asked(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    out = output()
    out.confirm("Delete it?", yes=True)
    assert out.err.getvalue() == ""


def test_what_an_encoding_lacks_does_not_end_the_command():
    buffer = io.BytesIO()
    out = Output(out=io.TextIOWrapper(buffer, encoding="ascii"), err=io.StringIO())
    out.print("✓ fine")
    out.print("✗ not fine: é")
    out.flush()
    assert buffer.getvalue() == b"+ fine\nx not fine: ?\n"


def test_ctrl_c_at_a_question_interrupts_it_whoever_handles_the_signal_otherwise(monkeypatch):
    class Interrupted(Terminal):
        def readline(self):
            signal.raise_signal(signal.SIGINT)
            return "y\n"

    noted = []
    monkeypatch.setattr("sys.stdin", Interrupted())
    before = signal.signal(signal.SIGINT, lambda *_: noted.append(1))
    try:
        with pytest.raises(KeyboardInterrupt):
            output().confirm("Delete it?", yes=False)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert noted == [1], "afterwards the signal is theirs again"
