"""API tokens: made, listed, revoked, and recognised by their digest. The database never sees a token itself."""

import hashlib
import secrets
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from pgrelay.db.admin import Admin, Row
from pgrelay.errors import Refused

#: What every token starts with, so that scanners for leaked secrets, and people, know one when they see it.
PREFIX = "pgrelay_"
_RANDOM_BYTES = 32


class Role(StrEnum):
    """What a token allows."""

    #: Everything.
    ADMIN = "admin"
    #: What is its own tenant's: looking and changing.
    TENANT = "tenant"
    #: Looking at everything.
    READER = "reader"


class Access(NamedTuple):
    """A token that is known and may be used."""

    id: int
    name: str
    role: Role
    #: Of a tenant's token alone.
    company_id: str | None


def digest(token: str) -> bytes:
    """SHA-256. No salt and no stretching: 256 random bits cannot be guessed, however fast the guesses."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


async def create(
    admin: Admin, *, name: str, role: Role, company_id: str | None, expires_at: datetime | None
) -> tuple[int, str]:
    """Make a token: its id, and itself, which nobody can tell later. Refused where role and company do not fit."""
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    made = await admin.value(
        "insert into pgrelay.api_tokens (name, role, company_id, digest, expires_at)"
        " values (%(name)s, %(role)s, %(company_id)s, %(digest)s, %(expires_at)s) returning id",
        name=name,
        role=str(role),
        company_id=company_id,
        digest=digest(token),
        expires_at=expires_at,
    )
    return int(made), token


async def tokens(admin: Admin) -> list[Row]:
    """All tokens there ever were, without their digests."""
    return await admin.rows(
        "select id, name, role, company_id, created_at, created_by, expires_at, last_used_at, revoked_at,"
        " revoked_at is null and coalesce(expires_at > clock_timestamp(), true) as usable"
        " from pgrelay.api_tokens order by id"
    )


async def revoke(admin: Admin, token_id: int) -> None:
    """End a token. Refused if there is none that could be ended."""
    if not await admin.value("select pgrelay.revoke_token(%s)", token_id):
        raise Refused(f"there is no token {token_id}, or it is revoked already", "See pgrelay tokens list")


async def use(admin: Admin, token_digest: bytes) -> Access | None:
    """Whose token it is; None for one that is unknown, revoked or expired."""
    row = await admin.one("select * from pgrelay.use_token(%s)", token_digest)
    return None if row is None else Access(row["id"], row["name"], Role(row["role"]), row["company_id"])
