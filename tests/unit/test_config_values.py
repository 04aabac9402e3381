"""How durations, sizes and other single values are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.config import values

DECADES = 10 * 365 * 86_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("15", 15.0),
        ("0.1", 0.1),
        ("100ms", 0.1),
        ("1.5s", 1.5),
        ("90s", 90.0),
        ("90 s", 90.0),
        ("5m", 300.0),
        ("2h", 7_200.0),
        ("1.5h", 5_400.0),
        ("30d", 2_592_000.0),
    ],
)
def test_durations_are_seconds(text, seconds):
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("exponential 10s to 60s", (10.0, 20.0, 40.0, 60.0)),
        ("exponential 10s to 40s", (10.0, 20.0, 40.0)),
        ("exponential 1m..5m", (60.0, 120.0, 240.0, 300.0)),
        ("exponential  5s  to  5s", (5.0,)),
        ("10s", None),
    ],
)
def test_a_growing_schedule_doubles_each_wait_up_to_the_last(text, seconds):
    assert values.parse_growth(text) == seconds


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("exponential", "is not a growing schedule: write it like exponential 10s to 6h"),
        ("exponential 10s", "is not a growing schedule: write it like exponential 10s to 6h"),
        ("exponential 10s 6h", "is not a growing schedule: write it like exponential 10s to 6h"),
        (
            "exponential 0s to 6h",
            "does not grow: the first wait must be more than 0s, and the last no shorter",
        ),
        (
            "exponential 6h to 10s",
            "does not grow: the first wait must be more than 0s, and the last no shorter",
        ),
        ("exponential 10x to 6h", "has a wait that is none: '10x' is not a duration"),
    ],
)
def test_a_schedule_that_does_not_grow_is_refused(text, fault):
    with pytest.raises(ValueError, match=f"^{fault}"):
        values.parse_growth(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "-1s",
        "+1s",
        "12:30",
        "1h30m",
        "010",
        "1_000",
        "1e3",
        "0x10",
        ".5s",
        "5.",
        "1w",
        "1S",
        "nan",
        "inf",
        "٣s",
        "1  s",
        " 1s",
        "1" * 16,
        "five minutes",
        "1,5s",
    ],
)
def test_what_is_not_a_duration_is_refused_with_an_example(text):
    with pytest.raises(
        ValueError, match="is not a duration: write seconds, or a number with ms, s, m, h or d"
    ):
        values.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.1, "100ms"),
        (0.0005, "0.0005s"),
        (1.5, "1500ms"),
        (15.0, "15s"),
        (60.0, "1m"),
        (90.0, "90s"),
        (86400.0, "1d"),
        (93600.0, "26h"),
        (315360000.0, "3650d"),
    ],
)
def test_a_duration_is_shown_in_the_largest_unit_that_divides_it(seconds, text):
    assert values.show_duration(seconds) == text


@given(st.floats(min_value=1e-6, max_value=DECADES) | st.integers(0, int(DECADES)).map(float))
def test_a_duration_that_is_shown_reads_back_as_the_same_float(seconds):
    assert values.parse_duration(values.show_duration(seconds)) == seconds


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_showing_a_duration_that_was_read_does_not_change_it(number, unit):
    seconds = values.parse_duration(f"{number}{unit}")
    assert values.parse_duration(values.show_duration(seconds)) == seconds


@given(st.text())
def test_any_text_is_a_finite_duration_or_a_value_error(text):
    try:
        seconds = values.parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds < 10**15 * 86_400


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("16384", 16384),
        ("512B", 512),
        ("16KiB", 16384),
        ("16 KiB", 16384),
        ("1MiB", 1 << 20),
        ("2GiB", 2 << 30),
    ],
)
def test_sizes_are_bytes(text, size):
    assert values.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5MiB", "16kB", "16KB", "1M", "1mib", "010", "1_000", "KiB", "0x10"]
)
def test_what_is_not_a_size_is_refused_with_an_example(text):
    with pytest.raises(
        ValueError, match="is not a size: write bytes, or a whole number with KiB, MiB or GiB"
    ):
        values.parse_size(text)


@given(st.integers(0, 10**14))
def test_a_size_that_is_shown_reads_back_as_the_same_number(size):
    assert values.parse_size(values.show_size(size)) == size


def test_a_size_is_shown_in_the_largest_unit_that_divides_it():
    shown = [values.show_size(size) for size in (0, 1000, 1024, 1536, 1 << 20, 1 << 30)]
    assert shown == ["0", "1000", "1KiB", "1536", "1MiB", "1GiB"]


@given(st.floats(min_value=0, max_value=1, allow_subnormal=False).filter(lambda x: x == 0 or x > 1e-9))
def test_a_number_that_is_shown_reads_back_as_the_same_float(number):
    assert values.parse_number(values.show_number(number)) == number


@pytest.mark.parametrize(
    "text", ["010", "1_000", "0x10", "12:30", "1.0", "1e3", "true", "", "two", "+1", "9" * 5_000]
)
def test_what_yaml_may_call_a_number_is_no_whole_number_here(text):
    with pytest.raises(ValueError, match="is not a whole number"):
        values.parse_integer(text)


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "True", "FALSE", "1", "0", "y", ""])
def test_only_true_and_false_are_booleans(text):
    with pytest.raises(ValueError, match="is neither true nor false"):
        values.parse_boolean(text)
    assert (values.parse_boolean("true"), values.parse_boolean("false")) == (True, False)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("FD00:0012::/32", "fd00:12::/32"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_networks_are_kept_in_their_usual_spelling(text, network):
    assert values.parse_network(text) == network


def test_a_network_with_host_bits_is_refused_and_the_network_around_it_named():
    with pytest.raises(ValueError, match=r"it names an address within 10\.0\.0\.0/8"):
        values.parse_network("10.1.2.3/8")


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10.0.0.0/33", "010.0.0.0/8", "10", "10.0.0/8", "fe80::1%eth0/64", "fe80::1%eth0"],
)
def test_what_is_not_a_network_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"write it like 10\.1\.0\.0/16"):
        values.parse_network(text)


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "naïve", " padded", "padded ", "", "tab\there"])
def test_what_cannot_stand_in_a_header_is_refused(text):
    with pytest.raises(ValueError, match="cannot stand in a header"):
        values.parse_header_value(text)


def test_text_is_shown_plain_only_where_no_yaml_reads_it_as_something_else():
    shown = [
        values.show_text(text) for text in ("main", "a.b-c/1", "yes", "Null", "12:30", "", "a: b", "a #b")
    ]
    assert shown == ["main", "a.b-c/1", '"yes"', '"Null"', '"12:30"', '""', '"a: b"', '"a #b"']
