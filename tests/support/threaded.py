"""A receiver in a thread of its own, for tests that call the command line: that runs an event loop itself."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.receiver import Receiver


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    """Serves while the `with` lasts."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        async with receiver:
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield receiver
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()
