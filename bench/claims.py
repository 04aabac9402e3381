"""claims: whether finding and leasing work costs more the more of it there is.

Calls the daemon's own SQL verbs, with no daemon running, and takes the processor time of the server process. 200
deliveries of one webhook are claimed, from the floor of the claim before, and recorded as delivered, 50 times: while
it has 20,000 pending, then a million, then beside 5,000 other webhooks that have 20 each. Of those, one delivery of
each of 200 is claimed as well, and webhooks that have work are looked for, 500 at a time.
"""

import asyncio
import time
from collections.abc import Sequence
from statistics import median

from processor import spent
from psycopg import AsyncConnection
from results import Figure, at_most, summed_up
from traffic import delivered, insert_rows
from world import Database, World

from pgrelay.db.connect import Link, connect
from pgrelay.db.store import Store

NAME = "claims"
BATCH = 200
CALLS = 50
PAGE = 500


def run(world: World) -> list[Figure]:
    """One database that gets fuller."""
    few, many, webhooks = (12_000, 40_000, 1_000) if world.quick else (20_000, 1_000_000, 5_000)
    with world.database("claims") as database:
        return asyncio.run(_measured(database, few, many, webhooks))


async def _measured(database: Database, few: int, many: int, webhooks: int) -> list[Figure]:
    busy = database.webhook("http://127.0.0.1:9/", company="1")
    link = Link(lambda: connect(database.dsn, application_name="pgrelay benchmark"))
    store = Store(link)
    try:
        daemon_id = await store.sign_on(name="benchmark", host="", pid=0, version="", lease=7200.0)

        server = await link.run(_backend)
        floor = float("-inf")

        async def calls(wanted: Sequence[int], number: int = CALLS) -> list[float]:
            """Milliseconds of each claim, of as many deliveries of these webhooks as make a batch."""
            nonlocal floor
            times = []
            for _ in range(number):
                began = spent(server)
                claims = await store.claim(
                    daemon_id, [(webhook_id, BATCH // len(wanted), floor) for webhook_id in wanted]
                )
                times.append(1e3 * (spent(server) - began))
                assert len(claims) == BATCH
                if len(wanted) == 1:
                    floor = max(claim.due or floor for claim in claims)
                now = time.monotonic()
                await store.record(daemon_id, "benchmark", [delivered(claim, now) for claim in claims], now)
            return times

        await _backlog(database, store, daemon_id, few)
        with_few = await calls([busy])
        await _backlog(database, store, daemon_id, many)
        with_many = await calls([busy])
        with database.connect() as connection:
            connection.execute(
                "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
                " select '2', 'w' || n, 'http://127.0.0.1:9/', '{*}' from generate_series(1, %s) as n",
                (webhooks,),
            )
        await _backlog(database, store, daemon_id, 20 * webhooks, rows=20, company=2)
        beside = await calls([busy])
        pages: list[float] = []
        some: list[int] = []
        after = 0
        while True:
            began = spent(server)
            found = await store.pending_webhooks(daemon_id, after, PAGE)
            if len(found) < PAGE:
                break
            pages.append(1e3 * (spent(server) - began))
            after = found[-1].webhook_id
            some = some or [pending.webhook_id for pending in found if pending.webhook_id != busy][:BATCH]
        floor = float("-inf")
        of_each = await calls(some, 15)
    finally:
        await link.close()
    base = median(with_few)
    return [
        Figure(
            NAME, f"a claim of {BATCH} while its webhook has {many:,} pending, against {few:,}",
            median(with_many) / base, "×", (), at_most(1.5),
        ),
        Figure(
            NAME, f"    and {webhooks:,} other webhooks have work",
            median(beside) / base, "×", (), at_most(1.5),
        ),
        summed_up(NAME, f"    (with {few:,} pending)", with_few, "ms"),
        summed_up(NAME, f"a claim of one delivery of each of {BATCH} webhooks of {webhooks:,}", of_each, "ms"),
        summed_up(NAME, f"finding {PAGE} of {webhooks:,} webhooks that have work", pages, "ms"),
    ]  # fmt: skip


async def _backend(connection: AsyncConnection) -> int:
    return connection.info.backend_pid


async def _backlog(
    database: Database, store: Store, daemon_id: int, deliveries: int, *, rows: int = 0, company: int = 1
) -> None:
    """So many deliveries more, pending; by default one of each event."""
    with database.connect() as connection:

        def pending() -> int:
            row = connection.execute("select count(*) from pgrelay.delivery_queue").fetchone()
            return 0 if row is None else int(row[0])

        wanted = pending() + deliveries
        left = rows or deliveries
        while left:
            insert_rows(connection, min(left, 100_000), company)
            left -= min(left, 100_000)
        while pending() < wanted:
            for _ in range(25):
                await store.expand(daemon_id, limit=2000, room=0, free={}, default_free=BATCH)
    database.settle()
