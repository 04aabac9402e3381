"""Rings: moved on in time, emptied past retention, nothing lost that is needed, nobody kept waiting."""

import json
import threading

import psycopg
import pytest

from pgrelay.delivery import Claim
from support.database import Database
from support.queue import (
    add_event,
    add_events,
    add_webhook,
    claim,
    expand,
    failed,
    pend,
    record,
    sign_on,
    succeeded,
    value,
)

DAY = 86_400
RETENTION = 6 * DAY  # so that a slot is written for a day

RINGS = {"outbox": "outbox_slot", "delivery_history": "history_slot", "delivery_attempts": "attempts_slot"}


def rotate(db: psycopg.Connection, ring: str = "outbox", retention: float = RETENTION) -> str | None:
    done = value(db, "select pgrelay.rotate(%s, %s)", ring, retention)
    return None if done is None else str(done)


def sweep(db: psycopg.Connection) -> None:
    db.execute("select pgrelay.sweep()")


def let_pass(db: psycopg.Connection, days: float, ring: str = "outbox") -> None:
    """As if all that the ring knows of had happened so much earlier."""
    db.execute(
        "update pgrelay.ring_slots set opened_at = opened_at - %(days)s * interval '1 day',"
        " closed_at = closed_at - %(days)s * interval '1 day' where ring = %(ring)s",
        {"days": days, "ring": ring},
    )


def slots(db: psycopg.Connection, ring: str = "outbox") -> str:
    """One letter a slot: written now, closed, empty."""
    rows = db.execute(
        "select case when opened_at is null then '-' when closed_at is null then 'w' else 'c' end"
        " from pgrelay.ring_slots where ring = %s order by slot",
        (ring,),
    ).fetchall()
    return "".join(row[0] for row in rows)


@pytest.mark.parametrize("ring", RINGS)
def test_a_ring_moves_on_a_day_at_a_time_and_comes_round(db: psycopg.Connection, ring: str) -> None:
    assert rotate(db, ring) is None
    said = []
    for day in range(20):
        let_pass(db, 1.01, ring)
        said.append(rotate(db, ring))
        said.append(rotate(db, ring))
        assert value(db, f"select last_value from pgrelay.{RINGS[ring]}") == slots(db, ring).index("w")
        assert slots(db, ring).count("w") == 1
        assert slots(db, ring).count("-") >= 1, day
    assert said[0] == "writing slot 1 now"
    assert said[2 * 12 :] == [
        word
        for slot in (5, 6, 7, 0, 1, 2, 3, 4)
        for word in (f"emptied slot {(slot + 1) % 8}, writing slot {slot} now", None)
    ]


