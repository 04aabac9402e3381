"""Webhooks as rows: reading, writing and testing them. The table's own triggers and grants decide what is allowed."""

import os
from collections.abc import Mapping
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgrelay.db.admin import Admin, Row
from pgrelay.db.webhook_states import STATE
from pgrelay.delivery import Webhook
from pgrelay.errors import Refused
from pgrelay.masking import MASK
from pgrelay.payloads import problem as payload_problem
from pgrelay.sealing import Kept, Keyring, Unopened
from pgrelay.signing import generate_secret, is_standard

#: What all daemons know of it: its state in a word, failures since the last success, and what holds it back.
HEALTH = (
    f"{STATE} as state,"
    " coalesce(h.failures_in_row, 0) as failures_in_row, h.failing_since, h.probe_wait is not null as circuit_open,"
    " case when h.probe_wait is not null or h.held_until > clock_timestamp() then h.held_until end as held_until"
)
_OWNER = (
    "(select d.name from pgrelay.webhook_owners o join pgrelay.daemons d on d.id = o.daemon_id"
    " where o.webhook_id = w.id and d.ended_at is null and d.lease_until > clock_timestamp()) as owner_daemon"
)
_FIGURES = (
    "s.total_deliveries, s.successful_deliveries, s.failed_deliveries, s.success_rate::float8 as success_rate,"
    " s.last_triggered_at, s.pending_deliveries, s.oldest_pending_at"
)
#: What every role may see of a webhook in the table, and its state; its URL, secrets and header values not all may.
_OPEN = (
    f"{STATE} as state, w.id, w.company_id, w.name, w.subscribed_events, w.is_active, w.paused, w.timeout_seconds,"
    " w.max_retry_attempts, w.retry_schedule, w.max_concurrency, w.rate_limit_per_second, w.ordering,"
    " w.payload_format, w.filter, w.disabled_at, w.disabled_reason, w.description, w.created_by,"
    " w.previous_secret_expires_at, w.secret_revealed_at, w.version, w.created_at, w.updated_at"
)
#: With URL and template in the clear, and masked; of headers the names alone.
_CLEAR = (
    f"select {_OPEN}, w.url, w.payload_template, array(select jsonb_object_keys(w.headers)) as header_names"
    " from pgrelay.webhook_configurations w"
)
_MASKED = (
    f"select {_OPEN}, v.url, v.header_names,"
    f" case when w.payload_format = 'template' then '{MASK}' end as payload_template"
    " from pgrelay.webhook_configurations w join pgrelay.webhooks v on v.id = w.id"
)
_FROM = (
    "from pgrelay.webhooks w left join pgrelay.webhook_stats s on s.webhook_id = w.id"
    " left join pgrelay.webhook_health h on h.webhook_id = w.id"
)

_NO_KEYS = Keyring()

#: Columns that insert() and update() take.
WRITABLE = frozenset(
    {
        *("company_id", "name", "url", "subscribed_events", "secret_key", "is_active", "timeout_seconds"),
        *("max_retry_attempts", "retry_schedule", "headers", "description", "paused", "max_concurrency"),
        *("rate_limit_per_second", "ordering", "created_by", "secret_revealed_at"),
        *("payload_format", "payload_template", "filter"),
    }
)


async def webhooks(admin: Admin, company: str | None = None) -> list[Row]:
    """All of them, or one tenant's, with their figures; masked."""
    found = await admin.rows(
        f"select w.*, {HEALTH}, {_OWNER}, {_FIGURES} {_FROM}"
        " where %(company)s::text is null or w.company_id = %(company)s order by w.id",
        company=company,
    )
    return [_masked(row) for row in found]


async def webhook(admin: Admin, webhook_id: int) -> Row:
    """One webhook with its figures; masked. Refused if there is none."""
    found = await admin.one(f"select w.*, {HEALTH}, {_OWNER}, {_FIGURES} {_FROM} where w.id = %s", webhook_id)
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    return _masked(found)


