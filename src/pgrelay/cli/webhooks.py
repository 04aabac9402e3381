"""`pgrelay webhooks`: list, show, add, set, enable, disable, pause, resume, rotate-secret, delete."""

from typing import Any

from pgrelay.cli.context import Context
from pgrelay.cli.limits import limits_of, standing
from pgrelay.cli.options import read_options
from pgrelay.cli.output import Column, Output, Row
from pgrelay.cli.parser import UsageError
from pgrelay.cli.status import rate, state_style
from pgrelay.cli.text import count, printable
from pgrelay.db import admin_checks, admin_webhooks
from pgrelay.db.admin import Admin
from pgrelay.errors import NotPermitted, Refused
from pgrelay.masking import MASK
from pgrelay.sealing import Keyring
from pgrelay.spans import duration, relative


async def list_webhooks(context: Context) -> int:
    async with context.admin() as admin:
        now = await admin.now()
        context.out.table(
            await admin_webhooks.webhooks(admin, context.argument("company")),
            [
                Column("id", right=True),
                Column("company_id", "company"),
                Column("name"),
                Column("state", style=state_style),
                Column("url"),
                Column("subscribed_events", "events", lambda row: ", ".join(row["subscribed_events"])),
                Column("success_rate", "rate", lambda row: rate(row["success_rate"]), right=True),
                Column("pending_deliveries", "pending", right=True),
                Column("last_triggered_at", "last", lambda row: relative(row["last_triggered_at"], now)),
            ],
            empty="There are no webhooks. Add one: pgrelay webhooks add --help",
        )
    return 0


async def show(context: Context) -> int:
    async with context.admin() as admin:
        row = await admin_webhooks.webhook(admin, context.argument("id"))
        if context.argument("reveal"):
            row |= await admin_webhooks.revealed(admin, row["id"], context.keys)
        if context.out.json:
            context.out.value(row)
        else:
            _print_webhook(
                context.out, row, context.settings.delivery.retry_schedule, relative_to=await admin.now()
            )
    return 0


def _print_webhook(out: Output, row: Row, usual_schedule: tuple[float, ...], *, relative_to: Any) -> None:
    now = relative_to
    lines = {
        "webhook": f"{row['id']}  {row['name']}",
        "company": row["company_id"],
        "state": standing(row, now),
        "url": row["url"],
        "events": ", ".join(row["subscribed_events"]),
        "filter": row["filter"],
        "format": None if row["payload_format"] == "standard" else row["payload_format"],
        "secret": row["secret_key"] or "none yet: a running daemon makes it",
        "kept": f"sealed with key {', '.join(row['sealed_with'])}" if row["sealed_with"] else None,
        "old secret": f"signs too, ends {relative(row['previous_secret_expires_at'], now)}"
        if row["previous_secret_expires_at"] and row["previous_secret_expires_at"] > now
        else None,
        "timeout": f"{row['timeout_seconds']} s",
        **limits_of(row, usual_schedule, now),
        "description": row["description"],
        "created": f"{relative(row['created_at'], now)} by {row['created_by']}",
        "deliveries": f"{row['successful_deliveries'] or 0:,} succeeded, {row['failed_deliveries'] or 0:,} failed,"
        f" {row['pending_deliveries'] or 0:,} pending",
        "last attempt": relative(row["last_triggered_at"], now),
    }
    for name, value in lines.items():
        if value is not None:
            out.print(f"{out.style(name.ljust(13), 'dim')}{printable(str(value))}")
    for name, value in (row.get("headers") or {}).items():
        out.print(f"{out.style('header'.ljust(13), 'dim')}{printable(f'{name}: {value}')}")
    if row["payload_format"] == "template":
        out.print(f"{out.style('template'.ljust(13), 'dim')}{printable(row['payload_template'] or MASK)}")
    out.say(f"\nIts deliveries: pgrelay deliveries list --webhook {row['id']}")


async def add(context: Context) -> int:
    limits, _ = read_options(context.argument("limits"))
    given = {
        "company_id": context.argument("company"),
        "name": context.argument("name"),
        "url": context.argument("url"),
        "subscribed_events": context.argument("event"),
        "headers": dict(context.argument("header") or []) or None,
        "timeout_seconds": None
        if context.argument("timeout") is None
        else round(context.argument("timeout")),
        "max_retry_attempts": context.argument("max_attempts"),
        "description": context.argument("description"),
        "secret_key": context.argument("secret"),
        **limits,
    }
    async with context.admin() as admin:
        new = await admin_webhooks.insert(
            admin, {name: value for name, value in given.items() if value is not None}, context.keys
        )
        row = await admin_webhooks.webhook(admin, new)
        secret = await _secret(admin, new, context.keys)
        context.out.value({**row, "secret_key": secret})
        context.out.print(f"Webhook {new} added: {printable(row['name'])}, {printable(row['url'])}")
        print_secret(context.out, secret, new)
        _warn_of_policy(context, row["url"])
        await _warn_of_events(context, admin, new)
        context.out.say(f"Next: pgrelay webhooks test {new}")
    return 0


async def _secret(admin: Admin, webhook_id: int, keys: Keyring) -> str | None:
    """None for who may not see it, or has not the key."""
    try:
        return await admin_webhooks.secret(admin, webhook_id, keys)
    except (NotPermitted, Refused):
        return None


