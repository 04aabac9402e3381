"""latency: from the moment COMMIT has returned to the writer until the whole request is at the receiver.

A writer commits one row at a time, 200 a second for 20 seconds; then single rows at random moments while all is quiet;
then nothing at all, to see what waiting costs. Writer and receiver take their times from the same clock.
"""

import random
import time

from processor import backends, spent, spent_by
from receivers import Recording, recording
from results import Figure, at_most, percentile
from traffic import write_steadily
from world import World, wait_for

NAME = "latency"
RATE = 200.0


def run(world: World) -> list[Figure]:
    """Steady, idle, waiting."""
    figures = []
    seconds, singles, watch = (5.0, 20, 10.0) if world.quick else (20.0, 100, 60.0)
    with recording() as receiver, world.database("latency") as database:
        database.webhook(receiver.url + "/ok")
        with database.connect() as connection, database.daemon() as daemon:
            write_steadily(connection, RATE, 2.0)  # connections, plans and caches are warm
            database.settle()
            receiver.forget()
            servers = backends(connection)
            ours, theirs = spent(daemon), spent_by(servers)
            committed = write_steadily(connection, RATE, seconds)
            waits = latencies(receiver, committed)
            cost = (spent(daemon) - ours) / len(committed) * 1e6
            cost_of_servers = (spent_by(servers) - theirs) / len(committed) * 1e6
            what = f"{RATE:.0f} events/s for {seconds:.0f} s"
            figures += spread(NAME, what, waits, p50=2, p99=12)
            figures.append(Figure(NAME, "    (processor time of the daemon per event)", cost, "µs"))
            figures.append(
                Figure(NAME, "    (processor time of its backends per event)", cost_of_servers, "µs")
            )

            receiver.forget()
            committed = {}
            for _ in range(singles):
                time.sleep(random.uniform(0.05, 0.3))
                committed |= write_steadily(connection, RATE, 1 / RATE)
            figures += spread(
                NAME, f"{singles} single events, all else quiet", latencies(receiver, committed)
            )

            time.sleep(2)
            ours, theirs, began = spent(daemon), spent_by(servers), time.monotonic()
            time.sleep(watch)
            waited = time.monotonic() - began
            ours, theirs = spent(daemon) - ours, spent_by(servers) - theirs
            ours, theirs = 100 * ours / waited, 100 * theirs / waited
            what = f"idle for {watch:.0f} s: daemon and its backends, of one core"
            figures += [
                Figure(NAME, what, ours + theirs, "%", (), at_most(0.3)),
                Figure(NAME, "    (the daemon)", ours, "%"),
                Figure(NAME, "    (its backends)", theirs, "%"),
            ]
    return figures


def latencies(receiver: Recording, committed: dict[int, int], path: str = "/ok") -> list[float]:
    """Milliseconds for each committed row, once all have arrived; negative when the request came first."""

    def arrived() -> dict[int, int]:
        return {arrival.resource_id: arrival.at for arrival in receiver.arrivals() if arrival.path == path}

    wait_for(lambda: committed.keys() <= arrived().keys(), "all events to arrive", 60, every=0.5)
    found = arrived()
    return [(found[row] - at) / 1e6 for row, at in committed.items()]


def spread(
    benchmark: str, what: str, waits: list[float], p50: float | None = None, p99: float | None = None
) -> list[Figure]:
    """Median, 99th percentile and worst, in milliseconds."""
    return [
        Figure(
            benchmark, f"{what}: p50", percentile(waits, 0.5), "ms", (), None if p50 is None else at_most(p50)
        ),
        Figure(
            benchmark,
            f"{what}: p99",
            percentile(waits, 0.99),
            "ms",
            (),
            None if p99 is None else at_most(p99),
        ),
        Figure(benchmark, "    (longest)", max(waits), "ms"),
    ]