async def page(
    admin: Admin,
    *,
    company: str | None,
    active: bool | None,
    name: str | None,
    state: str | None,
    after: int,
    clear: bool,
    limit: int,
) -> list[Row]:
    """Webhooks from the one after `after` on, by id, without figures; URLs in the clear for those who may see them.

    `name`: of those whose name holds this text, in upper or lower case; `state`: one of STATES.
    """
    return await admin.rows(
        f"{_configured(admin, clear)} where w.id > %(after)s"
        " and (%(company)s::text is null or w.company_id = %(company)s)"
        " and (%(active)s::boolean is null or w.is_active = %(active)s)"
        " and (%(name)s::text is null or strpos(lower(w.name), lower(%(name)s)) > 0)"
        f" and (%(state)s::text is null or {STATE} = %(state)s) order by w.id limit %(limit)s",
        company=company,
        active=active,
        name=name,
        state=state,
        after=after,
        limit=limit,
    )


async def configuration(admin: Admin, webhook_id: int, *, clear: bool, lock: bool = False) -> Row | None:
    """One webhook as `page` gives it, None if there is none; `lock` keeps others from changing it meanwhile."""
    return await admin.one(
        f"{_configured(admin, clear)} where w.id = %s{' for update of w' if lock else ''}", webhook_id
    )


def _configured(admin: Admin, clear: bool) -> str:
    """Reads webhooks as they are set, each with its state."""
    return f"{_CLEAR if clear else _MASKED} left join {admin.schema}webhook_health h on h.webhook_id = w.id"


async def reveal(admin: Admin, webhook_id: int, keys: Keyring = _NO_KEYS) -> str | None:
    """The webhook's secret if there is one and nobody was shown it; from now on somebody was."""
    found = await admin.value("select pgrelay.reveal_secret(%s)", webhook_id)
    return None if found is None else _opened(keys, Kept(found, None, None), webhook_id).secret_key


def _masked(row: Row) -> Row:
    """With secret_key, headers and payload_template as the table has them, masked as the view has masked the rest."""
    names = row.pop("header_names")
    secret = None if row["secrets"] == "awaited" else f"whsec_{MASK}"
    template = MASK if row["payload_format"] == "template" else None
    return {
        **row,
        "secret_key": secret,
        "headers": dict.fromkeys(names, MASK) or None,
        "payload_template": template,
    }


async def revealed(admin: Admin, webhook_id: int, keys: Keyring = _NO_KEYS) -> Row:
    """What of a webhook is masked elsewhere: url, secret_key, headers, payload_template, in the clear.

    NotPermitted for who may not see them, Refused for who has not the key. The secret is None if there is none yet.
    """
    found = await admin.one(
        "select url, secret_key, headers, payload_template from pgrelay.webhook_configurations where id = %s",
        webhook_id,
    )
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    kept = _opened(keys, Kept(found["secret_key"], None, found["headers"]), webhook_id)
    return {**found, "secret_key": kept.secret_key, "headers": kept.headers}


def _opened(keys: Keyring, kept: Kept, webhook_id: int) -> Kept:
    try:
        return keys.open(kept, webhook_id)
    except Unopened as error:
        raise Refused(f"the secrets of webhook {webhook_id} are {error.message}", error.remedy) from error


async def secret(admin: Admin, webhook_id: int, keys: Keyring = _NO_KEYS) -> str:
    """The webhook's secret. Refused if there is no such webhook, or no key; NotPermitted if it may not be seen."""
    found = (await revealed(admin, webhook_id, keys))["secret_key"]
    if found is None:
        raise _no_secret_yet(webhook_id)
    return str(found)


def _no_secret_yet(webhook_id: int) -> Refused:
    return Refused(
        f"webhook {webhook_id} has no secret yet",
        "A running daemon that has the key makes it within a second or so: pgrelay status",
    )


