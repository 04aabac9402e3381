"""pinned: whether leasing gets slower while somebody holds an old snapshot, which keeps Postgres from clearing up.

Calls the daemon's own SQL verbs, 200 deliveries at a time: new rows are captured, leased, recorded as delivered.
Once leased as they are expanded, once claimed from the backlog, for 500,000 deliveries each, under a REPEATABLE
READ transaction that took its snapshot beforehand. Compares the median time of a call in the first 10,000 with that
in the last 10,000.
"""

import asyncio
import time

from results import Figure, at_most, percentile
from traffic import delivered, insert_rows
from world import Database, World

from pgrelay.db.connect import Link, connect
from pgrelay.db.store import Store
from pgrelay.delivery import Claim

NAME = "pinned"
BATCH = 200


def run(world: World) -> list[Figure]:
    """Expand, then claim, each in a database of its own."""
    figures = []
    number, edge = (20_000, 4_000) if world.quick else (500_000, 10_000)
    for verb in ("expand", "claim"):
        with world.database(f"pinned_{verb}") as database:
            database.webhook("http://127.0.0.1:9/")
            with database.connect(autocommit=False) as pin:
                pin.execute("set transaction isolation level repeatable read")
                pin.execute("select count(*) from public.branches")
                times, records = asyncio.run(_calls(database, verb, number))
        calls = edge // BATCH
        for what, found in ((verb, times), ("record", records)):
            first, last = percentile(found[:calls], 0.5), percentile(found[-calls:], 0.5)
            name = f"{what} of {BATCH}" + (f" (after {verb})" if what == "record" else "")
            name += f", old snapshot held: the last {edge:,} of {number:,}, against the first"
            figures += [
                Figure(NAME, name, last / first, "×", (), at_most(2)),
                Figure(NAME, "    (median of the first)", first * 1e3, "ms"),
                Figure(NAME, "    (median of the last)", last * 1e3, "ms"),
            ]
    return figures


async def _calls(database: Database, verb: str, number: int) -> tuple[list[float], list[float]]:
    """Seconds of each call of the verb, and of each record."""
    link = Link(lambda: connect(database.dsn, application_name="pgrelay benchmark"))
    store = Store(link)
    times: list[float] = []
    records: list[float] = []
    try:
        daemon_id = await store.sign_on(name="benchmark", host="", pid=0, version="", lease=3600.0)
        floor = float("-inf")
        with database.connect() as application:
            for _ in range(number // BATCH):
                insert_rows(application, BATCH)
                began = time.monotonic()
                expansion = await store.expand(
                    daemon_id, limit=BATCH, room=BATCH if verb == "expand" else 0, free={}, default_free=BATCH
                )
                claims: list[Claim] = expansion.claims
                if verb == "claim":
                    ((webhook_id, _),) = expansion.backlog.items()
                    began = time.monotonic()
                    claims = await store.claim(daemon_id, [(webhook_id, BATCH, floor)])
                    floor = max(claim.due or floor for claim in claims)
                times.append(time.monotonic() - began)
                assert len(claims) == BATCH
                began = time.monotonic()
                await store.record(
                    daemon_id, "benchmark", [delivered(claim, began) for claim in claims], began
                )
                records.append(time.monotonic() - began)
    finally:
        await link.close()
    return times, records
