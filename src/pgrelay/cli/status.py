"""`pgrelay status`: one page that begins with who runs and what waits."""

import asyncio
from datetime import datetime
from typing import Any

from pgrelay.cli.context import Context
from pgrelay.cli.output import Column, Output, Row
from pgrelay.cli.replay import table as replays_table
from pgrelay.cli.text import count, listed, printable
from pgrelay.db import admin_replays, admin_upkeep
from pgrelay.db.admin import Admin
from pgrelay.spans import duration, relative

_WEBHOOKS = 10
_REPLAYS = 10
_STATE_STYLES = {
    "healthy": "green",
    "failing": "red",
    "circuit open": "red",
    "disabled": "red",
    "inactive": "dim",
}
_CLEAR = "\x1b[H\x1b[2J"


async def status(context: Context) -> int:
    every = context.argument("watch")
    async with context.admin() as admin:
        await _page(admin, context.out)
        while every is not None:
            context.out.flush()
            await asyncio.sleep(every)
            if context.out.columns is not None:
                context.out.print(_CLEAR)
            await _page(admin, context.out)
    return 0


async def _page(admin: Admin, out: Output) -> None:
    now = await admin.now()
    page: dict[str, Any] = {
        "at": now,
        "health": await admin_upkeep.health(admin),
        "daemons": await admin_upkeep.daemons(admin),
        "totals": await admin_upkeep.totals(admin),
        "webhooks": await admin_upkeep.webhooks_by_health(admin, _WEBHOOKS),
        "replays": await admin_replays.replays(admin, status="running", limit=_REPLAYS),
        "capture_errors": await admin_upkeep.capture_errors(admin),
        "deadlines": await admin_upkeep.deadlines(admin),
    }
    if out.json:
        return out.value(page)
    _print_daemons(out, page["daemons"], now)
    _print_queue(out, page["health"], now)
    _print_totals(out, page["totals"])
    _print_webhooks(out, page["webhooks"], page["health"], now)
    if page["replays"]:
        _heading(out, "Replays that run")
        replays_table(out, page["replays"], now)
    _print_errors(out, page["capture_errors"], now)
    _print_deadlines(out, page["deadlines"], now)


def _heading(out: Output, text: str) -> None:
    out.print()
    out.print(out.style(text, "bold"))


def _print_daemons(out: Output, daemons: list[Row], now: datetime) -> None:
    out.print(out.style("Daemons", "bold"))
    for row in daemons:
        if row["alive"]:
            how = "listening" if row["listening"] else "polling"
            line = f"  {row['name']} {row['version']}, {how}, started {relative(row['started_at'], now)},"
            out.print(f"{line} heartbeat {relative(row['heartbeat_at'], now)}")
        elif row["lapsed"]:
            line = f"  {row['name']} fell silent {relative(row['heartbeat_at'], now)}; its deliveries lapse"
            out.print(out.style(line, "yellow"))
    if not any(row["alive"] for row in daemons):
        out.print(out.style("  none is running: nothing is delivered. Start one: pgrelay run", "red"))


def _print_queue(out: Output, health: Row, now: datetime) -> None:
    _heading(out, "Queue")
    out.print(
        f"  {count(health['events_waiting'], 'event')} to expand, {health['deliveries_pending']:,} pending,"
        f" {health['deliveries_in_flight']:,} in flight"
    )
    oldest = health["oldest_untried_at"]
    if oldest is not None:
        out.print(f"  the oldest that was never tried waits since {relative(oldest, now)}")


def _print_totals(out: Output, totals: list[Row]) -> None:
    _heading(out, "Deliveries")
    for row in totals:
        if row["attempts"] or row["succeeded"] or row["failed"]:
            rate = f", {duration(row['mean_ms'] / 1000)} a request" if row["mean_ms"] is not None else ""
            out.print(
                f"  last {row['period']:4}  {row['succeeded']:,} succeeded, {row['failed']:,} failed,"
                f" {count(row['attempts'], 'attempt')} ({row['attempts_failed']:,} failed){rate}"
            )
        else:
            out.print(f"  last {row['period']:4}  none")


def _print_webhooks(out: Output, webhooks: list[Row], health: Row, now: datetime) -> None:
    _heading(out, "Webhooks, failing first")
    if not webhooks:
        return out.print("  none. Add one: pgrelay webhooks add --help")
    held = [
        count(health["circuits_open"], "circuit") + " open",
        f"{health['webhooks_held']:,} held back by the receiver",
        f"{health['disabled_last_week']:,} disabled within 7 days",
    ]
    shown = [words for words in held if not words.startswith("0 ")]
    if shown:
        out.print(out.style(f"  {listed(shown)}; pgrelay check says why", "yellow"))
    out.table(
        webhooks,
        [
            Column("webhook_id", "id", right=True),
            Column("name"),
            Column("company_id", "company"),
            Column("state", style=state_style),
            Column("failed_last_hour", "failed/h", right=True),
            Column("succeeded_last_hour", "ok/h", right=True),
            Column("success_rate", "rate", lambda row: rate(row["success_rate"]), right=True),
            Column("pending_deliveries", "pending", right=True),
            Column("oldest_pending_at", "oldest", lambda row: relative(row["oldest_pending_at"], now, "")),
            Column("last_triggered_at", "last", lambda row: relative(row["last_triggered_at"], now)),
        ],
    )


def state_style(row: Row) -> str:
    """The colour of a webhook's state."""
    return _STATE_STYLES.get(row["state"], "yellow")


def rate(percent: float | None) -> str:
    """A success rate; nothing where nothing ended yet."""
    return "" if percent is None else f"{percent:.4g} %"


def _print_errors(out: Output, errors: list[Row], now: datetime) -> None:
    if not errors:
        return
    _heading(out, "Capture errors: changes whose event could not be made")
    for row in errors:
        line = f"  {row['source']}, {row['event_type']}: {row['errors']:,}, the last {relative(row['last_at'], now)}:"
        out.print(out.style(f"{line} {printable(row['message'] or '')}", "red"))
    out.print("  Mend the cause, then: pgrelay recapture")


def _print_deadlines(out: Output, deadlines: list[Row], now: datetime) -> None:
    if not deadlines:
        return
    _heading(out, "Deadlines")
    for row in deadlines:
        out.print(f"  {row['event_type']}: {row['armed']:,} armed, the next {relative(row['next_at'], now)}")