async def opened(admin: Admin, webhook_id: int, keys: Keyring = _NO_KEYS) -> Webhook:
    """The webhook as a daemon that has these keys knows it, so far as one request needs it.

    Refused if there is none, it has no secret yet, or without the key; NotPermitted for who may not see secrets.
    """
    found = await admin.one(
        "select id, version, company_id, name, url, secret_key, headers, timeout_seconds::float8 as timeout_seconds,"
        " case when previous_secret_expires_at > clock_timestamp() then previous_secret_key end as previous_secret_key,"
        " previous_secret_expires_at, payload_format, payload_template"
        " from pgrelay.webhook_configurations where id = %s",
        webhook_id,
    )
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    kept = Kept(found["secret_key"], found["previous_secret_key"], found["headers"])
    kept = _opened(keys, kept, webhook_id)
    if kept.secret_key is None:
        raise _no_secret_yet(webhook_id)
    given = {**found, **kept._asdict(), "headers": kept.headers or {}}
    return Webhook(**given)


async def content(admin: Admin, webhook_id: int, *, clear: bool) -> Row:
    """What decides on a webhook's bodies, the template for who may see it alone. Refused if there is none."""
    template = "payload_template" if clear else "null::text"
    found = await admin.one(
        f"select id, company_id, name, payload_format, {template} as payload_template, filter"
        " from pgrelay.webhook_configurations where id = %s",
        webhook_id,
    )
    if found is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")
    return found


async def insert(admin: Admin, values: Mapping[str, Any], keys: Keyring = _NO_KEYS) -> int:
    """Make a webhook of these columns (WRITABLE); its id. The secret is generated unless given.

    With a key, secret and header values are sealed before they reach the database.
    """
    refuse_wrong_template(None, values.get("payload_template"))
    if keys:
        _check_before_sealing(values.get("secret_key"), values.get("headers") or {})
        # sealed values are bound to the webhook, so its id comes first
        new = await admin.value(
            "select nextval(pg_get_serial_sequence('pgrelay.webhook_configurations', 'id'))"
        )
        kept = keys.seal(Kept(values.get("secret_key"), None, values.get("headers")), new, os.urandom)
        values = {**values, "id": new, "secret_key": kept.secret_key, "headers": kept.headers}
    names = [name for name in values if name in WRITABLE or name == "id"]
    statement = sql.SQL("insert into pgrelay.webhook_configurations ({}) values ({}) returning id").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.Placeholder, names))
    )
    return int(await admin.value(statement.as_string(), **_adapted(values)))


def refuse_wrong_template(payload_format: str | None, payload_template: str | None) -> None:
    """What the table's own trigger cannot read: expressions. Raises Refused."""
    wrong = payload_problem(payload_format or "", payload_template)
    if wrong is not None:
        raise Refused(
            f"payload_template: {wrong.removeprefix('payload_template: ').removeprefix('payload_template ')}",
            'For example {"text": "New: {{ data.callback_request.customer_name }}"}',
            constraint="payload_template_usable",
        )


def _check_before_sealing(secret_key: str | None, headers: Mapping[str, str]) -> None:
    """What the table's own trigger checks, and cannot once it is sealed. Raises Refused."""
    if secret_key is not None and not is_standard(secret_key):
        raise Refused(
            "secret_key: it must be whsec_ and standard base64 of 24 to 64 bytes", "Leave it out to get one."
        )
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable() and value == value.strip()):
            raise Refused(
                f"the value of {name} has a line break, a non-ASCII character or spaces around it",
                "Custom headers are visible ASCII.",
            )


async def update(admin: Admin, webhook_id: int, values: Mapping[str, Any]) -> None:
    """Change these columns of a webhook. Refused if there is none."""
    refuse_wrong_template(None, values.get("payload_template"))
    names = [name for name in values if name in WRITABLE]
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]
    statement = sql.SQL("update pgrelay.webhook_configurations set {} where id = %(id)s returning id").format(
        sql.SQL(", ").join(assignments)
    )
    if await admin.value(statement.as_string(), id=webhook_id, **_adapted(values)) is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")


