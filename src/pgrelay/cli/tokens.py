"""`pgrelay tokens`: create, list, revoke."""

from datetime import UTC, datetime, timedelta

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Row
from pgrelay.cli.parser import UsageError
from pgrelay.cli.text import printable
from pgrelay.db import tokens
from pgrelay.db.tokens import Role
from pgrelay.spans import relative


async def create(context: Context) -> int:
    role, company = Role(context.argument("role")), context.argument("company")
    if (role is Role.TENANT) != (company is not None):
        raise UsageError(
            "--role tenant needs --company" if company is None else "--company is for --role tenant alone",
            "For example: pgrelay tokens create --name portal --role tenant --company 42",
        )
    life = context.argument("expires")
    expires_at = None if life is None else datetime.now(UTC) + timedelta(seconds=life)
    async with context.admin() as admin:
        made, token = await tokens.create(
            admin, name=context.argument("name"), role=role, company_id=company, expires_at=expires_at
        )
    context.out.value(
        {
            "id": made,
            "name": context.argument("name"),
            "role": role,
            "company_id": company,
            "expires_at": expires_at,
            "token": token,
        }
    )
    context.out.print(
        f"Token {made} made, for {'everything' if role is Role.ADMIN else _scope(role, company)}."
    )
    context.out.print(f"Token: {context.out.style(token, 'bold')}")
    context.out.say("Keep it now: only its digest is stored, so it cannot be shown again.")
    return 0


def _scope(role: Role, company: str | None) -> str:
    return (
        "looking at everything" if role is Role.READER else f"what is of company {printable(company or '')}"
    )


async def list_tokens(context: Context) -> int:
    async with context.admin() as admin:
        now = await admin.now()
        context.out.table(
            await tokens.tokens(admin),
            [
                Column("id", right=True),
                Column("name"),
                Column("role"),
                Column("company_id", "company"),
                Column("state", show=lambda row: _state(row, now)),
                Column("created_at", "made", lambda row: relative(row["created_at"], now)),
                Column("last_used_at", "last used", lambda row: relative(row["last_used_at"], now)),
            ],
            empty="There are no tokens, so nobody may use the API. Make one: pgrelay tokens create --help",
        )
    return 0


def _state(row: Row, now: datetime) -> str:
    if row["revoked_at"] is not None:
        return f"revoked {relative(row['revoked_at'], now)}"
    if not row["usable"]:
        return f"expired {relative(row['expires_at'], now)}"
    return "usable" if row["expires_at"] is None else f"usable, ends {relative(row['expires_at'], now)}"


async def revoke(context: Context) -> int:
    token_id = context.argument("id")
    async with context.admin() as admin:
        await tokens.revoke(admin, token_id)
    context.out.value({"id": token_id, "revoked": True})
    context.out.print(f"Token {token_id} is revoked: it is refused from now on.")
    return 0
