"""Procrastinate, with a pool of psycopg; it listens for jobs and keeps those that are done, as it does by default.

100 jobs at once with 10 connections: 64 with 10, and 20 with 4, made no difference that the noise did not hide, for
each job is taken and ended in a transaction of its own.
"""

from collections.abc import Callable

from poster import Post
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.types import JSONDict
from psycopg.conninfo import make_conninfo

AT_ONCE = 100
CONNECTIONS = 10


async def install(dsn: str) -> None:
    async with _app(dsn).open_async() as app:
        await app.schema_manager.apply_schema_async()


async def load(dsn: str, bodies: list[bytes]) -> None:
    async with _app(dsn).open_async() as app:
        jobs: list[JSONDict] = [{"body": body.decode()} for body in bodies]
        await app.configure_task("deliver").batch_defer_async(*jobs)


async def work(dsn: str, post: Post, wait_for_leave: Callable[[], None]) -> None:
    async with _app(dsn).open_async() as app:

        @app.task(name="deliver", pass_context=True)
        async def deliver(context: JobContext, body: str) -> None:
            assert context.job.id is not None
            await post(context.job.id, body.encode())

        wait_for_leave()
        await app.run_worker_async(concurrency=AT_ONCE)


def _app(dsn: str) -> App:
    words = make_conninfo(dsn, application_name="peer")
    return App(connector=PsycopgConnector(conninfo=words, min_size=CONNECTIONS, max_size=CONNECTIONS))
