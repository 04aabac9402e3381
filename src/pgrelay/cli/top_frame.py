"""One frame of `pgrelay top`: figures in, lines out. What is most important comes first, for small windows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pgrelay.cli.output import Column, Output, Row
from pgrelay.cli.text import count, printable
from pgrelay.spans import duration, relative

_DAEMONS = 4
#: Lines that a table has beside its rows: a gap, its heading, its titles.
_BESIDE = 3


def show(figures: Row, out: Output, *, rows: int | None) -> None:
    """Print the figures; in a window of so many `rows`, the tables get what is left."""
    now = figures["at"]
    head = [
        out.style(f"pgrelay top  {figures['database']}  {now:%Y-%m-%d %H:%M:%S} UTC", "bold"),
        *_daemons(figures["daemons"], now, out),
        _rates(figures),
        _queue(figures["health"], now),
        *_trouble(figures["health"], out),
    ]
    for line in head:
        out.print(line)
    seconds = figures["lately"]["seconds"]
    busiest = figures["webhooks"]
    worst = sorted(
        (row for row in busiest if row["attempts_failed"]),
        key=lambda row: (-row["attempts_failed"], row["webhook_id"]),
    )
    tables = [
        ("Busiest webhooks", busiest, _webhook_columns(seconds, now)),
        ("Worst webhooks", worst, _webhook_columns(seconds, now)),
        ("Latest failures", figures["failures"], _failure_columns(now)),
    ]
    shares = _shares([len(found) for _, found, _ in tables], None if rows is None else rows - len(head))
    for (title, found, columns), share in zip(tables, shares, strict=True):
        if share:
            out.print()
            out.print(out.style(title, "bold"))
            out.table(found[:share], columns)


def _shares(wanted: Sequence[int], lines: int | None) -> list[int]:
    """How many rows each table gets of so many lines: equal shares, and what one does not need goes to the next."""
    if lines is None:
        return [min(number, 10) for number in wanted]
    shares = []
    for place, number in enumerate(wanted):
        later = sum(1 for other in wanted[place + 1 :] if other)
        share = min(number, max(0, lines // (later + 1) - _BESIDE))
        shares.append(share)
        lines -= share + _BESIDE if share else 0
    return shares


def _daemons(daemons: Sequence[Row], now: datetime, out: Output) -> list[str]:
    if not any(row["alive"] for row in daemons):
        return [out.style("Daemons   none is running: nothing is delivered. Start one: pgrelay run", "red")]
    lines = []
    for row in daemons[:_DAEMONS]:
        if row["alive"]:
            up = duration((now - row["started_at"]).total_seconds())
            lines.append(f"{printable(row['name'])}: {printable(row['note'] or 'starting')}; up {up}")
        else:
            silent = f"{printable(row['name'])} fell silent {relative(row['heartbeat_at'], now)}"
            lines.append(out.style(silent, "yellow"))
    if len(daemons) > _DAEMONS:
        lines.append(f"and {len(daemons) - _DAEMONS} more")
    return [f"{'Daemons' if place == 0 else '':9} {line}" for place, line in enumerate(lines)]


def _rates(figures: Row) -> str:
    rates, lately = figures["rates"], figures["lately"]
    parts = [
        f"{_number(rates['attempts'])} attempts/s",
        f"{_number(rates['succeeded'])} delivered/s",
        f"{_number(rates['failed'])} given up/s",
    ]
    if lately["attempts"]:
        parts.append(f"{_percent(lately['attempts_failed'], lately['attempts'])} of attempts fail")
        parts.append(f"{duration(lately['mean_ms'] / 1000)} a request")
    return f"Rates     {', '.join(parts)}"


def _queue(health: Row, now: datetime) -> str:
    parts = [
        f"{count(health['events_waiting'], 'event')} to expand",
        f"{health['deliveries_pending']:,} pending",
        f"{health['deliveries_in_flight']:,} in flight",
    ]
    for word, key in (("most overdue", "oldest_due_at"), ("oldest never tried", "oldest_untried_at")):
        if health[key] is not None:
            parts.append(f"{word} {duration(max(0.0, (now - health[key]).total_seconds()))}")
    return f"Queue     {', '.join(parts)}"


def _trouble(health: Row, out: Output) -> list[str]:
    """What a person should look at, if there is anything."""
    parts = [
        text
        for number, text in (
            (health["failed_last_day"], f"{count(health['failed_last_day'], 'dead letter')} within a day"),
            (health["capture_errors_open"], count(health["capture_errors_open"], "capture error")),
            (health["deadlines_overdue"], f"{count(health['deadlines_overdue'], 'deadline')} overdue"),
            (health["circuits_open"], f"{count(health['circuits_open'], 'circuit')} open"),
            (health["webhooks_held"], f"{count(health['webhooks_held'], 'webhook')} held"),
            (
                health["disabled_last_week"],
                f"{count(health['disabled_last_week'], 'webhook')} disabled within a week",
            ),
            (health["webhooks_paused"], f"{count(health['webhooks_paused'], 'webhook')} paused"),
        )
        if number
    ]
    return [out.style(f"Trouble   {', '.join(parts)}", "red")] if parts else []


def _webhook_columns(seconds: float, now: datetime) -> list[Column]:
    return [
        Column("webhook_id", "id", right=True),
        Column("name", show=lambda row: row["name"] or "(deleted)"),
        Column("company_id", "company"),
        Column("attempts", "att/s", lambda row: _number(row["attempts"] / seconds), right=True),
        Column("attempts_failed", "fail", _failing, style=_failing_style, right=True),
        Column("mean_ms", "mean", lambda row: duration((row["mean_ms"] or 0) / 1000), right=True),
        Column("pending_deliveries", "pending", lambda row: f"{row['pending_deliveries']:,}", right=True),
        Column(
            "oldest_pending_at", "oldest", lambda row: relative(row["oldest_pending_at"], now, ""), right=True
        ),
        Column(
            "state", show=lambda row: _state(row, now), style=lambda row: "yellow" if _state(row, now) else ""
        ),
    ]


def _state(row: Row, now: datetime) -> str:
    """Why a webhook gets less than it might; nothing for one that is served as usual."""
    if row["name"] is None:
        return ""
    if not row["is_active"]:
        return "inactive"
    if row["paused"]:
        return "paused"
    if row["circuit_open"]:
        return f"circuit open, probed {relative(row['held_until'], now)}"
    if row["held_until"] is not None and row["held_until"] > now:
        return f"held, goes on {relative(row['held_until'], now)}"
    return ""


def _failing(row: Row) -> str:
    return _percent(row["attempts_failed"], row["attempts"])


def _failing_style(row: Row) -> str:
    return "red" if row["attempts_failed"] * 2 > row["attempts"] else ""


def _failure_columns(now: datetime) -> list[Column]:
    return [
        Column("started_at", "when", lambda row: relative(row["started_at"], now), right=True),
        Column("delivery_id", "delivery", right=True),
        Column("webhook_id", "webhook", right=True),
        Column("name", show=lambda row: row["name"] or "(deleted)"),
        Column("attempt", right=True),
        Column("error_kind", "why", _why),
    ]


def _why(row: Row) -> str:
    return f"{row['error_kind']}: {row['error_message'] or ''}"


def _number(value: float) -> str:
    """Three figures that matter: 0, 0.25, 3.1, 812, 1,204."""
    return f"{value:,.0f}" if value >= 100 or not value else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _percent(part: Any, whole: Any) -> str:
    return f"{100 * part / whole:.3g} %" if whole else ""
