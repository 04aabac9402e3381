"""More events than one step takes: pages within a window, in the order of ids, each event once."""

import random

import psycopg
import pytest

from support.database import Database
from support.plans import reads
from support.queue import add_event, add_events, add_webhook, expand, pend, sign_on, value


def expanded(db: psycopg.Connection) -> list[int]:
    return [
        row[0] for row in db.execute("select event_id from pgrelay.delivery_queue order by id").fetchall()
    ]


def test_pages_take_every_event_once_and_in_order(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 25)
    daemon = sign_on(db)
    steps = [expand(db, daemon, limit=10) for _ in range(4)]
    assert [len(step.leases) for step in steps] == [10, 10, 5, 0]
    assert [step.more for step in steps] == [True, True, True, False]
    assert expanded(db) == list(range(1, 26))


def test_a_window_that_is_a_whole_number_of_pages_ends_with_an_empty_one_that_says_look_again(
    database: Database, db: psycopg.Connection
) -> None:
    # a daemon that took the empty page for quiet would go to sleep over the event that came during the pages
    add_webhook(db)
    add_events(db, 20)
    daemon = sign_on(db)
    assert len(expand(db, daemon, limit=10).leases) == 10
    later = add_event(db)
    assert len(expand(db, daemon, limit=10).leases) == 10
    empty = expand(db, daemon, limit=10)
    assert (empty.leases, empty.more) == ([], True)
    assert [claim.event_id for claim in expand(db, daemon, limit=10).leases] == [later]


def test_exactly_as_many_events_as_the_limit_need_no_pages(db: psycopg.Connection) -> None:
    add_webhook(db)
    add_events(db, 10)
    step = expand(db, sign_on(db), limit=10)
    assert (len(step.leases), step.more) == (10, False)


def test_a_big_transaction_beside_small_ones_is_taken_whole_and_so_are_they(
    database: Database, db: psycopg.Connection
) -> None:
    webhook = add_webhook(db)
    daemon = sign_on(db)
    with database.connect(autocommit=False) as big, database.connect(autocommit=False) as open_still:
        waiting = add_event(open_still)
        for _ in range(6):
            add_events(big, 7)
            add_events(db, 2)
            expand(db, daemon, limit=3)  # windows that know big as running
        add_events(db, 4)
        big.commit()
        add_events(db, 4)
        while expand(db, daemon, limit=3).more:
            add_event(db)
            if value(db, "select count(*) from pgrelay.outbox") > 90:
                break
        pend(db, daemon, limit=3)
        assert sorted(expanded(db)) == [
            event for event in range(1, max(expanded(db)) + 1) if event != waiting
        ]
        open_still.commit()
    pend(db, daemon, limit=3)
    total = value(db, "select count(*) from pgrelay.outbox")
    assert sorted(expanded(db)) == list(range(1, total + 1))
    assert value(db, "select count(*) from pgrelay.delivery_queue where webhook_id <> %s", webhook) == 0


def add_webhooks(db: psycopg.Connection, count: int, company_id: str) -> None:
    """Many of one tenant, subscribed to everything since long ago."""
    db.execute(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " select %s, 'w' || n, 'https://example.com/', '{*}' from generate_series(1, %s) as n",
        (company_id, count),
    )
    db.execute("update pgrelay.subscriptions set since = since - interval '1 day'")


@pytest.mark.parametrize("wide", [False, True], ids=["one webhook", "a tenant with hundreds of webhooks"])
def test_pages_of_random_windows_are_complete_and_ordered_by_id_within_each_window(
    database: Database, db: psycopg.Connection, wide: bool
) -> None:
    webhook = add_webhook(db)
    if wide:
        add_webhooks(db, 700, "2")
    daemon = sign_on(db)
    chance = random.Random(7)
    writers = [database.connect(autocommit=False) for _ in range(4)]
    steps: list[int] = []

    def step(limit: int) -> bool:
        found = expand(db, daemon, limit=limit, room=5)
        steps.append(len(found.leases) + sum(found.backlog.values()))
        return found.more

    for _ in range(60):
        writer = chance.choice(writers)
        company = "2" if wide and chance.random() < 0.2 else "1"
        add_events(writer, chance.choice([1, 1, 2, 9]), company_id=company)
        if chance.random() < 0.3:
            chance.choice([writer.commit, writer.commit, writer.rollback])()
        if chance.random() < 0.4:
            step(chance.choice([1, 2, 5, 50]))
    for writer in writers:
        writer.commit()
        writer.close()
    while step(40 if wide else 4):
        pass
    assert max(steps) <= 5000 + 700
    # a window is all windows rows with the same snapshots; within it ids of deliveries follow ids of events
    rows = db.execute(
        "select array_agg(q.event_id order by q.id) from pgrelay.delivery_queue q join pgrelay.outbox o on o.id = q.event_id"
        " join lateral (select from_snapshot::text as window from pgrelay.feed_windows w"
        "   where pg_visible_in_snapshot(o.xid, w.to_snapshot) and not pg_visible_in_snapshot(o.xid, w.from_snapshot)"
        "   order by w.id limit 1) as w on true where q.webhook_id = any (%s) group by w.window",
        ([webhook, webhook + 350] if wide else [webhook],),
    ).fetchall()
    assert len(rows) > 5
    for (events,) in rows:
        assert events == sorted(events)
    unmade = (
        "select count(*) from pgrelay.outbox o where (select count(*) from pgrelay.delivery_queue q where q.event_id = o.id)"
        " <> case o.company_id when '1' then 1 else 700 end"
    )
    assert value(db, unmade) == 0
    assert not wide or value(db, "select count(*) from pgrelay.outbox where company_id = '2'") > 10


def test_few_events_that_owe_many_deliveries_are_taken_in_steps(db: psycopg.Connection) -> None:
    add_webhooks(db, 2000, "2")
    narrow = add_webhook(db, company_id="1")
    daemon = sign_on(db)
    for company in "11222212222":
        add_event(db, company_id=company)
    made = []
    while True:
        step = expand(db, daemon, limit=200, room=0)
        made.append(sum(step.backlog.values()))
        if not step.more:
            break
    assert made == [2 + 3 * 2000, 2001 + 2 * 2000, 2 * 2000, 0]
    assert value(db, "select count(*) from pgrelay.delivery_queue where webhook_id = %s", narrow) == 3


def test_one_old_event_of_a_long_transaction_does_not_make_a_page_read_all_that_happened_meanwhile(
    database: Database, db: psycopg.Connection
) -> None:
    add_webhook(db, events=["order.paid"])
    daemon = sign_on(db)
    with database.connect(autocommit=False) as long:
        old = add_event(long, "order.paid")
        add_events(db, 30_000, "callback.created")
        pend(db, daemon, limit=50_000)
        long.commit()
    add_events(db, 120, "order.paid")
    db.execute("vacuum analyze pgrelay.outbox")
    with reads(db) as done:
        assert len(expand(db, daemon, limit=50).leases) == 50
    assert sum(read.rows for read in done if read.name.startswith("outbox")) < 1_000
    pend(db, daemon, limit=50)
    assert expanded(db) == [old, *range(30_002, 30_122)]
