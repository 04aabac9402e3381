"""What a benchmark found: one figure beside its target, and how figures are summed up and printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal


class Skipped(Exception):
    """A benchmark cannot run here; the text says what it needs."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure has to be at least, or at most."""

    bound: Literal["at least", "at most"]
    value: float

    def met_by(self, value: float) -> bool:
        return value >= self.value if self.bound == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.bound == 'at least' else '≤'} {_short(self.value)}"


def at_least(value: float) -> Target:
    return Target("at least", value)


def at_most(value: float) -> Target:
    return Target("at most", value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Without a target it is information."""

    benchmark: str
    what: str
    value: float
    unit: str
    #: What the value sums up, one for each repetition; the spread is their smallest and largest.
    samples: Sequence[float] = field(default=())
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.target.met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "samples": list(self.samples), "met": self.met}


def summed_up(
    benchmark: str, what: str, samples: Sequence[float], unit: str, target: Target | None = None
) -> Figure:
    """The median of repetitions."""
    return Figure(benchmark, what, median(samples), unit, samples, target)


def percentile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that this part of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


def table(figures: Sequence[Figure]) -> str:
    """All figures as aligned text."""
    heads = ("benchmark", "what", "median", "min … max", "target", "")
    rows = [
        (
            figure.benchmark,
            figure.what,
            f"{_short(figure.value)} {figure.unit}".rstrip(),
            f"{_short(min(figure.samples))} … {_short(max(figure.samples))}"
            if len(figure.samples) > 1
            else "",
            "" if figure.target is None else f"{figure.target} {figure.unit}".rstrip(),
            {None: "", True: "met", False: "NOT MET"}[figure.met],
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rules = tuple("-" * width for width in widths)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, rules, *rows)
    )


def _short(value: float) -> str:
    """Three digits or so, as many as any of these measurements is worth."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
