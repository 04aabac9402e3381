"""isolation: whether a webhook notices that another one never answers.

A healthy webhook gets 100 events a second: alone, and beside a webhook of another tenant that has a million deliveries
pending and takes requests without ever answering, so that each occupies the daemon until it times out (10 s).
"""

from latency import latencies, spread
from receivers import recording
from results import Figure, at_most, percentile
from traffic import insert_rows, write_steadily
from world import World, wait_for

NAME = "isolation"
RATE = 100.0


def run(world: World) -> list[Figure]:
    """Alone, then beside."""
    seconds, backlog = (5.0, 5_000) if world.quick else (30.0, 1_000_000)
    with recording() as receiver, world.database("isolation") as database:
        database.webhook(receiver.url + "/ok", company="1")
        database.webhook(receiver.url + "/silent", company="2", name="silent")
        with database.connect() as connection, database.daemon():
            write_steadily(connection, RATE, 2.0)
            receiver.forget()
            alone = latencies(receiver, write_steadily(connection, RATE, seconds))

            for _ in range(10):
                insert_rows(connection, backlog // 10, company=2)

            def asked() -> int:
                return sum(arrival.path == "/silent" for arrival in receiver.arrivals())

            def all_expanded() -> bool:
                row = connection.execute("select count(*) from pgrelay.delivery_queue").fetchone()
                return row is not None and row[0] >= backlog

            wait_for(all_expanded, "its deliveries to be pending", 900, every=2.0)
            wait_for(lambda: asked() > 0, "the silent one to be asked", 60)
            beside = latencies(receiver, write_steadily(connection, RATE, seconds))
            requests = asked()
    ratio = percentile(beside, 0.99) / percentile(alone, 0.99)
    return [
        *spread(NAME, f"{RATE:.0f} events/s alone", alone),
        *spread(NAME, f"{RATE:.0f} events/s beside a silent webhook with {backlog:,} pending", beside),
        Figure(NAME, "p99 beside, of p99 alone", ratio, "×", (), at_most(1.5)),
        Figure(NAME, "    (requests that the silent one got)", requests, ""),
    ]
