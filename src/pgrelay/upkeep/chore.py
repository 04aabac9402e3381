"""What a chore is, and how it is done again and again."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from pgrelay.errors import DatabaseUnavailable, PgrelayError
from pgrelay.observation import Observation, UpkeepFailed

#: Seconds to wait after the database was found away.
AFTER_FAILURE = 1.0


class Chore(Protocol):
    """Something done again and again. `once` returns the seconds until the next time."""

    name: str

    async def once(self) -> float: ...


async def run_forever(chore: Chore, observe: Callable[[Observation], None]) -> None:
    """Do the chore until cancelled. What fails is told, and tried again."""
    while True:
        try:
            wait = await chore.once()
        except DatabaseUnavailable:
            # told by the parts that deliver; a chore has nothing to add
            wait = AFTER_FAILURE
        except PgrelayError as error:
            observe(UpkeepFailed(chore.name, error.message))
            wait = 10 * AFTER_FAILURE
        await asyncio.sleep(wait)
