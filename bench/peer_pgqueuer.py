"""PgQueuer, as its guide to performance has it for many short jobs.

That is, one asyncpg connection for the worker, large batches, its settings of autovacuum, and its default durability,
under which the record of a job survives a crash as ours does. 200 jobs at once, for that has to be twice the batch.
Batches of 32 with 64 at once, as many as pgrelay has, batches of 200 and a pool of connections were no faster.
"""

import asyncio
import signal
from collections.abc import Callable

import asyncpg  # type: ignore[import-untyped]
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from poster import Post
from psycopg.conninfo import conninfo_to_dict

BATCH = 100
AT_ONCE = 200


async def install(dsn: str) -> None:
    queries = Queries(await _connect(dsn))
    await queries.install()
    await queries.optimize_autovacuum()


async def load(dsn: str, bodies: list[bytes]) -> None:
    queries = Queries(await _connect(dsn))
    await queries.enqueue(["deliver"] * len(bodies), [*bodies], [0] * len(bodies))


async def work(dsn: str, post: Post, wait_for_leave: Callable[[], None]) -> None:
    queuer = PgQueuer(await _connect(dsn))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)

    @queuer.entrypoint("deliver")
    async def deliver(job: Job) -> None:
        assert job.payload is not None
        await post(job.id, job.payload)

    wait_for_leave()
    await queuer.run(batch_size=BATCH, max_concurrent_tasks=AT_ONCE)


async def _connect(dsn: str) -> AsyncpgDriver:
    words = conninfo_to_dict(dsn)  # asyncpg reads URLs only
    return AsyncpgDriver(
        await asyncpg.connect(
            host=words["host"],
            port=words["port"],
            user=words["user"],
            database=words["dbname"],
            server_settings={"application_name": "peer"},
        )
    )
