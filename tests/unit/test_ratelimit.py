"""Whatever requests do on their way, no second of the receiver's sees more of them than allowed."""

import heapq

from hypothesis import given
from hypothesis import strategies as st

from pgrelay.ratelimit import RateLimit

RATES = st.one_of(st.floats(0.05, 5), st.integers(1, 200).map(float))


def drive(rate: float, connecting: list[float], travelling: list[float], until: float = 4.0) -> list[float]:
    """When requests arrive that begin as soon as they may; each takes so long to connect, then to travel."""
    limit, now, arrivals, number = RateLimit(rate, began=0.0), 0.0, [], 0
    unsent: list[tuple[float, int, object]] = []
    while now < until:
        while unsent and unsent[0][0] <= now:
            sent_at, _, request = heapq.heappop(unsent)
            request.sent_at = sent_at
        wait = limit.wait(now)
        if wait <= 0:
            request = limit.begin(now)
            sent_at = now + connecting[number % len(connecting)]
            heapq.heappush(unsent, (sent_at, number, request))
            arrivals.append(sent_at + travelling[number % len(travelling)])
            number += 1
        else:
            now = min(now + wait + 1e-9, unsent[0][0]) if unsent else now + wait + 1e-9
    return sorted(arrivals)


@given(
    RATES,
    st.lists(st.floats(0, 3), min_size=1, max_size=7),
    st.lists(st.floats(0, 0.029), min_size=1, max_size=5),
)
def test_no_second_sees_more_than_allowed(rate, connecting, travelling):
    arrivals = drive(rate, connecting, travelling)
    most, window = max(1, int(rate)), max(1.0, 1 / rate)
    for first, one_too_many in zip(arrivals, arrivals[most:], strict=False):
        assert one_too_many - first > window - 1e-6


@given(st.integers(1, 200))
def test_nearly_all_that_is_allowed_is_used(rate):
    arrivals = drive(float(rate), [0.001], [0.001], until=4.1)
    assert len(arrivals) >= 0.95 * 3 * rate - 1


def test_they_are_spread_over_the_second_but_for_a_small_burst():
    arrivals = drive(100.0, [0.0], [0.0], until=4.0)
    gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[20:], strict=False)]
    assert len(gaps) > 200 and min(gaps) > 0.09


def test_what_somebody_else_sent_before_counts():
    limit = RateLimit(10, began=5.0)
    assert limit.wait(5.0) >= 1.0 and limit.wait(6.1) <= 0


def test_what_began_under_the_limit_before_and_is_not_sent_yet_counts_until_it_is():
    before = RateLimit(10, began=0.0)
    slow, sent = before.begin(2.0), before.begin(2.1)
    sent.sent_at = 2.2
    assert before.unsent == [slow]
    limit = RateLimit(1, began=3.0, unsent=before.unsent)
    assert limit.wait(5.0) > 0
    slow.sent_at = 5.1
    assert limit.wait(5.2) > 0.9 and limit.wait(6.2) <= 0
