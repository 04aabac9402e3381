"""A webhook's limits and health in words: how it may be called, who calls it, what holds it back. Pure."""

from collections.abc import Sequence
from datetime import datetime

from pgrelay.cli.output import Row
from pgrelay.cli.text import count, listed
from pgrelay.spans import duration, relative

_WAITS = 12


def standing(row: Row, now: datetime) -> str:
    """Its state, and if pgrelay itself made it inactive, why."""
    if not row["disabled_at"]:
        return str(row["state"])
    return f"disabled by pgrelay {relative(row['disabled_at'], now)}: {row['disabled_reason']}"


def limits_of(row: Row, usual_schedule: Sequence[float], now: datetime) -> dict[str, str | None]:
    """Lines for `webhooks show`, by their heading; None for what there is nothing to say of."""
    most, rate = row["max_concurrency"], row["rate_limit_per_second"]
    return {
        "attempts": _attempts(row["max_retry_attempts"], row["retry_schedule"], usual_schedule),
        "at once": None if most is None else count(most, "request"),
        "rate": None if rate is None else _rate(rate),
        "order": "events of one resource one after the other" if row["ordering"] == "resource" else None,
        "served by": None
        if (most is None and rate is None) or not row["is_active"]
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


def _attempts(most: int, schedule: Sequence[float] | None, usual: Sequence[float]) -> str:
    """How many there are, and the waits between them, as far as they matter."""
    if most == 1:
        return "one alone"
    given = usual if schedule is None else schedule
    words = (
        f"at most {most}, waiting {listed(map(duration, given[: most - 1]), _WAITS) or '1 min'} between them"
    )
    if schedule is None:
        return f"{words} (the configuration's schedule)"
    unused = len(given) - most + 1
    return words if unused <= 0 else f"{words}; max_attempts={len(given) + 1} would use all of its schedule"


def _rate(rate: float) -> str:
    if rate >= 1:
        return f"at most {rate:g} {'request' if rate == 1 else 'requests'} a second"
    return f"at most {rate:g} requests a second (one in {duration(1 / rate)})"
