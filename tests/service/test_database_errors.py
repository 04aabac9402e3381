"""Statements that fail while the server stays up (a full disk, a deadlock, a time limit): nothing is lost or sent twice."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgrelay.observation import DatabaseBack, DatabaseLost, Delivered, UpkeepFailed
from support.daemon import daemon, until
from support.database import Database
from support.factories import emit
from support.queue import add_webhook, value
from support.receiver import Receiver

#: What a server says that is short of something, or in a hurry.
ERRORS = {
    "disk_full": "could not extend file: No space left on device",
    "too_many_connections": "remaining connection slots are reserved",
    "out_of_memory": "out of memory",
    "deadlock_detected": "deadlock detected",
    "query_canceled": "canceling statement due to statement timeout",
    "io_error": "could not read block",
    "internal_error": "unexpected state",
}


@contextmanager
def fails(
    db: psycopg.Connection, table: str, error: str, *, at: str = "before insert or update or delete"
) -> Iterator[None]:
    """Every statement that writes to the table fails while the block lasts."""
    message = ERRORS.get(error, "no")
    db.execute(
        "create function fail() returns trigger language plpgsql"
        f" as $$begin raise {error} using message = '{message}'; end$$;"
        f" create trigger fail {at} on pgrelay.{table} for each statement execute function fail()".encode()
    )
    try:
        yield
    finally:
        db.execute("drop function fail() cascade")


@pytest.mark.parametrize("error", ERRORS)
async def test_outcomes_that_cannot_be_written_wait_and_no_request_is_made_again(
    database: Database, db: psycopg.Connection, receiver: Receiver, error: str
):
    add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn) as one:
        with fails(db, "delivery_attempts", error):
            emit(db, 20)
            await receiver.wait_for(20)
            (lost, *_) = await one.seen(DatabaseLost)
            assert ERRORS[error] in lost.reason
            assert value(db, "select count(*) from pgrelay.deliveries where status = 'in_flight'") == 20
        await one.seen(Delivered, 20)
        await one.seen(DatabaseBack)
    assert len(receiver.seen) == 20
    assert value(db, "select count(*) from pgrelay.delivery_attempts where not late") == 20
    assert (
        value(db, "select count(*) from pgrelay.deliveries where status = 'succeeded' and attempts = 1") == 20
    )


@pytest.mark.parametrize("table", ["delivery_queue", "feed_windows"])
async def test_events_that_cannot_be_expanded_wait_and_go_out_later_once(
    database: Database, db: psycopg.Connection, receiver: Receiver, table: str
):
    add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn) as one:
        with fails(db, table, "disk_full"):
            emit(db, 20)
            await one.seen(DatabaseLost)
            assert receiver.seen == []
        await one.seen(Delivered, 20)
    assert len(receiver.seen) == 20
    assert (
        value(db, "select count(*) from pgrelay.deliveries where status = 'succeeded' and attempts = 1") == 20
    )


async def test_the_lease_is_kept_or_nothing_is_begun_when_it_cannot_be(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn, {"daemon.lease": 2.0}) as one:
        with fails(db, "daemons", "disk_full"):
            # the lease, as the daemon reckons it, is over before the database's
            await until(db, "select lease_until < clock_timestamp() from pgrelay.daemons")
            emit(db, 5)
            db.execute("select pg_sleep(1)")
            assert receiver.seen == []
        await one.seen(Delivered, 5)
    assert len(receiver.seen) == 5


async def test_upkeep_that_is_refused_is_told_and_holds_up_no_delivery(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    with fails(db, "feed_windows", "check_violation", at="before delete"):
        async with daemon(database.dsn) as one:
            (told, *_) = await one.seen(UpkeepFailed)
            assert told.chore == "retention"
            emit(db)
            await one.seen(Delivered)
