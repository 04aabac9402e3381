"""capture: what capturing adds to the application's own statements, in processor time of its backend.

2,000 statements of one row in a transaction that is rolled back, prepared and sent in one pipeline; in turn with
the capture triggers disabled and enabled. A sample is the difference of such a pair, per statement.
"""

import random
from collections.abc import Callable
from itertools import count

import psycopg
from processor import spent
from results import Figure, at_most, summed_up
from traffic import insert_rows
from world import Database, World, sample_sources

NAME = "capture"
STATEMENTS = 2000

_STATUS = "update public.callback_requests set status = 'contacted', contacted_at = now() where id = %s"
_NOTES = "update public.callback_requests set notes = 'called twice' where id = %s"
_INSERT = (
    "insert into public.callback_requests (company_id, branch_id, service_id, customer_name, customer_phone,"
    " customer_email, preferred_time_window, notes, metadata)"
    " values (1, 1, 1, 'Zoë Baumgärtner', %s, 'zoe@example.com',"
    """ '{"from": "14:00", "to": "16:00", "days": ["mon", "tue"]}', 'asked for a call in the afternoon',"""
    """ '{"source": "web", "campaign": "spring", "score": 17}')"""
)


def run(world: World) -> list[Figure]:
    """All of it on one server."""
    pairs = 4 if world.quick else 12
    rows = 20_000 if world.quick else 100_000
    figures = []
    with world.database("capture", sample_sources(joins=False)) as database:
        database.webhook("http://127.0.0.1:9/", company="2")
        with database.connect() as connection:
            insert_rows(connection, rows)
        figures += _pairs(database, pairs, _STATUS, "an UPDATE that fires one event, nobody subscribes", 15)
        figures += _pairs(database, pairs, _NOTES, "an UPDATE that fires none (eight rules)", 5)
        database.webhook("http://127.0.0.1:9/")
        figures += _pairs(database, pairs, _STATUS, "an UPDATE that fires one event, whole row, no joins", 60)
        figures += _pairs(database, pairs, _INSERT, "an INSERT that fires one event, whole row, no joins")
        _ring(database, 2)
        figures += _pairs(database, pairs, _STATUS, "an UPDATE that fires one event and notifies")
        _ring(database, 1)
        figures.append(_body_size(database))
        for size in (10_000, rows):
            figures += _bulk(database, size, 2 if world.quick else 3)
    with world.database("capture_joins") as database:
        database.webhook("http://127.0.0.1:9/")
        with database.connect() as connection:
            insert_rows(connection, 20_000)
        figures += _pairs(
            database, pairs, _INSERT, "an INSERT that fires one event, with the example's two joins"
        )
        figures += _pairs(
            database, pairs, _STATUS, "an UPDATE that fires one event, with the example's two joins"
        )
    return figures


def _pairs(
    database: Database, pairs: int, statement: str, what: str, target: float | None = None
) -> list[Figure]:
    """Statements of one row, off and on in turn."""
    ids = count(1)
    bare: list[float] = []
    added: list[float] = []
    database.settle()
    with database.connect(autocommit=False, prepare_threshold=0) as connection:

        def turn() -> float:
            parameters = [(next(ids) % 20_000 + 1,) for _ in range(STATEMENTS)]
            random.shuffle(parameters)
            with connection.cursor() as cursor:
                cursor.execute("select")
                began = spent(connection.info.backend_pid)
                cursor.executemany(statement, parameters)
                used = spent(connection.info.backend_pid) - began
            connection.rollback()
            return used / STATEMENTS * 1e6

        for number in range(pairs + 1):
            off, on = _off_and_on(database, turn)
            if number:  # the first pair warms caches and plans
                bare.append(off)
                added.append(on - off)
    bound = None if target is None else at_most(target)
    return [
        summed_up(NAME, f"{what}: added", added, "µs", bound),
        summed_up(NAME, "    (the statement without capture)", bare, "µs"),
    ]


def _bulk(database: Database, rows: int, pairs: int) -> list[Figure]:
    """One statement over many rows, all of which fire."""
    statement = (
        f"update public.callback_requests set status = 'contacted', contacted_at = now() where id <= {rows}"
    )
    added: list[float] = []
    xids: list[float] = []
    with database.connect(autocommit=False) as connection, database.connect() as observer:

        def turn() -> float:
            before = _next_xid(observer)
            began = spent(connection.info.backend_pid)
            connection.execute(statement.encode())
            used = spent(connection.info.backend_pid) - began
            connection.rollback()
            xids.append(_next_xid(observer) - before)
            return used / rows * 1e6

        for _ in range(pairs):
            off, on = _off_and_on(database, turn)
            added.append(on - off)
            database.settle()
    what = f"an UPDATE of {rows:,} rows, each fires one event"
    return [
        summed_up(NAME, f"{what}: added per row", added, "µs"),
        # the smallest: autovacuum may take some of its own meanwhile
        Figure(NAME, f"{what}: transaction ids", min(xids[1::2]), "", xids[1::2], at_most(1)),
    ]


def _off_and_on(database: Database, turn: Callable[[], float]) -> tuple[float, float]:
    database.triggers(enabled=False)
    off = turn()
    database.triggers(enabled=True)
    return off, turn()


def _next_xid(connection: psycopg.Connection) -> int:
    row = connection.execute("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def _ring(database: Database, state: int) -> None:
    """Have captures notify (2) or not (1), as a daemon would."""
    with database.connect() as connection:
        connection.execute("select setval('pgrelay.wake', %s)", (state,))


def _body_size(database: Database) -> Figure:
    with database.connect() as connection:
        connection.execute(_STATUS.encode(), (1,))
        row = connection.execute("select avg(octet_length(body)) from pgrelay.outbox").fetchone()
        connection.execute("update public.callback_requests set status = 'pending' where id = 1")
    assert row is not None
    return Figure(NAME, "    (size of the body)", float(row[0]), "bytes")
