"""A bar chart as numbers for the template: pure geometry, in units of the SVG's viewBox."""

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
