"""A copy is noticed and sends nothing until a person has said what is to become of it; then exactly that happens."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql

from pgrelay.demo.cluster import Cluster
from support.database import Database
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    pend,
    record,
    sign_on,
    succeeded,
    until_it_waits,
    value,
)

CopyMaker = Callable[[Database], Database]


def as_installed(db: psycopg.Connection) -> None:
    """Databases of tests are copies of a template: make this one the original."""
    db.execute(
        "update pgrelay.installation set (system_identifier, database_oid) = (select i.system_identifier, i.database_oid"
        " from pgrelay.identity() as i)"
    )


def problem(db: psycopg.Connection, environment: str = "production") -> str | None:
    said = value(db, "select pgrelay.copy_problem(%s)", environment)
    return None if said is None else str(said)


def adopt(db: psycopg.Connection, pending: str, environment: str = "staging") -> int:
    return int(value(db, "select pgrelay.adopt(%s, %s)", environment, pending))


@contextmanager
def dropped_at_the_end(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        with psycopg.connect(database.cluster.dsn(), autocommit=True) as superuser:
            superuser.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database.name))
            )


def create(database: Database, clause: str) -> None:
    with psycopg.connect(database.cluster.dsn(), autocommit=True) as superuser:
        superuser.execute(sql.SQL("create database {} " + clause).format(sql.Identifier(database.name)))


@pytest.fixture
def cloned() -> Iterator[CopyMaker]:
    """Copies a database within its cluster."""
    with _many(_clone) as make:
        yield make


def _clone(origin: Database) -> Database:
    copy = Database(f"{origin.name}_copy", origin.cluster)
    create(copy, f"template {origin.name}")
    return copy


@pytest.fixture
def restored(cluster_with_prepared: Cluster) -> Iterator[CopyMaker]:
    """Dumps a database and restores it into another cluster, whose transaction ids are of another age."""
    with _many(lambda origin: _dump_and_restore(origin, cluster_with_prepared)) as make:
        yield make


def _dump_and_restore(origin: Database, elsewhere: Cluster) -> Database:
    copy = Database(f"{origin.name}_restored", elsewhere)
    create(copy, "")
    programs = origin.cluster.binaries.bin_dir
    dump = [programs / "pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--dbname", origin.dsn]
    made = subprocess.run(dump, check=True, capture_output=True)
    restore = [
        programs / "pg_restore",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--dbname",
        copy.dsn,
    ]
    subprocess.run(restore, input=made.stdout, check=True, capture_output=True)
    return copy


@contextmanager
def _many(make: CopyMaker) -> Iterator[CopyMaker]:
    with ExitStack() as stack:
        yield lambda origin: stack.enter_context(dropped_at_the_end(make(origin)))


def busy(db: psycopg.Connection) -> None:
    """Events 1 to 7: 1 delivered, 2 in flight, 3 pending, then a window of 4 to 7 of which 4 and 5 are expanded."""
    add_webhook(db)
    add_events(db, 3)
    daemon = sign_on(db)
    first, _ = expand(db, daemon, room=2).leases
    record(db, daemon, succeeded(first))
    add_events(db, 4)
    assert len(expand(db, daemon, limit=2).leases) == 2


def sendable(db: psycopg.Connection) -> list[int]:
    """The events that a new daemon gets to send, however it comes by them."""
    daemon = sign_on(db, "new")
    events = [lease.event_id for lease in claim(db, daemon, 1)]
    more = True
    while more:
        step = expand(db, daemon, limit=2)
        events += [lease.event_id for lease in step.leases]
        more = step.more
    return sorted(events)


def test_the_database_of_the_installation_has_no_problem(db: psycopg.Connection) -> None:
    assert problem(db) is not None
    as_installed(db)
    assert problem(db) is None


def test_another_environment_is_noticed_once_one_is_noted(db: psycopg.Connection) -> None:
    adopt(db, "keep", "production")
    assert problem(db, "production") is None
    assert (
        problem(db, "staging") == "the configuration says environment staging, the database says production"
    )


def test_a_database_that_nobody_vouches_for_has_a_problem(db: psycopg.Connection) -> None:
    db.execute("delete from pgrelay.installation")
    assert "nothing says that this database is the original" in (problem(db) or "")


def test_a_copy_within_the_cluster_is_noticed_and_the_original_is_not(
    database: Database, cloned: CopyMaker
) -> None:
    with database.connect() as original:
        as_installed(original)
    with cloned(database).connect() as copy, database.connect() as original:
        assert "is a copy within its cluster, or was restored" in (problem(copy) or "")
        assert problem(original) is None
        adopt(copy, "keep", "production")
        assert problem(copy) is None


def test_a_restore_into_another_cluster_is_noticed(database: Database, restored: CopyMaker) -> None:
    with restored(database).connect() as copy:
        assert "was restored or cloned from another cluster" in (problem(copy) or "")
        adopt(copy, "cancel")
        assert problem(copy, "staging") is None
        assert problem(copy, "production") is not None


@pytest.mark.parametrize("how", ["cloned", "restored"])
def test_an_adopted_copy_that_keeps_sends_exactly_what_was_owed_and_then_goes_on(
    database: Database, how: str, request: pytest.FixtureRequest
) -> None:
    with database.connect() as origin:
        busy(origin)
    make: CopyMaker = request.getfixturevalue(how)
    with make(database).connect() as copy:
        assert adopt(copy, "keep") == 4
        assert value(copy, "select events from pgrelay.unexpanded_events()") == 2
        assert sendable(copy) == [2, 3, 4, 5, 6, 7]
        add_event(copy)
        assert sendable(copy) == [8]
        assert sendable(copy) == []


@pytest.mark.parametrize("how", ["cloned", "restored"])
def test_an_adopted_copy_that_cancels_sends_nothing_old_and_then_goes_on(
    database: Database, how: str, request: pytest.FixtureRequest
) -> None:
    with database.connect() as origin:
        busy(origin)
    make: CopyMaker = request.getfixturevalue(how)
    with make(database).connect() as copy:
        assert adopt(copy, "cancel") == 4
        assert value(copy, "select events from pgrelay.unexpanded_events()") == 0
        assert sendable(copy) == []
        rows = copy.execute(
            "select event_id, status, last_error from pgrelay.delivery_history order by event_id"
        ).fetchall()
        assert rows == [(1, "succeeded", None)] + [
            (event, "cancelled", "pending when the database was copied") for event in (2, 3, 4, 5)
        ]
        add_event(copy)
        assert sendable(copy) == [8]


@pytest.mark.parametrize(("pending", "expected"), [("keep", [2, 3, 4, 5, 6, 7]), ("cancel", [])])
def test_transaction_ids_of_the_future_never_come_true(
    db: psycopg.Connection, pending: str, expected: list[int]
) -> None:
    # as after a restore into a younger cluster: every id of before lies ahead, some of them just ahead
    busy(db)
    ahead = "select 3 + pg_current_xact_id()::text::bigint - min(xid::text::bigint) from pgrelay.outbox"
    shift = int(value(db, ahead))
    db.execute(f"update pgrelay.outbox set xid = (xid::text::bigint + {shift})::text::xid8".encode())
    later = "format('%s:%s:', pg_snapshot_xmin({0})::text::bigint + {1}, pg_snapshot_xmax({0})::text::bigint + {1})::pg_snapshot"
    for column in ("from_snapshot", "to_snapshot"):
        db.execute(f"update pgrelay.feed_windows set {column} = {later.format(column, shift)}".encode())
    adopt(db, pending)
    assert sendable(db) == expected
    for _ in range(2 * shift):  # until the ids of the future have become the past
        db.execute("select pg_current_xact_id()")
        assert sendable(db) == []
    add_event(db)
    assert sendable(db) == [8]


@pytest.mark.parametrize("others_end", [False, True])
def test_a_transaction_that_began_before_and_writes_after_is_not_forgotten(
    database: Database, db: psycopg.Connection, others_end: bool
) -> None:
    add_webhook(db)
    kept = add_event(db)
    with database.connect(autocommit=False) as early, database.connect(autocommit=False) as late:
        early.execute("select pg_current_xact_id()")
        with database.connect(autocommit=False) as adopting:
            adopting.execute("select pg_current_xact_id()")
            late.execute("select pg_current_xact_id()")
            if others_end:
                db.execute("select pg_current_xact_id()")
            adopt(adopting, "keep")
            adopting.commit()
        first = add_event(early)
        early.commit()
        pend(db, sign_on(db))
        second = add_event(late)
        late.commit()
    pend(db, sign_on(db))
    rows = db.execute("select event_id from pgrelay.delivery_queue order by id").fetchall()
    assert rows == [(kept,), (first,), (second,)]


def test_a_daemon_of_the_original_is_dead_in_the_copy(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    adopt(db, "keep")
    assert record(db, daemon, succeeded(lease)) == [lease.delivery_id]
    assert value(db, "select pgrelay.heartbeat(%s, 60, true, '')", daemon) is False
    (again,) = claim(db, sign_on(db), lease.webhook_id)
    assert (again.delivery_id, again.lease_no) == (lease.delivery_id, lease.lease_no + 2)


def test_adopting_waits_for_a_writer_and_keeps_its_event(database: Database, db: psycopg.Connection) -> None:
    add_webhook(db)
    with (
        database.connect(autocommit=False) as writer,
        database.connect() as person,
        ThreadPoolExecutor() as pool,
    ):
        event = add_event(writer)
        adopted = pool.submit(adopt, person, "keep")
        until_it_waits(db, person)
        writer.commit()
        assert adopted.result() == 0
    assert sendable(db) == [event]


@pytest.mark.parametrize("pending", ["'sell'", "null"])
def test_what_is_to_become_of_the_pending_must_be_said(db: psycopg.Connection, pending: str) -> None:
    with pytest.raises(psycopg.Error, match="pending deliveries: ") as refused:
        db.execute(f"select pgrelay.adopt('staging', {pending})".encode())
    assert (refused.value.sqlstate, refused.value.diag.message_hint) == ("PGR23", "Say keep or cancel.")
