"""What the scenes play with: connections, receivers, the daemon, and the few verbs that they are told in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pgrelay.db.admin import Admin, open_admin
from pgrelay.demo.cluster import Cluster
from pgrelay.demo.feed import Feed
from pgrelay.demo.hooks import Hook
from pgrelay.demo.promises import NotAsPromised
from pgrelay.demo.relay import Relay
from pgrelay.demo.screen import Screen

#: Database, its owner, and the role of the application. Neither is a superuser.
DATABASE, OWNER, APPLICATION = "crm", "crm", "crm_app"
#: The webhooks: two of company 1, one of company 2.
CRM, MAIL, PORT = "crm.example", "mail.example", "port.example"
#: Seconds that anything may take on a busy machine.
PATIENCE = 60.0


@dataclass
class Stage:
    """Everything there is, for scenes to use."""

    cluster: Cluster
    screen: Screen
    #: The owner of the database: installs pgrelay, and reads and asks as an operator does.
    owner: Admin
    #: The application, which knows nothing of pgrelay.
    application: Admin
    feed: Feed
    relay: Relay
    #: No pauses for reading.
    fast: bool = False
    #: Seconds from commit to arrival that the scene about it measured.
    latencies: list[float] = field(default_factory=list)

    @property
    def hooks(self) -> dict[str, Hook]:
        """By name."""
        return self.feed.hooks

    async def write(self, told: str, query: str, *parameters: Any) -> dict[str, Any]:
        """The application runs a statement, and it is told; {column} in `told` is from the row it returns."""
        async with self.feed.turn:
            row = await self.application.one(query, *parameters) or {}
            self.screen.line("app", told.format(**row))
        return row

    async def arrival(self, event_type: str, resource_id: int, hook: str) -> None:
        """Wait until an event of a resource was accepted by a webhook."""

        def arrived() -> bool:
            return any(
                (a.event_type, a.resource_id) == (event_type, str(resource_id))
                for a in self.feed.accepted(hook).values()
            )

        await self.until(f"{event_type} of #{resource_id} to arrive at {hook}", arrived)

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds of what the feed has seen. NotAsPromised when it does not come about."""
        async with self._patience(what):
            while not holds():
                self.check()
                await self.feed.look_again()
        self.check()

    async def until_true(self, what: str, query: str, *parameters: Any) -> None:
        """The same for something that a query tells."""
        async with self._patience(what):
            while not await self.owner.value(query, *parameters):
                self.check()
                await self.feed.look_again()

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except TimeoutError:
            message = f"waited {PATIENCE:.0f} s for {what}, in vain"
            raise NotAsPromised(message, self.relay.last_lines()) from None

    def expect(self, holds: bool, otherwise: str) -> None:
        """NotAsPromised, saying so, unless it holds."""
        if not holds:
            raise NotAsPromised(otherwise, self.relay.last_lines())

    def check(self) -> None:
        """Raise what went wrong by now."""
        self.expect(not self.feed.problems, "; ".join(self.feed.problems))
        self.expect(not self.relay.died, "the daemon ended by itself")

    async def pause(self, seconds: float = 0.5) -> None:
        """Let people read."""
        if not self.fast:
            await asyncio.sleep(seconds)
        self.check()


@asynccontextmanager
async def set_up(cluster: Cluster, screen: Screen, *, fast: bool) -> AsyncIterator[Stage]:
    """A stage with an empty database; whatever was started on it is gone after the block."""
    async with _connected(cluster.dsn()) as superuser:
        for role in (OWNER, APPLICATION):
            await superuser.rows(f"create role {role} login")
        await superuser.rows(f"create database {DATABASE} owner {OWNER}")
    async with AsyncExitStack() as stack:
        owner, application, viewer = [
            await stack.enter_async_context(_connected(cluster.dsn(DATABASE, user=role)))
            for role in (OWNER, APPLICATION, OWNER)
        ]
        relay = Relay(cluster.directory, cluster.dsn(DATABASE, user=OWNER))
        stack.callback(relay.kill)
        feed = Feed(viewer, screen)
        stack.push_async_callback(_close_hooks, feed)
        stack.push_async_callback(feed.stop)
        yield Stage(cluster, screen, owner, application, feed, relay, fast)


async def _close_hooks(feed: Feed) -> None:
    for hook in feed.hooks.values():
        await hook.close()


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Admin]:
    admin = await open_admin(
        dsn, application_name="pgrelay demo", connect_timeout=5.0, statement_timeout=60.0
    )
    try:
        yield admin
    finally:
        await admin.close()
