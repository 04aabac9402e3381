"""Charts as numbers for the templates: pure geometry, in units of the SVG's viewBox."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT, GAP = 720, 160, 4
#: Of a bar that stands for anything at all.
_LEAST = 2.0


class Bar(NamedTuple):
    """One hour: a column of successes, and one of failures upon it."""

    x: float
    width: float
    good_y: float
    good_height: float
    bad_y: float
    bad_height: float
    row: Mapping[str, Any]


class Bars(NamedTuple):
    width: int
    height: int
    #: What the highest column stands for.
    most: int
    bars: list[Bar]


def bars(rows: Sequence[Mapping[str, Any]]) -> Bars:
    """Of rows with `succeeded` and `failed`. A failure among thousands of successes is still seen."""
    most = max((row["succeeded"] + row["failed"] for row in rows), default=0)
    step = WIDTH / max(len(rows), 1)
    found = []
    for index, row in enumerate(rows):
        bad = _height(row["failed"], most)
        good = min(_height(row["succeeded"], most), HEIGHT - bad)
        found.append(
            Bar(
                round(index * step + GAP / 2, 1),
                round(step - GAP, 1),
                round(HEIGHT - good, 1),
                round(good, 1),
                round(HEIGHT - good - bad, 1),
                round(bad, 1),
                row,
            )
        )
    return Bars(WIDTH, HEIGHT, most, found)


def _height(number: int, most: int) -> float:
    return max(_LEAST, HEIGHT * number / most) if number else 0.0


#: Upper ends of the buckets that durations are counted in, milliseconds; above the last is taken for twice that.
BOUNDS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 20_000)


def quantile(buckets: Sequence[int] | None, share: float) -> float | None:
    """Milliseconds that this share of the requests took at most, as if evenly spread in a bucket; None of none."""
    wanted = sum(buckets or ()) * share
    if not buckets or not wanted:
        return None
    low, below = 0.0, 0
    for number, high in zip(buckets, BOUNDS, strict=True):
        if number and below + number >= wanted:
            return low + (high - low) * (wanted - below) / number
        low, below = float(high), below + number
    return low


class Point(NamedTuple):
    """One hour: the middle of its column, and how long half and 95 % of its requests took at most."""

    x: float
    median: float
    median_y: float
    slow: float
    slow_y: float
    row: Mapping[str, Any]


class Lines(NamedTuple):
    width: int
    height: int
    #: Milliseconds at the top.
    most: float
    points: list[Point]


def lines(rows: Sequence[Mapping[str, Any]]) -> Lines:
    """Of rows with `buckets`; those without requests have no point."""
    step = WIDTH / max(len(rows), 1)
    found = [
        (index, row, quantile(row["buckets"], 0.5), quantile(row["buckets"], 0.95))
        for index, row in enumerate(rows)
    ]
    most = max((slow for *_, slow in found if slow is not None), default=0.0)

    def y(value: float) -> float:
        return round(HEIGHT - 4 - (HEIGHT - 8) * value / most, 1) if most else float(HEIGHT)

    points = [
        Point(round((index + 0.5) * step, 1), median, y(median), slow, y(slow), row)
        for index, row, median, slow in found
        if median is not None and slow is not None
    ]
    return Lines(WIDTH, HEIGHT, most, points)
