"""Webhooks as rows: reading, writing and testing them. The table's own triggers and grants decide what is allowed."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgrelay.db.admin import Admin, Row
from pgrelay.errors import Refused

#: What pgrelay_reader may see of a webhook; secrets and header values it may not.
_OPEN = (
    "w.id, w.company_id, w.name, w.url, w.subscribed_events, w.is_active, w.paused, w.timeout_seconds,"
    " w.max_retry_attempts, w.retry_schedule, w.description, w.created_by, w.previous_secret_expires_at,"
    " w.secret_revealed_at, w.version,"
    " w.created_at, w.updated_at"
)
_FIGURES = (
    "s.total_deliveries, s.successful_deliveries, s.failed_deliveries, s.success_rate::float8 as success_rate,"
    " s.last_triggered_at, s.pending_deliveries, s.oldest_pending_at"
)
_FROM = "from pgrelay.webhook_configurations w left join {schema}webhook_stats s on s.webhook_id = w.id"

_HEADERS = ", w.headers"

#: Columns that insert() and update() take.
WRITABLE = frozenset(
    {
        *("company_id", "name", "url", "subscribed_events", "secret_key", "is_active", "timeout_seconds"),
        *("max_retry_attempts", "retry_schedule", "headers", "description", "paused", "created_by"),
        "secret_revealed_at",
    }
)


async def webhooks(admin: Admin, company: str | None = None) -> list[Row]:
    """All of them, or one tenant's, with their figures."""
    return await admin.rows(
        f"select {_OPEN}, {_FIGURES} {_FROM.format(schema=admin.schema)}"
        " where %(company)s::text is null or w.company_id = %(company)s order by w.id",
        company=company,
    )


async def webhook(admin: Admin, webhook_id: int) -> Row:
    """One webhook with its figures, and secret_key and headers if this role may see them. Refused if there is none."""
    may = await admin.value(
        "select has_column_privilege('pgrelay.webhook_configurations', 'secret_key', 'select')"
        " and has_column_privilege('pgrelay.webhook_configurations', 'headers', 'select')"
    )
    secrets = ", w.secret_key, w.headers" if may else ""
    found = await admin.one(
        f"select {_OPEN}{secrets}, {_FIGURES} {_FROM.format(schema=admin.schema)} where w.id = %s", webhook_id
    )
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    return found


async def page(
    admin: Admin, *, company: str | None, active: bool | None, after: int, headers: bool, limit: int
) -> list[Row]:
    """Webhooks from the one after `after` on, by id, without figures; with `headers` where this role may see them."""
    return await admin.rows(
        f"select {_OPEN}{_HEADERS if headers else ''} from pgrelay.webhook_configurations w"
        " where w.id > %(after)s and (%(company)s::text is null or w.company_id = %(company)s)"
        " and (%(active)s::boolean is null or w.is_active = %(active)s) order by w.id limit %(limit)s",
        company=company,
        active=active,
        after=after,
        limit=limit,
    )


async def configuration(admin: Admin, webhook_id: int, *, headers: bool, lock: bool = False) -> Row | None:
    """One webhook without figures, None if there is none; `lock` keeps others from changing it in this transaction."""
    return await admin.one(
        f"select {_OPEN}{_HEADERS if headers else ''} from pgrelay.webhook_configurations w where w.id = %s"
        f"{' for update' if lock else ''}",
        webhook_id,
    )


async def reveal(admin: Admin, webhook_id: int) -> str | None:
    """The webhook's secret if nobody was shown it yet; from now on somebody was."""
    found: str | None = await admin.value("select pgrelay.reveal_secret(%s)", webhook_id)
    return found


async def secret(admin: Admin, webhook_id: int) -> str:
    """The webhook's secret. Refused if there is no such webhook, NotPermitted if it may not be seen."""
    found = await admin.value(
        "select secret_key from pgrelay.webhook_configurations where id = %s", webhook_id
    )
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    return str(found)


async def insert(admin: Admin, values: Mapping[str, Any]) -> int:
    """Make a webhook of these columns (WRITABLE); its id. The secret is generated unless given."""
    names = [name for name in values if name in WRITABLE]
    statement = sql.SQL("insert into pgrelay.webhook_configurations ({}) values ({}) returning id").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.Placeholder, names))
    )
    return int(await admin.value(statement.as_string(), **_adapted(values)))


async def update(admin: Admin, webhook_id: int, values: Mapping[str, Any]) -> None:
    """Change these columns of a webhook. Refused if there is none."""
    names = [name for name in values if name in WRITABLE]
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]
    statement = sql.SQL("update pgrelay.webhook_configurations set {} where id = %(id)s returning id").format(
        sql.SQL(", ").join(assignments)
    )
    if await admin.value(statement.as_string(), id=webhook_id, **_adapted(values)) is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")


async def update_headers(admin: Admin, webhook_id: int, changes: Mapping[str, str]) -> None:
    """Set custom headers; an empty value removes one. The others stay."""
    await admin.rows(
        "update pgrelay.webhook_configurations set headers = nullif("
        " coalesce((select jsonb_object_agg(key, value) from jsonb_each(headers)"
        " where not lower(key) = any (%(names)s)), '{}')"
        " || %(set)s::jsonb, '{}') where id = %(id)s",
        id=webhook_id,
        names=[name.lower() for name in changes],
        set=Jsonb({name: value for name, value in changes.items() if value}),
    )


async def delete(admin: Admin, webhook_id: int) -> None:
    """Delete a webhook; what it is owed is cancelled. Refused if there is none."""
    gone = await admin.value(
        "delete from pgrelay.webhook_configurations where id = %s returning id", webhook_id
    )
    if gone is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")


async def rotate_secret(admin: Admin, webhook_id: int, overlap: float) -> str:
    """A new secret; the old one signs too for `overlap` seconds."""
    return str(
        await admin.value("select pgrelay.rotate_secret(%s, %s * interval '1 second')", webhook_id, overlap)
    )


async def send_test(admin: Admin, webhook_id: int) -> int:
    """Send a test event; its id."""
    return int(await admin.value(f"select {admin.schema}test_webhook(%s)", webhook_id))


async def delivery_of(admin: Admin, event_id: int, webhook_id: int) -> Row | None:
    """The delivery of an event to a webhook, once the daemon has made it."""
    return await admin.one(
        f"select id, status, attempts from {admin.schema}deliveries where event_id = %s and webhook_id = %s",
        event_id,
        webhook_id,
    )


def _adapted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
