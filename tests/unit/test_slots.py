"""Who starts when: no more at once than allowed, everybody an equal share, and nothing that waits is forgotten."""

import asyncio
import random

import pytest

from pgrelay.lanes import A_FEW, Lane, Lanes
from pgrelay.slots import Slots, Start
from support.factories import claim


class Requests:
    """Slots whose requests end when the test says so."""

    def __init__(self, *, total: int = 16, per_lane: int = 8) -> None:
        self.lanes = Lanes(prefetch=1000, capacity=1000, reserve=100)
        self.may_start = True
        self.started: list[int] = []
        self.done: list[int] = []
        self.running: dict[int, list[asyncio.Event]] = {}
        self.slots = Slots(
            self.deliver,
            total=total,
            per_lane=per_lane,
            may_start=lambda: self.may_start,
            on_done=lambda lane: self.done.append(lane.webhook_id),
        )

    async def deliver(self, lane: Lane, start: Start) -> None:
        _, of, _ = start
        self.started.append(of.delivery_id)
        end = asyncio.Event()
        mine = self.running.setdefault(of.webhook_id, [])
        mine.append(end)
        try:
            await end.wait()
        finally:
            mine.remove(end)

    async def add(self, webhook_id: int, *deliveries: int) -> Lane:
        lane = self.lanes.of(webhook_id)
        lane.ready.extend((1, claim(delivery, webhook_id)) for delivery in deliveries)
        self.slots.offer(lane)
        await self.settle()
        return lane

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self, webhook_id: int, count: int = 1) -> None:
        for event in self.running[webhook_id][:count]:
            event.set()
        await self.settle()

    def under_way(self) -> dict[int, int]:
        return {webhook_id: len(events) for webhook_id, events in self.running.items() if events}


async def test_no_more_run_than_one_webhook_may_and_the_next_follows_in_order():
    requests = Requests(per_lane=2)
    await requests.add(1, 1, 2, 3, 4)
    assert requests.started == [1, 2]
    await requests.end(1)
    assert requests.started == [1, 2, 3] and requests.slots.running == 2
    await requests.end(1, 2)
    await requests.end(1, 2)
    assert requests.done == [1, 1, 1, 1] and requests.slots.running == 0


async def test_no_more_run_than_there_are_slots_and_the_last_quarter_is_for_those_that_run_a_few():
    requests = Requests(total=16, per_lane=16)
    await requests.add(1, *range(100))
    assert requests.under_way() == {1: 12}
    await requests.add(2, *range(100, 200))
    assert requests.under_way() == {1: 12, 2: A_FEW}
    await requests.add(3, 300)
    assert requests.slots.running == 16 and 300 not in requests.started


async def test_a_slot_that_comes_free_goes_to_the_webhook_that_runs_least():
    requests = Requests(total=8, per_lane=8)
    await requests.add(1, *range(100))
    await requests.add(2, *range(100, 200))
    assert requests.under_way() == {1: 6, 2: 2}
    await requests.add(3, *range(200, 300))
    for expected in ({1: 5, 2: 2, 3: 1}, {1: 4, 2: 2, 3: 2}, {1: 3, 2: 3, 3: 2}, {1: 2, 2: 3, 3: 3}):
        await requests.end(1)
        assert sorted(requests.under_way().items()) == sorted(expected.items())


async def test_webhooks_that_run_one_each_take_turns():
    requests = Requests(total=1, per_lane=1)
    await requests.add(1, 1, 2, 3)
    await requests.add(2, 11, 12)
    await requests.add(3, 21)
    while under_way := requests.under_way():
        await requests.end(next(iter(under_way)))
    assert requests.started == [1, 11, 21, 2, 12, 3]


async def test_a_slot_of_the_reserve_goes_back_to_it():
    requests = Requests(total=16, per_lane=16)
    await requests.add(1, *range(100))
    await requests.add(2, 200)
    assert requests.slots.running == 13
    await requests.end(2)
    assert requests.under_way() == {1: 12} and requests.slots.running == 12


async def test_what_may_not_start_now_waits_until_it_may():
    requests = Requests()
    requests.may_start = False
    lane = await requests.add(1, 1, 2)
    requests.slots.resume(requests.lanes)
    assert requests.started == [] and len(lane.ready) == 2
    requests.may_start = True
    requests.slots.resume(requests.lanes)
    await requests.settle()
    assert requests.started == [1, 2]


async def test_a_slot_is_not_used_again_while_nothing_may_start():
    requests = Requests(per_lane=1)
    lane = await requests.add(1, 1, 2)
    requests.may_start = False
    await requests.end(1)
    assert requests.started == [1] and len(lane.ready) == 1 and requests.slots.running == 0


async def test_once_closed_nothing_starts_and_requests_under_way_may_end():
    requests = Requests(per_lane=1)
    lane = await requests.add(1, 1, 2)
    requests.slots.close()
    drained = asyncio.create_task(requests.slots.drain(10.0))
    await requests.end(1)
    await drained
    assert requests.started == [1] and len(lane.ready) == 1


async def test_the_drain_cuts_off_what_takes_longer():
    requests = Requests()
    await requests.add(1, 1)
    requests.slots.close()
    await requests.slots.drain(0.01)
    assert requests.slots.running == 0 and requests.under_way() == {}


@pytest.mark.parametrize("seed", range(40))
async def test_everything_offered_is_started_whatever_the_order_in_which_requests_end(seed: int):
    chance = random.Random(seed)
    requests = Requests(total=chance.choice([1, 2, 5, 16]), per_lane=chance.choice([1, 2, 8, 20]))
    offered = 0
    for _ in range(150):
        if chance.random() < 0.5:
            size = chance.choice([1, 1, 3, 10])
            await requests.add(chance.randrange(1, 12), *range(offered, offered + size))
            offered += size
        elif under_way := requests.under_way():
            await requests.end(chance.choice(sorted(under_way)), chance.choice([1, 1, 4]))
        assert requests.slots.running == sum(requests.under_way().values()) <= requests.slots._total
        assert max(requests.under_way().values(), default=0) <= requests.slots.per_lane
        waiting = {lane.webhook_id for lane in requests.lanes if lane.ready}
        if requests.slots.running < requests.slots._common:
            # slots lie idle only if every webhook that has something waiting runs all it may
            assert all(requests.lanes.of(w).running == requests.slots.per_lane for w in waiting)
    while under_way := requests.under_way():
        for webhook_id in list(under_way):
            await requests.end(webhook_id, PLENTY)
    assert sorted(requests.started) == list(range(offered))
    assert len(requests.done) == offered


PLENTY = 1000
