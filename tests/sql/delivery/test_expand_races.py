"""Exactly once, whatever writers do: random isolation levels, savepoints, rollbacks, long and prepared transactions.

The oracle is what the writers know themselves: which of their transactions committed.
"""

import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from psycopg import IsolationLevel

from support.database import Database
from support.queue import add_webhook, expand, pend, sign_on

#: Writers go on until so many events are committed.
ENOUGH = 300
RESOURCES = 40


@dataclass
class Truth:
    """What committed: (resource, number within it)."""

    committed: set[tuple[str, int]] = field(default_factory=set)
    rolled_back: int = 0
    failures: list[BaseException] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def write(database: Database, truth: Truth, seed: int) -> None:
    """Transactions over the application's table, each of whose rows serialises the events of one resource."""
    chance = random.Random(seed)
    with database.connect(autocommit=False) as connection:
        while len(truth.committed) < ENOUGH and not truth.failures:
            connection.isolation_level = chance.choice(list(IsolationLevel)[1:])
            made: set[tuple[str, int]] = set()
            try:
                for resource in sorted(chance.sample(range(RESOURCES), chance.choice([1, 1, 2, 5]))):
                    made |= touch(connection, resource, chance)
                time.sleep(chance.choice([0, 0, 0, 0, 0.01, 0.05, 0.3]))
                end(connection, truth, made, chance)
            except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                connection.rollback()
                truth.rolled_back += 1


def touch(connection: psycopg.Connection, resource: int, chance: random.Random) -> set[tuple[str, int]]:
    """Change one row once or often, part of it inside a savepoint that may be rolled back."""
    made: set[tuple[str, int]] = set()
    for _ in range(chance.choice([1, 1, 3])):
        nested = chance.random() < 0.4
        if nested:
            connection.execute("savepoint nested")
        row = connection.execute(
            "with changed as (update things set n = n + 1 where id = %s returning n)"
            " select n, pgrelay.emit('thing.changed', to_json(n), '1', %s) from changed",
            (resource, str(resource)),
        ).fetchone()
        assert row is not None
        if nested and chance.random() < 0.5:
            connection.execute("rollback to savepoint nested")
        else:
            made.add((str(resource), row[0]))
    return made


def end(
    connection: psycopg.Connection, truth: Truth, made: set[tuple[str, int]], chance: random.Random
) -> None:
    """Commit, roll back, or prepare and then do one of them."""
    commits = chance.random() < 0.8
    if chance.random() < 0.15:
        name = uuid.uuid4().hex
        connection.execute(f"prepare transaction '{name}'".encode())
        connection.commit()
        connection.autocommit = True
        time.sleep(chance.choice([0, 0.1]))
        connection.execute(f"{'commit' if commits else 'rollback'} prepared '{name}'".encode())
        connection.autocommit = False
    elif commits:
        connection.commit()
    else:
        connection.rollback()
    if commits:
        with truth.lock:
            truth.committed |= made
    else:
        truth.rolled_back += 1


def race_to_expand(database: Database, daemon: int, seed: int, done: threading.Event) -> None:
    """Steps of all sizes, some of them lost to a crash before the commit."""
    chance = random.Random(seed)
    with database.connect(autocommit=False) as connection:
        while not done.is_set():
            step = expand(
                connection, daemon, limit=chance.choice([1, 3, 10, 100]), room=chance.choice([0, 5, 1000])
            )
            if chance.random() < 0.2:
                connection.rollback()
            else:
                connection.commit()
            if not step.leases and not step.more:
                done.wait(0.002)


def guarded(truth: Truth, work: Callable[..., None], *arguments: object) -> threading.Thread:
    def run() -> None:
        try:
            work(*arguments)
        except BaseException as failure:
            truth.failures.append(failure)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_every_committed_event_becomes_one_delivery_for_each_webhook_and_no_other_does(
    database_with_prepared: Database,
) -> None:
    database = database_with_prepared
    with database.connect() as db:
        db.execute("create table things (id integer primary key, n integer not null default 0)")
        db.execute("insert into things (id) select generate_series(0, %s)", (RESOURCES - 1,))
        webhooks = [add_webhook(db), add_webhook(db, events=["thing.*"])]
        daemon = sign_on(db)
        truth = Truth()
        done = threading.Event()
        expanders = [guarded(truth, race_to_expand, database, daemon, seed, done) for seed in range(3)]
        writers = [guarded(truth, write, database, truth, 100 + seed) for seed in range(6)]
        for thread in writers:
            thread.join()
        done.set()
        for thread in expanders:
            thread.join()
        assert not truth.failures
        pend(db, daemon, limit=20)

        rows = db.execute(
            "select q.webhook_id, o.resource_id, (o.body::json ->> 'data')::integer"
            " from pgrelay.delivery_queue q join pgrelay.outbox o on o.id = q.event_id order by q.id"
        ).fetchall()
        assert truth.rolled_back > 5
        per_webhook = defaultdict(list)
        for webhook, resource, number in rows:
            per_webhook[webhook].append((resource, number))
        assert set(per_webhook) == set(webhooks)
        for owed in per_webhook.values():
            assert len(owed) == len(set(owed)), "an event became two deliveries"
            assert set(owed) == truth.committed
            # the row lock of a thing puts its changes in the order of commits; deliveries are in that order
            for resource in range(RESOURCES):
                numbers = [number for of, number in owed if of == str(resource)]
                assert numbers == sorted(numbers)
