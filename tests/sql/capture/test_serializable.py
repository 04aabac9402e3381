"""Capturing makes an application in SERIALIZABLE fail no more often than it does anyway."""

import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.watched import Shop

WRITERS = 6
TRANSACTIONS = 600
#: More failures than the same work without capture has, as a fraction. A foreign key or a counter makes it 0.9.
ALLOWED = 0.005

RULES = [
    {"event": "order.paid", "becomes": {"status": "paid"}},
    {
        "event": "order.changed",
        "on": "update",
        "payload": {"extra": {"customer": "(select c.name from shop.customers c where c.id = new.id)"}},
    },
    {"event": "order.due", "at": "due"},
]


def failures(shop: Shop) -> int:
    """Of WRITERS x TRANSACTIONS transactions that read and write rows of their own, how many are not serializable."""

    def write(writer: int) -> int:
        failed = 0
        draw = random.Random(writer)
        with shop.connect() as connection:
            connection.execute("set default_transaction_isolation = serializable")
            for number in range(TRANSACTIONS):
                row = writer + WRITERS * draw.randrange(300)
                try:
                    with connection.transaction():
                        connection.execute("select total from orders where id = %s", (row,))
                        connection.execute(
                            "update orders set total = %s, status = case status when 'paid' then"
                            " 'open' else 'paid' end,"
                            " due = now() + interval '1 h' where id = %s",
                            (number, row),
                        )
                except psycopg.errors.SerializationFailure:
                    failed += 1
        return failed

    with ThreadPoolExecutor(WRITERS) as writers:
        return sum(writers.map(write, range(WRITERS)))


@pytest.mark.slow
def test_writers_of_disjoint_rows_fail_no_more_often_with_capture_than_without(shop: Shop) -> None:
    shop.orders(due="timestamptz")
    shop.table("customers", "id int primary key, name text")
    shop.run("insert into orders (id) select g from generate_series(0, 1799) as g")
    shop.run("insert into customers select g, 'x' from generate_series(0, 1799) as g")
    shop.run("vacuum analyze orders")
    shop.run("vacuum analyze customers")
    without = failures(shop)
    shop.watch("orders", *RULES, record="subscribed")
    for number in range(50):
        shop.subscribe(company_id=str(number))
    shop.run("analyze pgrelay.subscriptions")
    captured = failures(shop)
    events = shop.value("select count(*) from pgrelay.outbox")
    assert events >= WRITERS * TRANSACTIONS - captured
    assert (captured - without) / (WRITERS * TRANSACTIONS) <= ALLOWED, (without, captured)
