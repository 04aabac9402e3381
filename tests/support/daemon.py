"""A daemon in this process: its observations can be awaited, its receiver and database are beside it.

async with daemon(database.dsn, {"daemon.poll_interval": 60.0}) as one:
    emit(db)
    (delivered,) = await one.seen(Delivered)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg

from pgrelay.config.settings import Settings
from pgrelay.daemon import Daemon
from pgrelay.observation import NotificationsArriving, Observation
from support import factories

Kind = TypeVar("Kind", bound=Observation)

#: Long enough for a busy machine: nothing waits for it unless something is wrong.
PATIENCE = 30.0


class Running:
    """A daemon, and all it has observed so far."""

    def __init__(self, settings: Settings) -> None:
        self.observed: list[Observation] = []
        self.settings = settings
        self.daemon = Daemon(settings, lambda: self.settings, observe=self._observe)
        #: Is told of what is observed from now on, too.
        self.echo: Callable[[Observation], None] | None = None
        self._news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.daemon.run())
        self.task.add_done_callback(lambda _: self._news.set())

    def _observe(self, observation: Observation) -> None:
        self.observed.append(observation)
        if self.echo is not None:
            self.echo(observation)
        self._news.set()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """All of one kind so far."""
        return [one for one in self.observed if isinstance(one, kind)]

    async def seen(
        self,
        kind: type[Kind],
        count: int = 1,
        *,
        within: float = PATIENCE,
        where: Callable[[Kind], bool] = bool,
    ) -> list[Kind]:
        """All of one kind for which `where` holds, as soon as there are `count`."""
        try:
            async with asyncio.timeout(within):
                while len(found := [one for one in self.of(kind) if where(one)]) < count:
                    if self.task is not None and self.task.done():
                        self.task.result()
                        raise AssertionError("the daemon has ended")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            told = "\n".join(str(one) for one in self.observed[-20:])
            raise TimeoutError(f"not {count} × {kind.__name__} within {within} s, but\n{told}") from None
        return found


@asynccontextmanager
async def daemon(
    dsn: str, keys: Mapping[str, Any] | None = None, *, hears: bool = True
) -> AsyncIterator[Running]:
    """Run one while the block lasts, in a database that is adopted first. `hears`: begin when notifications arrive."""
    await asyncio.to_thread(adopt, dsn)  # what leads to the database may be served by this very loop
    made = Running(factories.settings(dsn, keys))
    made.start()
    assert made.task is not None
    try:
        if hears:
            await made.seen(NotificationsArriving)
        yield made
    finally:
        made.daemon.stop()
        await made.task


async def until_each_may_send(number: int, *daemons: Running) -> None:
    """Return when each takes that for its share of delivery.max_concurrency, by how many daemons it has seen."""
    async with asyncio.timeout(PATIENCE):
        while {one.daemon._engine._deliverer._holdings._slots.per_lane for one in daemons} != {number}:  # type: ignore[union-attr]
            await asyncio.sleep(0.02)


def adopt(dsn: str) -> None:
    """Say that a database, made for a test by copying a template, is the original."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "select pgrelay.adopt('test', 'keep') where pgrelay.copy_problem('test') is not null"
        )


async def until(db: psycopg.Connection, query: str, *parameters: Any, within: float = PATIENCE) -> Any:
    """The first column of the first row, as soon as it is neither null nor false nor 0."""
    try:
        async with asyncio.timeout(within):
            while True:
                row = db.execute(query.encode(), parameters).fetchone()
                if row is not None and row[0]:
                    return row[0]
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"not within {within} s: {query}") from None
