"""What is claimed for whom: everybody's share, and nothing claimed that is not due."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.lanes import A_FEW, Lane, Lanes
from pgrelay.ratelimit import RateLimit
from support.factories import claim

PLENTY = 10_000
#: A moment, long after all others.
LATER = 1e6


def lanes(prefetch: int = 10, capacity: int = 100, reserve: int = 20) -> Lanes:
    return Lanes(prefetch=prefetch, capacity=capacity, reserve=reserve)


def hold(made: Lanes, webhook_id: int, ready: int = 0, running: int = 0) -> Lane:
    lane = made.of(webhook_id)
    lane.ready.extend((1, claim(number, webhook_id)) for number in range(ready))
    lane.running += running
    return lane


def places(wanted: list[tuple[int, int, float]]) -> dict[int, int]:
    return {webhook_id: count for webhook_id, count, _ in wanted}


def test_a_backlog_is_claimed_as_far_as_the_lane_may_hold():
    made = lanes()
    made.has_backlog(1)
    assert places(made.wanted(PLENTY, PLENTY)) == {1: 10}
    hold(made, 1, ready=2, running=3)
    assert places(made.wanted(PLENTY, PLENTY)) == {1: 5}


def test_a_lane_that_still_has_more_than_half_does_not_ask_yet():
    made = lanes()
    made.has_backlog(1)
    lane = hold(made, 1, ready=6)
    assert made.wanted(PLENTY, PLENTY) == [] and not made.is_hungry()
    lane.ready.pop()
    assert places(made.wanted(PLENTY, PLENTY)) == {1: 5} and made.is_hungry()


def test_lanes_without_a_backlog_ask_for_nothing():
    made = lanes()
    hold(made, 1, running=1)
    made.due_at(2, 50.0)
    assert made.wanted(PLENTY, PLENTY) == []


def test_who_holds_least_is_served_first_when_the_batch_is_small():
    made = lanes()
    for webhook_id, running in ((1, 4), (2, 0), (3, 2)):
        made.has_backlog(webhook_id)
        hold(made, webhook_id, running=running)
    assert list(places(made.wanted(PLENTY, 1))) == [2]
    assert list(places(made.wanted(PLENTY, 2))) == [2, 3]


@given(
    held=st.dictionaries(st.integers(1, 50), st.integers(0, 12), max_size=30),
    room=st.integers(-30, 60),
    batch=st.integers(1, 40),
)
def test_shares_are_fair_and_never_more_than_there_is_room_for(held: dict[int, int], room: int, batch: int):
    made = lanes()
    for webhook_id, running in held.items():
        made.has_backlog(webhook_id)
        hold(made, webhook_id, running=running)
    wanted = places(made.wanted(room, batch))
    assert sum(wanted.values()) <= max(0, min(batch, room if room > 0 else room + made.reserve))
    assert all(held[webhook_id] + count <= made.prefetch for webhook_id, count in wanted.items())
    if room <= 0:
        assert all(held[webhook_id] + count <= A_FEW for webhook_id, count in wanted.items())
    hungry = {webhook_id: running for webhook_id, running in held.items() if running * 2 <= made.prefetch}
    for served in wanted:
        # nobody who holds less goes without while another is served
        assert all(poorer in wanted for poorer in hungry if hungry[poorer] < hungry[served])


@pytest.mark.parametrize("count", [60, 1000])
def test_of_many_with_a_backlog_each_has_its_turn_however_fast_the_others_are(count: int):
    made, served = lanes(capacity=PLENTY), Counter[int]()
    for webhook_id in range(count):
        made.has_backlog(webhook_id)
    for _ in range(count // 10):
        wanted = made.wanted(PLENTY, 20)  # and all of it is delivered before the next claim
        served.update(places(wanted))
        made.claimed(
            wanted,
            [claim(n, webhook_id) for webhook_id, places, _ in wanted for n in range(places)],
            LATER,
        )
    assert set(served.values()) == {2}


def test_without_room_only_those_who_hold_a_few_at_most_are_served_out_of_the_reserve():
    made = lanes(capacity=20, reserve=6)
    hold(made, 1, ready=5, running=5)
    hold(made, 2, running=10)
    for webhook_id in (1, 2, 3, 4):
        made.has_backlog(webhook_id)
    room = made.room(20)
    assert room == 0
    assert places(made.wanted(room, PLENTY)) == {3: 3, 4: 3}
    assert made.free(room) == (6, {1: 0, 2: 0, 3: 0, 4: 0}, A_FEW)
    assert made.wanted(made.room(26), PLENTY) == []
    assert made.free(made.room(27))[0] == 0


def test_new_events_are_leased_at_once_unless_older_ones_wait():
    made = lanes()
    hold(made, 1, ready=2, running=1)
    made.has_backlog(2)
    hold(made, 3, running=12)
    assert made.free(made.room(15)) == (85, {1: 7, 2: 0, 3: 0}, 10)


def test_a_claim_that_gave_less_than_asked_says_the_backlog_is_done():
    made = lanes()
    made.has_backlog(1)
    made.has_backlog(2)
    wanted = made.wanted(PLENTY, PLENTY)
    made.claimed(wanted, [claim(n, 1, due=float(n)) for n in range(10)] + [claim(99, 2, due=7.0)], LATER)
    assert made.backlogged == {1}
    assert made.of(1).backlog and not made.of(2).backlog


def test_the_floor_rises_with_what_was_claimed_and_sinks_to_what_is_found_below_it():
    made = lanes()
    made.has_backlog(1)
    made.claimed(made.wanted(PLENTY, PLENTY), [claim(n, 1, due=100.0 + n) for n in range(10)], LATER)
    assert made.wanted(PLENTY, PLENTY) == [(1, 10, 109.0)]
    made.has_backlog(1, due=120.0)
    assert made.wanted(PLENTY, PLENTY) == [(1, 10, 109.0)]
    made.has_backlog(1, due=50.0)
    assert made.wanted(PLENTY, PLENTY) == [(1, 10, 50.0)]


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), max_size=40), st.floats(0, 100))
def test_lanes_have_a_backlog_from_the_moment_something_falls_due(due: list[tuple[float, int]], now: float):
    made = lanes()
    for moment, webhook_id in due:
        made.due_at(webhook_id, moment)
    assert made.next_due() == min((moment for moment, _ in due), default=None)
    made.fall_due(now)
    assert made.backlogged == {webhook_id for moment, webhook_id in due if moment <= now}
    assert made.next_due() == min((moment for moment, _ in due if moment > now), default=None)


@given(st.floats(0.01, 1e6), st.floats(0.0, 90_000.0))
def test_a_retry_is_looked_for_no_earlier_than_it_is_due_and_little_later(now: float, wait: float):
    made = lanes()
    made.due_at(1, now + wait, wait)
    moment = made.next_due()
    assert moment is not None and now + wait <= moment <= now + wait + max(0.005, wait / 100) + 1e-6


def test_a_hundred_thousand_retries_that_wait_for_an_hour_take_next_to_no_memory():
    made = lanes()
    for number in range(100_000):
        made.due_at(1, number / 50 + 3600.0, 3600.0)
    moments = 0
    while (moment := made.next_due()) is not None:
        made.fall_due(moment)
        moments += 1
    assert moments < 200


def test_idle_lanes_are_forgotten_and_others_are_not():
    made = lanes()
    hold(made, 1, ready=1)
    hold(made, 2, running=1)
    made.has_backlog(3)
    made.of(4)
    made.forget_idle()
    assert {lane.webhook_id for lane in made} == {1, 2, 3}
    assert made.find(4) is None


def test_nothing_is_claimed_for_a_webhook_that_is_silent():
    made = lanes()
    for webhook_id in (1, 2):
        made.has_backlog(webhook_id)
    made.silent = {1, 3}
    assert places(made.wanted(PLENTY, PLENTY)) == {2: 10}
    _, by_webhook, _ = made.free(PLENTY)
    assert (by_webhook[1], by_webhook[3]) == (0, 0)
    made.silent = {1, 2}
    assert made.wanted(PLENTY, PLENTY) == [] and not made.is_hungry()


def work_off(made: Lanes, rounds: int, pause: float, fraction: float = 1.0) -> Lane:
    """Claim for webhook 1 so many times, after pauses in which all that it holds was used up."""
    now = 0.0
    for _ in range(rounds):
        made.has_backlog(1)
        wanted = made.wanted(PLENTY, PLENTY)
        now += pause
        given = [claim(n, 1) for n in range(int(wanted[0][1] * fraction))]
        made.claimed(wanted, given, now)
    return made.of(1)


def test_more_is_held_for_a_receiver_that_is_fast_than_for_one_that_is_not():
    assert work_off(lanes(), 3, pause=0.01).room(10) > 25
    assert work_off(lanes(), 3, pause=1.0).room(10) == 10
    assert work_off(lanes(), 1, pause=0.01).room(10) == 10  # nobody knows yet


def test_what_is_held_for_a_fast_receiver_leaves_room_for_the_others():
    made = lanes(capacity=100)
    assert work_off(made, 50, pause=0.0001).room(10) == 10 + 100 // 4


def test_a_receiver_that_slows_down_loses_what_was_held_ahead():
    made = lanes()
    assert work_off(made, 3, pause=0.01).ahead > 0
    made.has_backlog(1)
    wanted = made.wanted(PLENTY, PLENTY)
    made.claimed(wanted, [claim(n, 1) for n in range(wanted[0][1])], 60.0)
    assert made.of(1).ahead == 0


def test_a_rate_limit_says_how_much_is_held():
    made = lanes()
    made.of(1).rate = RateLimit(3.0, 0.0)
    assert work_off(made, 3, pause=0.01).room(10) == 3 + A_FEW
