"""An event that is not worth sending any more is not sent."""

import psycopg
import pytest

from support.queue import add_event, add_webhook, claim, expand, pend, record, retried, sign_on, value

SOON, PAST = "now() + interval '1 hour'", "now() - interval '1 s'"


def add_mortal_event(db: psycopg.Connection, until: str) -> int:
    event = add_event(db)
    db.execute(f"update pgrelay.outbox set valid_until = {until} where id = {event}".encode())
    return event


def test_one_that_lives_is_leased_with_the_time_it_has(db: psycopg.Connection) -> None:
    webhook, daemon = add_webhook(db), sign_on(db)
    add_mortal_event(db, SOON)
    expand(db, daemon)
    (lease,) = claim(db, daemon, webhook)
    assert lease.expires_in == pytest.approx(3600, abs=60)


def test_one_that_has_outlived_it_is_not_leased_and_expires(db: psycopg.Connection) -> None:
    webhook, daemon = add_webhook(db), sign_on(db)
    add_mortal_event(db, PAST)
    assert expand(db, daemon).leases == []
    assert claim(db, daemon, webhook) == []
    assert value(db, "select pgrelay.expire_deliveries()") == 1
    row = db.execute("select status, attempts, last_error from pgrelay.deliveries").fetchone()
    assert row == ("expired", 0, "its event is older than its valid_for")


def test_one_under_way_ends_as_it_ends_and_expires_instead_of_being_tried_again(
    db: psycopg.Connection,
) -> None:
    webhook, daemon = add_webhook(db), sign_on(db)
    add_mortal_event(db, SOON)
    pend(db, daemon)
    (lease,) = claim(db, daemon, webhook)
    db.execute(f"update pgrelay.delivery_queue set expires_at = {PAST}".encode())
    assert value(db, "select pgrelay.expire_deliveries()") == 0
    record(db, daemon, retried(lease))
    assert claim(db, daemon, webhook) == []
    assert value(db, "select pgrelay.expire_deliveries()") == 1


def test_a_person_may_send_it_all_the_same(db: psycopg.Connection) -> None:
    webhook, daemon = add_webhook(db), sign_on(db)
    add_mortal_event(db, PAST)
    pend(db, daemon)
    db.execute("select pgrelay.expire_deliveries()")
    assert value(db, "select pgrelay.retry_delivery(1)") is True
    (lease,) = claim(db, daemon, webhook)
    assert lease.expires_in is None


def test_a_source_says_how_long_its_events_live(db: psycopg.Connection) -> None:
    db.execute("create table public.orders (id bigint primary key, company_id text)")
    db.execute(
        """select pgrelay.watch('{"name": "orders", "table": "public.orders", "tenant": "company_id",
           "events": [{"event": "order.made", "on": ["insert"], "valid_for": 90}, {"event": "order.gone", "on": ["delete"]}]}')"""
    )
    add_webhook(db)
    db.execute("insert into orders values (1, '1')")
    db.execute("delete from orders")
    lives = db.execute(
        "select event_type, extract(epoch from valid_until - occurred_at)::int from pgrelay.outbox order by id"
    ).fetchall()
    assert lives == [("order.made", 90), ("order.gone", None)]


@pytest.mark.parametrize("life", ["0", '"1h"', "true", "1e12"])
def test_a_lifetime_that_is_none_is_refused(db: psycopg.Connection, life: str) -> None:
    db.execute("create table public.orders (id bigint primary key, company_id text)")
    with pytest.raises(psycopg.Error, match="valid_for is a number of seconds"):
        db.execute(
            f"""select pgrelay.watch('{{"name": "orders", "table": "public.orders", "tenant": "company_id",
                "events": [{{"event": "order.made", "on": ["insert"], "valid_for": {life}}}]}}')""".encode()
        )
