"""One delivery told as a story: what happened, to whom it is owed, every attempt, and what comes next in words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pgrelay.cli.output import Output, Row
from pgrelay.cli.text import count, cut, indented, printable
from pgrelay.spans import duration, relative

_LONGEST_BODY = 1_000
_BODY_LINES = 12


def print_story(out: Output, story: Row, now: datetime, *, daemons_alive: int) -> None:
    """All of it."""
    event, webhook, attempts = story["event"], story["webhook"], story["attempts_made"]
    out.print(out.style(f"Delivery {story['id']}: {story['status']}", "bold"))
    if event is None:
        out.print(f"  Event {story['event_id']} is older than its retention; its body is gone.")
    else:
        out.print(
            f"  {event['event_type']} of {printable(event['resource_id'] or '(no resource)')},"
            f" {relative(event['occurred_at'], now)} (event {event['id']}, company {printable(event['company_id'])})"
        )
        out.print(
            f"  Key {event['idempotency_key']}, {count(len(event['body'].encode()), 'byte')} of body (--body prints it)"
        )
    if webhook is None:
        out.print(f"  Webhook {story['webhook_id']} is deleted.")
    else:
        out.print(f"  To webhook {webhook['id']} ({printable(webhook['name'])}): {printable(webhook['url'])}")
    if webhook is not None and webhook["payload_format"] != "standard":
        changed = (
            " as the webhook is now" if any(a["started_at"] < webhook["updated_at"] for a in attempts) else ""
        )
        out.print(f"  Sent as {webhook['payload_format']}: --body prints what is made of it{changed}")
    for attempt in attempts:
        print_attempt(out, attempt, now)
    out.print()
    out.print(next_step(story, now, daemons_alive=daemons_alive))


def print_attempt(out: Output, attempt: Row, now: datetime) -> None:
    """One request and what came of it."""
    failed = attempt["error_kind"] is not None
    took = f" after {duration(attempt['duration_ms'] / 1000)}" if attempt["duration_ms"] is not None else ""
    error = f"{attempt['error_kind']}: {attempt['error_message'] or ''}"
    result = error if failed else f"HTTP {attempt['status_code']}"
    late = " (recorded after its lease was lost)" if attempt["late"] else ""
    twice = " (sent twice: the connection that was kept had ended)" if attempt["requests"] > 1 else ""
    out.print()
    mark = out.style("✗" if failed else "✓", "red" if failed else "green")
    who = f" by {printable(attempt['daemon'])}" if attempt["daemon"] else ""
    out.print(
        f"{mark} Attempt {attempt['attempt']}, {relative(attempt['started_at'], now)}{who}{late}{twice}"
    )
    out.print(f"    {out.style(printable(result), 'red' if failed else 'green')}{took}")
    for arrow, headers in (("→", attempt["request_headers"]), ("←", attempt["response_headers"])):
        for name, value in (headers or {}).items():
            out.print(out.style(f"    {arrow} {printable(name)}: {printable(str(value))}", "dim"))
    body = attempt["response_body"]
    if body:
        out.print(indented(_shortened(body), "    ← "))


def next_step(story: Row, now: datetime, *, daemons_alive: int) -> str:
    """What comes next, and what one could do about it."""
    status, delivery, webhook = story["status"], story["id"], story["webhook"]
    if status == "succeeded":
        return f"Delivered {relative(story['finished_at'], now)}."
    if status == "failed":
        ended = (
            f"Given up after {count(story['attempts'], 'attempt')}, {relative(story['finished_at'], now)}."
        )
        return f"{ended} Try again: pgrelay deliveries retry {delivery}"
    if status in {"cancelled", "expired"}:
        why = f": {printable(story['last_error'])}" if story["last_error"] else ""
        return (
            f"{status.capitalize()} {relative(story['finished_at'], now)}{why}."
            f" Send it after all: pgrelay deliveries retry {delivery}"
        )
    if status == "in_flight":
        return f"Being sent by {printable(story['leased_by'] or 'a daemon')} now."
    return _pending(story, webhook, now, daemons_alive)


def _pending(story: Row, webhook: Mapping[str, Any] | None, now: datetime, daemons_alive: int) -> str:
    if webhook is None:
        return f"Its webhook is deleted. Cancel it: pgrelay deliveries cancel {story['id']}"
    why, first = story["waits_because"], story["waits_for"]
    if why is None or why.startswith("attempt "):  # its time has not come: that reads better in our own words
        words = _when(story, webhook, now)
    else:
        words = f"{_left(story, webhook)}. Now {printable(why)}."
    if webhook["paused"]:
        return f"{words} Go on: pgrelay webhooks resume {webhook['id']}"
    if first is not None:
        words += (
            f"\nDelivery {first['id']} was made {relative(first['created_at'], now)}. Its story:"
            f" pgrelay deliveries show {first['id']}"
        )
    return words if daemons_alive else f"{words} Start a daemon: pgrelay run"


def _left(story: Row, webhook: Mapping[str, Any]) -> str:
    if not story["attempts"]:
        return "Not tried yet"
    left = count(webhook["max_retry_attempts"] - story["attempts"], "more attempt")
    return f"Fails for good after {left}"


def _when(story: Row, webhook: Mapping[str, Any], now: datetime) -> str:
    """When it is tried next, and until when."""
    due = story["next_attempt_at"]
    word = "next" if story["attempts"] else "due"
    words = (
        f"{_left(story, webhook)}, {word} {relative(due, now) if due is not None and due > now else 'now'}."
    )
    ends = story["expires_at"]
    return words if ends is None else f"{words} It expires {relative(ends, now)}."


def _shortened(body: str) -> str:
    lines = printable(body[:_LONGEST_BODY], lines=True).splitlines()
    shown = "\n".join(cut(line, 200) for line in lines[:_BODY_LINES])
    return shown + ("\n…" if len(body) > _LONGEST_BODY or len(lines) > _BODY_LINES else "")
