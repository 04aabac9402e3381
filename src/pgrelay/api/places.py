"""Room for so many at a time: what takes long must not take all connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from pgrelay.api.problems import Problem


class Places:
    """`async with places.one():` Who comes too many gets a Problem (503) of this kind, and is told to come later.

    `who` says of whom there are too many and at what; `retry_after` is in seconds.
    """

    def __init__(self, at_once: int, kind: str, who: str, *, retry_after: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._kind = kind
        self._detail = f"too many {who} at the moment; come back in a few seconds"
        self._retry_after = str(retry_after)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Taken as long as the block runs; nobody waits for it."""
        if self._free.locked():
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                self._kind,
                self._detail,
                headers={"Retry-After": self._retry_after},
            )
        async with self._free:
            yield