def print_secret(out: Output, secret: str | None, webhook_id: int) -> None:
    """A new secret, to be handed on; None if it cannot be shown."""
    if secret is None:
        return out.say(
            "Its secret cannot be shown: this role may not read it, or it is sealed and the key is not here."
            f"\nWho may and has: pgrelay webhooks show {webhook_id} --reveal"
        )
    out.print(f"Secret: {out.style(secret, 'bold')}")
    out.say(
        "Give it to the receiver now; it verifies signatures with it. It is not shown again unless asked for."
    )


def _warn_of_policy(context: Context, url: str) -> None:
    from pgrelay.addresses import Policy, check_url

    network = context.settings.network
    refused = check_url(url, Policy.of(network.allowed_networks, allow_http=network.allow_http))
    if refused is not None:
        context.out.say(
            f"Warning: it will not be called as the configuration stands: {printable(refused.message)}."
        )


async def _warn_of_events(context: Context, admin: Admin, webhook_id: int) -> None:
    for row in await admin_checks.unmade_events(admin, webhook_id):
        context.out.say(f"Warning: no source makes {row['subscribed']}; only pgrelay.emit() could.")


async def set_options(context: Context) -> int:
    options = [*context.argument("options"), *context.argument("limits")]
    if not options:
        raise UsageError("nothing to set was named", "See pgrelay webhooks set --help")
    webhook_id, (values, headers) = context.argument("id"), read_options(options)
    async with context.admin() as admin:
        async with admin.transaction():
            if values:
                await admin_webhooks.update(admin, webhook_id, values)
            if headers:
                await admin_webhooks.update_headers(admin, webhook_id, headers, context.keys)
            row = await admin_webhooks.webhook(admin, webhook_id)
        context.out.value(row)
        context.out.print(
            f"Webhook {webhook_id}: {', '.join([*values, *(f'header {name}' for name in headers)])} set."
        )
        if "url" in values:
            _warn_of_policy(context, row["url"])
        if "subscribed_events" in values:
            await _warn_of_events(context, admin, webhook_id)
    return 0


async def enable(context: Context) -> int:
    return await _set(context, {"is_active": True}, "active: new events are owed to it again")


async def disable(context: Context) -> int:
    await _confirm_cancelling(context, "Disable")
    return await _set(context, {"is_active": False}, "inactive: nothing is owed to it any more")


async def pause(context: Context) -> int:
    return await _set(context, {"paused": True}, "paused: its deliveries are kept and wait")


async def resume(context: Context) -> int:
    return await _set(context, {"paused": False}, "not paused: what waited is sent now", close_circuit=True)


async def _set(
    context: Context, values: dict[str, bool], consequence: str, *, close_circuit: bool = False
) -> int:
    webhook_id = context.argument("id")
    async with context.admin() as admin:
        async with admin.transaction():
            await admin_webhooks.update(admin, webhook_id, values)
            if close_circuit:
                await admin_webhooks.close_circuit(admin, webhook_id)
        context.out.value(await admin_webhooks.webhook(admin, webhook_id))
        context.out.print(f"Webhook {webhook_id} is {consequence}.")
    return 0


async def _confirm_cancelling(context: Context, act: str) -> None:
    """Ask before pending deliveries are lost; nothing is asked where there are none and nothing else is lost."""
    webhook_id = context.argument("id")
    async with context.admin() as admin:
        row = await admin_webhooks.webhook(admin, webhook_id)
    pending = row["pending_deliveries"] or 0
    if pending or act == "Delete":
        lost = (
            f" {count(pending, 'pending delivery', 'pending deliveries')} will be cancelled."
            if pending
            else ""
        )
        context.out.confirm(
            f"{act} webhook {webhook_id} ({printable(row['name'])}, company {printable(row['company_id'])})?{lost}",
            yes=context.argument("yes"),
        )


async def rotate_secret(context: Context) -> int:
    if context.argument("prove"):
        from pgrelay.cli.rotation import rotate_and_prove

        return await rotate_and_prove(context)
    if context.argument("end_old") or context.argument("wait"):
        raise UsageError(
            "--end-old and --wait belong to --prove", "See pgrelay webhooks rotate-secret --help"
        )
    webhook_id, overlap = context.argument("id"), context.argument("overlap")
    async with context.admin() as admin:
        secret = await admin_webhooks.rotate_secret(admin, webhook_id, overlap, context.keys)
        context.out.value({"id": webhook_id, "secret_key": secret, "overlap_seconds": overlap})
        print_secret(context.out, secret, webhook_id)
        if overlap:
            context.out.say(
                f"For {duration(overlap)} webhook-signature carries both signatures;"
                " X-Webhook-Signature is the new secret's from now on."
            )
    return 0


async def delete(context: Context) -> int:
    await _confirm_cancelling(context, "Delete")
    webhook_id = context.argument("id")
    async with context.admin() as admin:
        await admin_webhooks.delete(admin, webhook_id)
    context.out.value({"id": webhook_id, "deleted": True})
    context.out.print(f"Webhook {webhook_id} is deleted; what it was owed is cancelled.")
    return 0
