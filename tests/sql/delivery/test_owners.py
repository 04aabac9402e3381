"""A webhook with a limit of its own is served by one daemon at a time."""

import psycopg
import pytest

from support.queue import add_events, add_webhook, claim, expand, pend, sign_on, value


@pytest.fixture(params=[{"max_concurrency": 2}, {"rate_limit_per_second": 0.5}])
def limited(request, db: psycopg.Connection) -> int:
    return add_webhook(db, **request.param)


def test_the_first_that_claims_serves_it_and_others_get_nothing_of_it(
    db: psycopg.Connection, limited: int
) -> None:
    one, two, free = sign_on(db, "one"), sign_on(db, "two"), add_webhook(db)
    add_events(db, 4)
    assert {lease.webhook_id for lease in expand(db, one, free={free: 2}).leases} == {free}
    assert len(claim(db, one, {limited: 2})) == 2
    assert {lease.webhook_id for lease in claim(db, two, {limited: 9, free: 9})} == {free}
    assert [
        row[0] for row in db.execute("select webhook_id from pgrelay.pending_webhooks(0, 9, %s)", (two,))
    ] == []
    assert [
        row[0] for row in db.execute("select webhook_id from pgrelay.pending_webhooks(0, 9, %s)", (one,))
    ] == [limited]
    add_events(db, 1)
    assert {lease.webhook_id for lease in expand(db, one).leases} == {free, limited}


def test_what_another_daemon_expands_is_pending_and_its_owner_is_told(
    db: psycopg.Connection, database, limited: int
) -> None:
    one, two = sign_on(db, "one"), sign_on(db, "two")
    add_events(db, 1)
    pend(db, one)
    claim(db, one, limited)
    with database.connect() as listening:
        listening.execute("listen pgrelay")
        add_events(db, 1)
        step = expand(db, two)
        assert step.leases == [] and step.backlog == {limited: 1}
        (told,) = listening.notifies(timeout=10, stop_after=1)
        assert told.payload == "work"


@pytest.mark.parametrize("end", ["sign_off", "lapse"])
def test_when_its_daemon_ends_another_takes_over(db: psycopg.Connection, limited: int, end: str) -> None:
    one, two = sign_on(db, "one"), sign_on(db, "two")
    add_events(db, 2)
    pend(db, one)
    assert len(claim(db, one, {limited: 1})) == 1
    if end == "sign_off":
        db.execute("select pgrelay.sign_off(%s)", (one,))
    else:
        db.execute("update pgrelay.daemons set lease_until = now() - interval '1 s' where id = %s", (one,))
    assert len(claim(db, two, {limited: 1})) == 1
    assert value(db, "select daemon_id from pgrelay.webhook_owners") == two


def test_two_that_claim_at_the_same_time_do_not_both_become_owner(
    db: psycopg.Connection, database, limited: int
) -> None:
    one, two = sign_on(db, "one"), sign_on(db, "two")
    add_events(db, 4)
    pend(db, one)
    with database.connect(autocommit=False) as first, database.connect() as second:
        assert len(claim(first, one, {limited: 1})) == 1
        second.execute("set lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            claim(second, two, {limited: 1})
        first.commit()
        assert claim(second, two, {limited: 1}) == []


def test_a_webhook_that_is_deleted_leaves_nothing_behind(db: psycopg.Connection, limited: int) -> None:
    one = sign_on(db)
    add_events(db, 1)
    pend(db, one)
    claim(db, one, limited)
    db.execute("delete from pgrelay.webhook_configurations")
    assert value(db, "select count(*) from pgrelay.webhook_owners") == 0
