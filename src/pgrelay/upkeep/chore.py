"""What a chore is, and how it is done again and again."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from pgrelay.errors import DatabaseUnavailable, PgrelayError
from pgrelay.observation import Observation, UpkeepFailed

#: Seconds to wait after the database was found away.
AFTER_FAILURE = 1.0
#: How long a chore that is called when there is something for it waits to be called.
UNCALLED = 30.0


class Chore(Protocol):
    """Something done again and again. `once` returns the seconds until the next time."""

    name: str

    async def once(self) -> float: ...


async def run_forever(
    chore: Chore, observe: Callable[[Observation], None], called: asyncio.Event | None = None
) -> None:
    """Do the chore until cancelled. What fails is told, and tried again.

    With `called` it rests for as long as it says, and is then done when it is called, or after half a minute anyway.
    """
    while True:
        if called is not None:
            called.clear()
        try:
            wait = await chore.once()
        except DatabaseUnavailable:
            # told by the parts that deliver; a chore has nothing to add
            wait = AFTER_FAILURE
        except PgrelayError as error:
            observe(UpkeepFailed(chore.name, error.message))
            wait = 10 * AFTER_FAILURE
        await asyncio.sleep(wait)
        if called is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(UNCALLED):
                    await called.wait()
