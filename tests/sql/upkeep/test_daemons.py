"""Signing on, and sequences that fell behind: no id may ever come twice."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.database import Database
from support.queue import add_event, add_webhook, expand, sign_on, value


def test_every_start_is_another_daemon(db: psycopg.Connection) -> None:
    assert len({sign_on(db, "same") for _ in range(5)}) == 5


def test_a_daemon_stands_with_who_and_where_it_is_and_its_beats_prolong_its_lease(
    db: psycopg.Connection,
) -> None:
    daemon = value(db, "select pgrelay.sign_on('relay', 'host-1', 4321, '1.2.3', 15)")
    db.execute("select pgrelay.heartbeat(%s, 60, true, 'well')", (daemon,))
    row = db.execute(
        "select name, host, pid, version, listening, note, ended_at,"
        " extract(epoch from lease_until - heartbeat_at)::integer from pgrelay.daemons"
    ).fetchone()
    assert row == ("relay", "host-1", 4321, "1.2.3", True, "well", None, 60)
    db.execute("select pgrelay.sign_off(%s)", (daemon,))
    assert value(db, "select ended_at is not null and note = 'stopped' from pgrelay.daemons") is True
    assert value(db, "select pgrelay.heartbeat(%s, 60, true, 'again')", daemon) is False


def test_starting_while_the_application_writes_hands_out_no_id_twice(
    database: Database, db: psycopg.Connection
) -> None:
    # lifting a sequence that is in order would set it back behind ids that were drawn meanwhile
    def write() -> None:
        with database.connect() as writer:
            for _ in range(150):
                add_event(writer)

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write) for _ in range(3)]
        while not all(writer.done() for writer in writers):
            sign_on(db)
        for writer in writers:
            writer.result()
    assert value(db, "select count(*) from pgrelay.outbox") == 450
    assert value(db, "select count(distinct id) from pgrelay.outbox") == 450


@pytest.mark.parametrize(
    "sequence", ["outbox_id_seq", "delivery_queue_id_seq", "feed_windows_id_seq", "daemons_id_seq"]
)
def test_a_sequence_that_fell_behind_its_table_is_lifted_at_the_next_start(
    db: psycopg.Connection, sequence: str
) -> None:
    add_webhook(db)
    for _ in range(3):
        daemon = sign_on(db)
        add_event(db)
        expand(db, daemon)
    db.execute("select setval(%s, 1, false)", (f"pgrelay.{sequence}",))
    daemon = sign_on(db)
    event = add_event(db)
    (lease,) = expand(db, daemon).leases
    assert (lease.event_id, event) == (4, 4)
    assert value(db, "select max(id) from pgrelay.delivery_queue") == lease.delivery_id == 4
    assert value(db, "select count(*) from pgrelay.feed_windows") == value(
        db, "select count(distinct id) from pgrelay.feed_windows"
    )


def test_ids_of_finished_deliveries_are_not_used_again(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_event(db)
    daemon = sign_on(db)
    expand(db, daemon)
    db.execute(
        "select pgrelay.give_back(%s, '{1}'); select pgrelay.cancel_delivery(1)".replace(
            "%s", str(daemon)
        ).encode()
    )
    db.execute("select setval('pgrelay.delivery_queue_id_seq', 1, false)")
    daemon = sign_on(db)
    add_event(db)
    (lease,) = expand(db, daemon).leases
    assert lease.delivery_id == 2
