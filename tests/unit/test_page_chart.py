"""The charts of the page, as numbers."""

import pytest

from pgrelay.page.chart import BOUNDS, HEIGHT, lines, quantile


def buckets(**counts: int) -> list[int]:
    return [counts.get(f"le_{bound}", 0) for bound in BOUNDS]


@pytest.mark.parametrize(
    ("counts", "share", "found"),
    [
        (buckets(), 0.5, None),
        (None, 0.5, None),
        (buckets(le_100=10), 0.5, 75.0),
        (buckets(le_100=10), 1.0, 100.0),
        (buckets(le_5=90, le_1000=10), 0.5, pytest.approx(2.7777, abs=0.001)),
        (buckets(le_5=90, le_1000=10), 0.95, 750.0),
        (buckets(le_20000=1), 1.0, 20_000.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(counts: list[int] | None, share: float, found: float | None):
    assert quantile(counts, share) == found


def test_hours_without_requests_have_no_point_and_the_slowest_is_at_the_top():
    chart = lines([{"buckets": None}, {"buckets": buckets(le_100=1)}, {"buckets": buckets(le_1000=1)}])
    assert [point.row["buckets"] is not None for point in chart.points] == [True, True]
    assert chart.points[-1].slow_y == 4 and chart.most == pytest.approx(975)
    assert all(0 <= point.slow_y <= point.median_y <= HEIGHT for point in chart.points)
    assert lines([]).points == []
