"""A receiver in the same process as the daemon."""

from collections.abc import AsyncIterator

import pytest

from support.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made
