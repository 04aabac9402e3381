"""An application: transactions of any length, rolled back at times, whole or in part. What is committed must arrive."""

import asyncio
import random
from collections.abc import Callable

from psycopg import AsyncConnection

_INSERT = "insert into callback_requests (company_id, customer_name, customer_phone) values (%s, 'n', '1') returning id"
_EMIT = "select pgrelay.emit('order.paid', json_build_object('number', %s::int), %s, %s)"

Change = tuple[str, int]


class _RolledBack(Exception):
    pass


class Session:
    """One of its sessions. Of its resources no other writes any: so their events are committed in the order of their ids."""

    def __init__(self, connection: AsyncConnection, session: int, seed: int, committed: set[Change]) -> None:
        self._connection, self._session, self._committed = connection, session, committed
        self._chance = random.Random(seed * 100 + session)
        self._company = session % 2 + 1
        self._number = session * 1_000_000

    async def work(self, until: Callable[[], bool]) -> None:
        while not until():
            new: set[Change] = set()
            try:
                async with self._connection.transaction():
                    await self._change(new)
                    if self._chance.random() < 0.2:
                        await asyncio.sleep(self._chance.random() * 2)  # long transactions
                    if self._chance.random() < 0.2:
                        raise _RolledBack
            except _RolledBack:
                continue
            self._committed |= new
            await asyncio.sleep(self._chance.random() * 0.4)

    async def _change(self, new: set[Change]) -> None:
        for _ in range(self._chance.choice([1] * 10 + [2, 2, 2, 5, 5, 30, 100])):
            self._number += 1
            resource = f"{self._session}-{self._chance.randrange(3)}"
            await self._connection.execute(_EMIT, (self._number, str(self._company), resource))
            new.add(("order.paid", self._number))
            if self._chance.random() < 0.2:
                await self._call_back(new)

    async def _call_back(self, new: set[Change]) -> None:
        row = await (await self._connection.execute(_INSERT, (self._company,))).fetchone()
        assert row is not None
        new.add(("callback.created", row[0]))
        try:
            async with self._connection.transaction():
                await self._connection.execute(
                    "update callback_requests set status = 'contacted' where id = %s", row
                )
                if self._chance.random() < 0.3:
                    raise _RolledBack
        except _RolledBack:
            return
        new.add(("callback.contacted", row[0]))