def test_rows_are_written_to_the_slot_of_the_day_and_go_with_it(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    for _ in range(9):
        add_event(db)
        record(db, daemon, *(succeeded(lease) for lease in expand(db, daemon).leases))
        for ring in RINGS:
            let_pass(db, 1.01, ring)
            rotate(db, ring)
    tables = ["outbox", "delivery_history", "delivery_attempts"]
    days = [
        db.execute(f"select slot, count(*) from pgrelay.{table} group by 1 order by 1".encode()).fetchall()
        for table in tables
    ]
    assert days[0] == days[1] == days[2] == [(0, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]
    assert (
        value(db, "select successful_deliveries from pgrelay.webhook_stats where webhook_id = %s", webhook)
        == 9
    )


def test_nothing_is_emptied_before_its_retention_has_passed(db: psycopg.Connection) -> None:
    add_event(db)
    pend(db, sign_on(db))
    let_pass(db, 1.01)
    assert rotate(db) == "writing slot 1 now"
    let_pass(db, 5.99)
    rotate(db)
    assert value(db, "select count(*) from pgrelay.outbox") == 1
    let_pass(db, 0.02)
    assert rotate(db) == "emptied slot 0"
    assert value(db, "select count(*) from pgrelay.outbox") == 0


def test_events_that_are_owed_or_not_expanded_yet_survive_their_slot(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    done, waiting, flying, dead = [add_event(db, body=json.dumps({"n": n})) for n in range(4)]
    pend(db, daemon)
    leases = {lease.event_id: lease for lease in claim(db, daemon, {webhook: 4})}
    record(db, daemon, succeeded(leases[done]), failed(leases[dead]))
    db.execute("select pgrelay.give_back(%s, array[%s]::bigint[])", (daemon, leases[waiting].delivery_id))
    with database.connect(autocommit=False) as slow:
        slow.execute("select pg_current_xact_id()")
        pend(db, daemon)
        late = add_event(db)
        let_pass(db, 1.01)
        rotate(db)
        let_pass(db, 6.01)
        assert rotate(db) == "emptied slot 0, kept 3 events, writing slot 2 now"
        rows = db.execute("select id, slot from pgrelay.outbox order by id").fetchall()
        assert rows == [(waiting, -1), (flying, -1), (late, -1)]
        slow.rollback()
    pend(db, daemon)
    leases = {lease.event_id: lease for lease in claim(db, daemon, webhook)} | {flying: leases[flying]}
    assert leases[waiting].body == b'{"n": 1}'
    assert leases[late].body is not None
    sweep(db)
    assert value(db, "select count(*) from pgrelay.outbox_kept") == 3
    record(db, daemon, *(succeeded(lease) for lease in leases.values()))
    sweep(db)
    assert value(db, "select count(*) from pgrelay.outbox") == 0


def test_thousands_of_events_that_are_still_owed_are_set_aside_a_step_at_a_time_and_nobody_waits(
    database: Database, db: psycopg.Connection
) -> None:
    webhook, other = add_webhook(db), add_webhook(db)
    daemon = sign_on(db)
    add_events(db, 4_000)
    pend(db, daemon)
    (flying,) = claim(db, daemon, {other: 1})
    let_pass(db, 1.01)
    rotate(db)
    let_pass(db, 6.01)
    db.execute("set statement_timeout = '5s'")
    with database.connect(autocommit=False) as rotating:
        assert "kept" in (rotate(rotating) or "")
        leases = claim(db, daemon, webhook)
        assert 0 < len(leases) < 4_000 and all(lease.body == b"{}" for lease in leases)
        rotating.commit()
    assert value(db, "select count(distinct slot) from pgrelay.outbox") == 2
    assert (rotate(db) or "").startswith("emptied slot 0, kept")
    assert db.execute(
        "select slot, count(*), count(distinct id) from pgrelay.outbox group by 1"
    ).fetchall() == [(-1, 4_000, 4_000)]
    leases = [flying, *leases, *claim(db, daemon, webhook), *claim(db, daemon, other)]
    assert len(leases) == 8_000 and all(lease.body == b"{}" for lease in leases)
    sweep(db)
    assert value(db, "select count(*) from pgrelay.outbox") == 4_000
    record(db, daemon, *map(succeeded, leases[1:]))
    sweep(db)
    assert db.execute("select id from pgrelay.outbox").fetchall() == [(flying.event_id,)]


def test_a_claim_that_an_event_is_moved_under_finds_it(database: Database, db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    add_events(db, 12_000)
    pend(db, daemon)
    let_pass(db, 1.01)
    rotate(db)

    def set_aside() -> None:
        with database.connect() as other:
            while other.execute("select deliveries from pgrelay.set_aside(0::smallint, 25)").fetchone() != (
                0,
            ):
                pass

    mover = threading.Thread(target=set_aside)
    mover.start()
    leases: list[Claim] = []
    while mover.is_alive() or len(leases) < 12_000:
        leases += claim(db, daemon, {webhook: 300})
    mover.join()
    assert len(leases) == 12_000 and {lease.body for lease in leases} == {b"{}"}


def test_a_window_that_is_only_half_paged_keeps_its_events(db: psycopg.Connection) -> None:
    add_webhook(db)
    daemon = sign_on(db)
    for _ in range(5):
        add_event(db)
    db.execute("update pgrelay.outbox set valid_until = now() - interval '1 s' where id = 5")
    assert len(expand(db, daemon, limit=2).leases) == 2
    let_pass(db, 1.01)
    rotate(db)
    let_pass(db, 6.01)
    rotate(db)
    assert value(db, "select count(*) from pgrelay.outbox_kept") == 5
    leases = [lease for _ in range(3) for lease in expand(db, daemon, limit=2).leases]
    # the fifth is too old by now, and stays so
    assert [lease.event_id for lease in leases] == [3, 4]


def test_a_slot_that_is_being_read_is_left_for_the_next_time_and_nobody_waits_long(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    add_event(db)
    record(db, daemon, *(succeeded(lease) for lease in expand(db, daemon).leases))
    let_pass(db, 1.01)
    rotate(db)
    let_pass(db, 6.01)
    db.execute("set statement_timeout = '2s'")
    with database.connect(autocommit=False) as reader:
        reader.execute("select count(*) from pgrelay.outbox")
        assert rotate(db) == "writing slot 2 now"
        assert value(db, "select count(*) from pgrelay.outbox") == 1
        let_pass(db, 1.01)
        rotate(db)
        event = add_event(db)
        (lease,) = expand(db, daemon).leases
        assert (lease.event_id, lease.webhook_id) == (event, webhook)
        reader.rollback()
    assert rotate(db) == "emptied slot 0"


def test_a_writer_in_an_open_transaction_neither_waits_nor_loses_its_event(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db)
    daemon = sign_on(db)
    db.execute("set statement_timeout = '2s'")
    with database.connect(autocommit=False) as writer:
        first = add_event(writer)
        let_pass(db, 1.01)
        assert rotate(db) == "writing slot 1 now"
        second = add_event(writer)
        let_pass(db, 6.01)
        assert rotate(db) == "writing slot 2 now"  # slot 0 is held
        third = add_event(writer)
        writer.commit()
    rows = db.execute("select id, slot from pgrelay.outbox order by id").fetchall()
    assert rows == [(first, 0), (second, 1), (third, 2)]
    rotate(db)
    assert [lease.event_id for lease in expand(db, daemon).leases] == [first, second, third]


def test_capturing_goes_on_when_nobody_moved_the_ring_for_years(db: psycopg.Connection) -> None:
    add_webhook(db)
    daemon = sign_on(db)
    add_event(db)
    let_pass(db, 5 * 365)
    event = add_event(db)
    assert len(expand(db, daemon).leases) == 2
    assert rotate(db) == "writing slot 1 now"
    let_pass(db, 5 * 365)
    assert rotate(db) == "emptied slot 0, kept 2 events, writing slot 2 now"
    assert value(db, "select count(*) from pgrelay.outbox where id = %s", event) == 1


def test_a_move_that_was_interrupted_after_the_sequence_had_moved_is_made_good(
    db: psycopg.Connection,
) -> None:
    # setval() is not undone by a rollback
    db.execute("begin")
    let_pass(db, 1.01)
    rotate(db)
    db.execute("rollback")
    assert (slots(db), value(db, "select last_value from pgrelay.outbox_slot")) == ("w-------", 1)
    assert rotate(db) is None
    assert slots(db) == "cw------"
    let_pass(db, 1.01)
    assert rotate(db) == "writing slot 2 now"


def test_a_shorter_retention_empties_one_slot_a_call(db: psycopg.Connection) -> None:
    for _ in range(5):
        let_pass(db, 1.01)
        rotate(db)
    assert slots(db) == "cccccw--"
    assert rotate(db, retention=DAY) == "emptied slot 0"
    assert [rotate(db, retention=DAY) for _ in range(3)] == [f"emptied slot {slot}" for slot in (1, 2, 3)]
    assert slots(db) == "----cw--"
    assert rotate(db, retention=DAY) is None


def test_writing_does_not_move_to_a_slot_that_is_locked_because_it_was_emptied_just_now(
    database: Database, db: psycopg.Connection
) -> None:
    db.execute(
        "update pgrelay.ring_slots set opened_at = 'epoch'::timestamptz + slot * interval '1 day',"
        " closed_at = case when slot < 7 then 'epoch'::timestamptz + (slot + 1) * interval '1 day' end where ring = 'outbox'"
    )
    db.execute("select setval('pgrelay.outbox_slot', 7)")
    db.execute("set statement_timeout = '2s'")
    with database.connect(autocommit=False) as rotating:
        assert rotate(rotating) == "emptied slot 0"
        add_event(db)
        rotating.commit()
    assert (rotate(db) or "").endswith("writing slot 0 now")


def test_only_one_rotates_at_a_time(database: Database, db: psycopg.Connection) -> None:
    let_pass(db, 1.01)
    with database.connect(autocommit=False) as first:
        assert rotate(first) == "writing slot 1 now"
        assert rotate(db) is None
        assert rotate(db, "delivery_history") is None
        first.commit()


def test_a_ring_that_is_none_is_an_error(db: psycopg.Connection) -> None:
    with pytest.raises(psycopg.Error, match="there is no ring pearls") as refused:
        rotate(db, "pearls")
    assert refused.value.sqlstate == "PGR25"


def test_a_kept_event_that_is_retried_this_moment_is_not_dropped(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    add_event(db, body="kept")
    pend(db, daemon)
    let_pass(db, 1.01)
    rotate(db)
    let_pass(db, 6.01)
    rotate(db)
    (lease,) = claim(db, daemon, webhook)
    record(db, daemon, failed(lease))
    with database.connect(autocommit=False) as person:
        assert value(person, "select pgrelay.retry_delivery(%s)", lease.delivery_id) is True
        sweep(db)
        person.commit()
    sweep(db)
    (again,) = claim(db, daemon, webhook)
    assert again.body == b"kept"
