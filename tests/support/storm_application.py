"""An application: transactions of any length and isolation, rolled back at times, whole or in part. What is committed must arrive."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from psycopg import AsyncConnection, OperationalError, errors

_ISOLATION = ["read committed", "read committed", "repeatable read", "serializable"]
_INSERT = "insert into callback_requests (company_id, customer_name, customer_phone) values (%s, 'n', '1') returning id"
_EMIT = "select pgrelay.emit('order.paid', json_build_object('number', %s::int), %s, %s)"

Change = tuple[str, int]
#: What makes a connection.
Connect = Callable[[], Awaitable[AsyncConnection]]


@dataclass
class Written:
    """What the application knows of its own changes."""

    committed: set[Change] = field(default_factory=set)
    #: Of each transaction whose end it was not told, for the server died: all of it is committed, or nothing.
    doubtful: list[frozenset[Change]] = field(default_factory=list)

    def complaints(self, captured: set[Change]) -> list[str]:
        """What became of these changes otherwise than the application knows."""
        left, found = captured - self.committed, []
        for changes in self.doubtful:
            if not changes <= captured and changes & captured:
                found.append(f"half of a transaction: {changes & captured} of {changes}")
            left -= changes
        if lost := self.committed - captured:
            found.append(f"lost: {lost}")
        if left:
            found.append(f"invented: {left}")
        return found


class _RolledBack(Exception):
    pass


class Session:
    """One of its sessions. Of its resources no other writes any: so their events are committed in the order of their ids."""

    def __init__(self, connect: Connect, session: int, seed: int, written: Written) -> None:
        self._connect, self._session, self._written = connect, session, written
        self._chance = random.Random(seed * 100 + session)
        self._company = session % 2 + 1
        self._number = session * 1_000_000

    async def work(self, until: Callable[[], bool]) -> None:
        while not until():
            with suppress(OperationalError):  # the server is away, or has just died
                async with await self._connect() as connection:
                    while not until():
                        await self._transact(connection)
                        await asyncio.sleep(self._chance.random() * 0.4)
            await asyncio.sleep(0.05)

    async def _transact(self, connection: AsyncConnection) -> None:
        new: set[Change] = set()
        try:
            async with connection.transaction():
                isolation = self._chance.choice(_ISOLATION)
                await connection.execute(f"set transaction isolation level {isolation}".encode())
                await self._change(connection, new)
                if self._chance.random() < 0.2:
                    await asyncio.sleep(self._chance.random() * 2)  # long transactions
                if self._chance.random() < 0.2:
                    raise _RolledBack
        except (_RolledBack, errors.SerializationFailure):
            return
        except OperationalError:
            self._written.doubtful.append(frozenset(new))
            raise
        self._written.committed |= new

    async def _change(self, connection: AsyncConnection, new: set[Change]) -> None:
        for _ in range(self._chance.choice([1] * 10 + [2, 2, 2, 5, 5, 30, 100])):
            self._number += 1
            resource = f"{self._session}-{self._chance.randrange(3)}"
            await connection.execute(_EMIT, (self._number, str(self._company), resource))
            new.add(("order.paid", self._number))
            if self._chance.random() < 0.2:
                await self._call_back(connection, new)

    async def _call_back(self, connection: AsyncConnection, new: set[Change]) -> None:
        row = await (await connection.execute(_INSERT, (self._company,))).fetchone()
        assert row is not None
        new.add(("callback.created", row[0]))
        try:
            async with connection.transaction():
                await connection.execute(
                    "update callback_requests set status = 'contacted' where id = %s", row
                )
                if self._chance.random() < 0.3:
                    raise _RolledBack
        except _RolledBack:
            return
        new.add(("callback.contacted", row[0]))
