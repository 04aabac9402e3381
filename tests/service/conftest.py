"""A receiver in the same process as the daemon, and an API as an ordinary role serves it."""

from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from support.api import Api, serving_api
from support.database import Role
from support.receiver import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made


@pytest.fixture
def login(db: psycopg.Connection, role: Callable[..., Role]) -> Role:
    """As whom the API connects: no superuser, a member of what its tokens may take."""
    made = role("api")
    db.execute(f"grant pgrelay_admin, pgrelay_reader, pgrelay_tenant to {made.name}".encode())
    return made


@pytest.fixture
async def api(login: Role) -> AsyncIterator[Api]:
    async with serving_api(login.dsn) as made:
        yield made