async def update_headers(
    admin: Admin, webhook_id: int, changes: Mapping[str, str], keys: Keyring = _NO_KEYS
) -> None:
    """Set custom headers; an empty value removes one. The others stay."""
    given = {name: value for name, value in changes.items() if value}
    if keys:
        _check_before_sealing(None, given)
        given = dict(keys.seal(Kept(None, None, given), webhook_id, os.urandom).headers or {})
    await admin.rows(
        "update pgrelay.webhook_configurations set headers = nullif("
        " coalesce((select jsonb_object_agg(key, value) from jsonb_each(headers)"
        " where not lower(key) = any (%(names)s)), '{}')"
        " || %(set)s::jsonb, '{}') where id = %(id)s",
        id=webhook_id,
        names=[name.lower() for name in changes],
        set=Jsonb(given),
    )


async def close_circuit(admin: Admin, webhook_id: int) -> bool:
    """Forget its failures; whether there were any."""
    return bool(await admin.value("select pgrelay.close_circuit(%s)", webhook_id))


async def delete(admin: Admin, webhook_id: int) -> None:
    """Delete a webhook; what it is owed is cancelled. Refused if there is none."""
    gone = await admin.value(
        "delete from pgrelay.webhook_configurations where id = %s returning id", webhook_id
    )
    if gone is None:
        raise Refused(f"there is no webhook {webhook_id}", "See pgrelay webhooks list")


async def rotate_secret(
    admin: Admin, webhook_id: int, overlap: float, keys: Keyring = _NO_KEYS
) -> str | None:
    """A new secret; the old one signs too for `overlap` seconds. None if a daemon makes it, for the key is not here."""
    new = generate_secret(os.urandom(32)) if keys else None
    sealed = keys.seal(Kept(new, None, None), webhook_id, os.urandom).secret_key if keys else None
    found = await admin.value(
        "select pgrelay.rotate_secret(%s, %s * interval '1 second', %s)", webhook_id, overlap, sealed
    )
    return new or found


async def end_overlap(admin: Admin, webhook_id: int, version: int) -> bool:
    """The old secret signs no more; False if none did, or the webhook has changed since that version."""
    return bool(await admin.value("select pgrelay.end_overlap(%s, %s)", webhook_id, version))


async def to_seal(admin: Admin, key_id: str) -> list[tuple[int, int, Kept]]:
    """Id, version and secrets of webhooks where anything is not sealed with this key."""
    rows = await admin.rows("select * from pgrelay.webhooks_to_seal(%s)", key_id)
    return [_secrets(row) for row in rows]


async def sealed(admin: Admin) -> list[tuple[int, int, Kept]]:
    """Id, version and secrets of webhooks where anything is sealed, or awaited."""
    rows = await admin.rows(
        "select w.id, w.version, w.secret_key, w.previous_secret_key, w.headers from pgrelay.webhook_configurations w"
        " join pgrelay.webhooks v on v.id = w.id where v.sealed_with <> '{}' or v.secrets = 'awaited' order by w.id"
    )
    return [_secrets(row) for row in rows]


def _secrets(row: Row) -> tuple[int, int, Kept]:
    return row["id"], row["version"], Kept(row["secret_key"], row["previous_secret_key"], row["headers"])


async def seal_with(admin: Admin, key_id: str | None) -> None:
    """Say with which key secrets are sealed from now on; None: they are kept in the clear."""
    await admin.value("select pgrelay.seal_with(%s)", key_id)


async def keep(admin: Admin, webhook_id: int, version: int, kept: Kept) -> bool:
    """Store the secrets of a webhook in another form. False if it has changed since it was read."""
    found = await admin.value(
        "update pgrelay.webhook_configurations set secret_key = %(secret)s, previous_secret_key = %(previous)s,"
        " headers = %(headers)s where id = %(id)s and version = %(version)s returning id",
        id=webhook_id,
        version=version,
        secret=kept.secret_key,
        previous=kept.previous_secret_key,
        headers=None if kept.headers is None else Jsonb(dict(kept.headers)),
    )
    return found is not None


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
