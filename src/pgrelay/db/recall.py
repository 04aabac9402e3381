"""What a request with an Idempotency-Key made before. Used within the transaction that does what is asked."""

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from pgrelay.db.admin import Admin


async def recall(admin: Admin, token_id: int, key: str, digest: bytes) -> dict[str, Any] | None:
    """What it made; None when it is new. Refused when the key came with another request."""
    found: dict[str, Any] | None = await admin.value(
        "select pgrelay.recall(%s, %s, %s)", token_id, key, digest
    )
    return found


async def remember(admin: Admin, token_id: int, key: str, answer: Mapping[str, Any]) -> None:
    """Note what it made, for a day."""
    await admin.rows("select pgrelay.remember(%s, %s, %s)", token_id, key, Jsonb(dict(answer)))
