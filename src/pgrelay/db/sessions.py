"""What the API asks of the database: a few connections, shared, and for each request one transaction with the rights of
whoever asked.

A tenant's transaction takes the role pgrelay_tenant and names the tenant: from then on it is the database that keeps it
to its own. A reader's takes pgrelay_reader and is read only. An admin's runs as who connected.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection

from pgrelay.db import tokens
from pgrelay.db.admin import ONLY_THE_TENANTS, Admin, grant_statement
from pgrelay.db.tokens import Access, Role
from pgrelay.errors import NotPermitted, Refused

# No statement of a stranger's keeps one of the few connections for long.
_SHORT = "set_config('statement_timeout', '10s', true)"
_TENANT = (
    f"select {_SHORT}, set_config('pgrelay.company_id', %s, true), set_config('role', 'pgrelay_tenant', true)"
)
_READER = (
    f"select {_SHORT}, set_config('transaction_read_only', 'on', true),"
    " set_config('role', 'pgrelay_reader', true)"
)


class Sessions:
    """At most `size` connections, opened when needed and kept; those who find none free wait in line."""

    def __init__(self, open_connection: Callable[[], Awaitable[AsyncConnection]], size: int) -> None:
        self._open = open_connection
        self._free: list[AsyncConnection] = []
        self._places = asyncio.Semaphore(size)
        self._closed = False

    async def close(self) -> None:
        """Close all connections; those in use when their block ends."""
        self._closed = True
        while self._free:
            await self._free.pop().close()

    async def whose(self, token_digest: bytes) -> Access | None:
        """Whose token it is; None for one that is unknown, revoked or expired. Raises as `session`."""
        async with self._transaction() as admin:
            return await tokens.use(admin, token_digest)

    @asynccontextmanager
    async def session(self, access: Access) -> AsyncIterator[Admin]:
        """One transaction with the rights of `access`, committed when the block ends, rolled back when it raises.

        Raises DatabaseUnavailable; NotPermitted when who connected may not take the role.
        """
        async with self._transaction() as admin:
            if access.role is Role.TENANT:
                await _take(admin, "pgrelay_tenant", _TENANT, access.company_id)
                admin.schema = ONLY_THE_TENANTS
            elif access.role is Role.READER:
                await _take(admin, "pgrelay_reader", _READER)
            yield admin

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Admin]:
        async with self._places:
            connection = await self._begun()
            admin = Admin(connection)
            try:
                yield admin
                with admin.translated():
                    await connection.commit()
            except asyncio.CancelledError:
                # the answer may still be on the wire: a connection in an unknown state is not used again
                await connection.close()
                raise
            except BaseException:
                await _roll_back(connection)
                raise
            finally:
                if self._closed:
                    await connection.close()
                elif not connection.closed:
                    self._free.append(connection)

    async def _begun(self) -> AsyncConnection:
        """A connection with a transaction begun: one that is free and still works, or a new one."""
        while self._free:
            connection = self._free.pop()
            try:
                await connection.execute("begin")
            except psycopg.Error:
                await connection.close()  # it died while nobody used it
            else:
                return connection
        connection = await self._open()
        with Admin(connection).translated():
            await connection.execute("begin")
        return connection


async def _roll_back(connection: AsyncConnection) -> None:
    try:
        await connection.rollback()
    except psycopg.Error:
        await connection.close()


async def _take(admin: Admin, role: str, query: str, *values: str | None) -> None:
    """Take a role for this transaction. NotPermitted says how to allow it."""
    try:
        with admin.translated():
            await admin.connection.execute(query.encode(), values)
    except NotPermitted:
        raise NotPermitted(
            f"{admin.role}, as whom the API connects, may not take the role {role}",
            f"As who may grant it: {grant_statement(role, admin.role)}",
        ) from None
    except Refused as error:
        raise NotPermitted(
            error.message, f"As who may make roles: create role {role}; then run sql/grants.sql"
        ) from None
