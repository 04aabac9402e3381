"""A webhook's limits and health in words: how it may be called, who calls it, what holds it back. Pure."""

from collections.abc import Sequence
from datetime import datetime

from pgrelay.cli.output import Row
from pgrelay.cli.status import state
from pgrelay.cli.text import count, duration, listed, relative

_WAITS = 12


def standing(row: Row, now: datetime) -> str:
    """Its state, and if pgrelay itself made it inactive, why."""
    if not row["disabled_at"]:
        return state(row)
    return f"disabled by pgrelay {relative(row['disabled_at'], now)}: {row['disabled_reason']}"


def limits_of(row: Row, usual_schedule: Sequence[float], now: datetime) -> dict[str, str | None]:
    """Lines for `webhooks show`, by their heading; None for what there is nothing to say of."""
    schedule = row["retry_schedule"]
    waits = listed(map(duration, usual_schedule if schedule is None else schedule), _WAITS)
    most, rate = row["max_concurrency"], row["rate_limit_per_second"]
    return {
        "attempts": f"at most {row['max_retry_attempts']}, waiting {waits or 'as configured'} between them"
        + ("" if schedule is not None else " (the configuration's schedule)"),
        "at once": None if most is None else count(most, "request"),
        "rate": None if rate is None else _rate(rate),
        "order": "events of one resource one after the other" if row["ordering"] == "resource" else None,
        "served by": None
        if most is None and rate is None
        else f"daemon {row['owner_daemon']} alone, so that its limits hold"
        if row["owner_daemon"]
        else "one daemon alone, so that its limits hold; none serves it now",
        "health": health(row, now),
    }


def health(row: Row, now: datetime) -> str | None:
    """What is known against it since its last success."""
    words = []
    if row["failures_in_row"]:
        failed = count(row["failures_in_row"], "attempt")
        words.append(f"{failed} in a row failed, the first {relative(row['failing_since'], now)}")
    if row["circuit_open"]:
        due = row["held_until"]
        words.append(
            f"circuit open, next probe {relative(due, now) if due is not None and due > now else 'now'}"
        )
    elif row["held_until"]:
        words.append(
            f"nothing is sent for {duration((row['held_until'] - now).total_seconds())}, as it asked (Retry-After)"
        )
    return "; ".join(words) or None


def _rate(rate: float) -> str:
    if rate >= 1:
        return f"at most {rate:g} {'request' if rate == 1 else 'requests'} a second"
    return f"at most {rate:g} requests a second (one in {duration(1 / rate)})"
