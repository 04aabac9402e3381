"""How values read on a terminal, and that nothing received can drive it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.cli.text import count, cut, indented, listed, printable, width
from pgrelay.spans import duration, relative

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (0.9999, "1 s"),
        (41, "41 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (356_400, "4 d 3 h"),
        (-41, "41 s"),
    ],
)
def test_a_duration_has_at_most_its_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_moments_are_told_relative_to_now():
    assert relative(NOW - timedelta(seconds=41), NOW) == "41 s ago"
    assert relative(NOW + timedelta(minutes=3), NOW) == "in 3 min"
    assert relative(NOW + timedelta(milliseconds=900), NOW) == "now"
    assert relative(None, NOW) == "never"
    assert relative(None, NOW, "") == ""


def test_counts_agree_with_their_nouns():
    assert count(1, "delivery", "deliveries") == "1 delivery"
    assert count(1204, "delivery", "deliveries") == "1,204 deliveries"
    assert count(0, "event") == "0 events"


def test_lists_read_as_sentences_and_end_somewhere():
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed("abcde", most=2) == "a, b and 3 more"


def test_escape_sequences_become_harmless():
    assert printable("a\x1b[31mred\x07") == "a\\x1b[31mred\\x07"
    assert printable("one\r\ntwo\tthree") == "one⏎two three"
    assert printable("one\r\ntwo\tthree", lines=True) == "one\ntwo\tthree"
    assert printable("\u202etxt") == "\\u202etxt"


@given(st.text())
def test_whatever_was_received_nothing_unprintable_is_shown(text):
    assert printable(text).isprintable()
    assert all(line.replace("\t", "").isprintable() for line in printable(text, lines=True).split("\n"))


@given(st.text(), st.integers(1, 40))
def test_a_cut_text_fits(text, columns):
    shown = printable(text)
    assert width(cut(shown, columns)) <= columns
    assert cut(shown, 10_000) == shown


def test_wide_characters_take_two_columns_and_combining_ones_none():
    assert (width("ab"), width("日本"), width("e\u0301")) == (2, 4, 1)


def test_empty_lines_are_not_indented():
    assert indented("a\n\nb") == "  a\n\n  b"
