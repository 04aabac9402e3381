"""Why a delivery waits, said in words by SQL: whatever holds it back."""

import psycopg
import pytest

from support.database import Database
from support.plans import reads
from support.queue import add_event, add_webhook, claim, expand, pend, record, retried, sign_on, value


@pytest.fixture
def daemon(db: psycopg.Connection) -> int:
    return sign_on(db)


def why(db: psycopg.Connection, delivery: int = 1) -> str | None:
    found: str | None = value(db, "select pgrelay.why_waiting(%s)", delivery)
    return found


def waiting(db: psycopg.Connection, daemon: int, **columns: object) -> int:
    """A webhook with one pending delivery, number 1."""
    webhook = add_webhook(db, **columns)
    add_event(db)
    pend(db, daemon)
    return webhook


def test_what_is_not_pending_waits_for_nothing(db: psycopg.Connection, daemon: int) -> None:
    webhook = waiting(db, daemon)
    assert why(db, 99) is None
    claim(db, daemon, webhook)
    assert why(db) is None
    db.execute("update pgrelay.daemons set lease_until = now() - interval '1 s'")
    assert why(db) == "the daemon that was sending it is gone: another one takes it back"


def test_one_that_is_due_waits_for_a_place_or_for_a_daemon(db: psycopg.Connection, daemon: int) -> None:
    waiting(db, daemon)
    assert why(db) == "it is due, and waits for a free place"
    db.execute("select pgrelay.sign_off(%s)", (daemon,))
    assert why(db) == "no daemon is running"


def test_one_that_failed_waits_for_its_next_attempt(db: psycopg.Connection, daemon: int) -> None:
    webhook = waiting(db, daemon)
    (lease,) = claim(db, daemon, webhook)
    record(db, daemon, retried(lease, 3600.5))
    assert why(db) == "attempt 2 is due in 01:00:00; the one before failed: timeout: no answer within 10 s"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("paused = true", "its webhook is paused"),
        (
            "max_concurrency = 2",
            "its webhook is limited to 2 at once: it waits for its turn and for a daemon",
        ),
        ("rate_limit_per_second = 0.5", "limited to 0.5 a second: it waits for its turn"),
        (
            "max_concurrency = 2, rate_limit_per_second = 5",
            "its webhook is limited to 2 at once and 5 a second:",
        ),
    ],
)
def test_its_webhook_may_be_the_reason(db: psycopg.Connection, daemon: int, change: str, words: str) -> None:
    webhook = waiting(db, daemon)
    db.execute(f"update pgrelay.webhook_configurations set {change} where id = {webhook}".encode())
    assert words in (why(db) or "")


def test_a_webhook_without_a_secret_is_named(db: psycopg.Connection, daemon: int) -> None:
    webhook = waiting(db, daemon)
    db.execute("alter table pgrelay.webhook_configurations disable trigger check_webhook")
    db.execute("update pgrelay.webhook_configurations set secret_key = null where id = %s", (webhook,))
    assert why(db) == "its webhook has no secret yet, which a running daemon that has the key makes"


def test_the_daemon_that_serves_a_limited_webhook_is_named(db: psycopg.Connection, daemon: int) -> None:
    webhook = waiting(db, daemon, max_concurrency=1)
    db.execute("select pgrelay.owned_elsewhere(%s, array[%s]::bigint[])", (daemon, webhook))
    assert (why(db) or "").endswith("it waits for its turn at daemon one")


def test_an_open_circuit_is_told_apart_from_a_receiver_that_asked_for_quiet(
    db: psycopg.Connection, daemon: int
) -> None:
    webhook = waiting(db, daemon)
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries, held_until)"
        " values (%s, 12, 0, now() + interval '100.5 s')",
        (webhook,),
    )
    assert why(db) == "its receiver asked to be left alone (Retry-After) for 00:01:40 more"
    db.execute("update pgrelay.webhook_health set probe_wait = 20, longest_wait = 60")
    assert why(db) == (
        "the circuit of its webhook is open since 12 attempts in a row failed: the next probe is due in 00:01:40"
    )
    assert value(db, "select pgrelay.close_circuit(%s)", webhook) is True
    assert value(db, "select pgrelay.close_circuit(%s)", webhook) is False
    assert why(db) == "it is due, and waits for a free place"


def test_in_order_it_waits_for_the_one_that_goes_first_and_says_what_that_one_waits_for(
    db: psycopg.Connection, daemon: int
) -> None:
    webhook = add_webhook(db, ordering="resource")
    for _ in range(3):
        add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    assert why(db, 3) == "delivery 1 of the same resource goes first: it is being sent"
    record(db, daemon, retried(first, 60.5))
    for waits in (2, 3):
        assert value(db, "select pgrelay.blocking_delivery(%s)", waits) == 1
        assert (why(db, waits) or "").startswith(
            "delivery 1 of the same resource goes first: attempt 2 is due in 00:01:00; the one before failed"
        )
    assert value(db, "select pgrelay.blocking_delivery(1)") is None
    db.execute("select pgrelay.cancel_delivery(1)")
    assert why(db, 2) == "it is the next of its resource: the daemon lets it go in a moment"
    assert (why(db, 3) or "").startswith("delivery 2 of the same resource goes first: it is the next")
    assert webhook


@pytest.mark.parametrize("analysed", [False, True])
def test_behind_a_thousand_of_its_resource_it_still_asks_only_a_few_rows(
    db: psycopg.Connection, daemon: int, analysed: bool
) -> None:
    add_webhook(db, ordering="resource")
    db.execute(
        "insert into pgrelay.outbox (event_type, company_id, idempotency_key, resource_id, body)"
        " select 'a.b', '1', 'k', 'a', '{}' from generate_series(1, 1000)"
    )
    pend(db, daemon)
    if analysed:
        db.execute("analyze")
    with reads(db) as done:
        assert (why(db, 1000) or "").startswith("delivery 1 of the same resource goes first")
    assert not [read for read in done if read.name == "delivery_queue" and not read.by_index]
    assert sum(read.rows for read in done) < 40, done


def test_one_that_expires_says_when(db: psycopg.Connection, daemon: int) -> None:
    waiting(db, daemon)
    db.execute("update pgrelay.delivery_queue set expires_at = now() + interval '90.5 s'")
    assert why(db) == "it is due, and waits for a free place; it expires in 00:01:30"


def test_of_an_inactive_or_deleted_webhook_it_is_cancelled(db: psycopg.Connection, daemon: int) -> None:
    webhook = waiting(db, daemon)
    (lease,) = claim(db, daemon, webhook)
    db.execute("select pgrelay.set_active(%s, false)", (webhook,))
    record(db, daemon, retried(lease))
    assert why(db) == "its webhook is inactive: the daemon cancels it"
    db.execute("delete from pgrelay.webhook_configurations")
    db.execute("update pgrelay.delivery_queue set status = 'pending'")
    assert why(db) in {None, "its webhook is deleted: the daemon cancels it"}


def test_whoever_may_read_deliveries_may_ask(database: Database, db: psycopg.Connection, daemon: int) -> None:
    waiting(db, daemon, max_concurrency=1)
    for role in ("pgrelay_reader", "pgrelay_admin"):
        db.execute(f"set role {role}".encode())
        assert "limited to 1 at once" in (why(db) or "")
        db.execute("reset role")
