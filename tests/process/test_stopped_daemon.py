"""A daemon that stands still longer than its lease (a paused virtual machine, a laptop's lid): nothing goes out twice as fast."""

import asyncio
import signal
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from support.daemon import adopt, until
from support.database import Database
from support.factories import emit
from support.process import daemon_process
from support.queue import add_webhook, value
from support.receiver import Receiver, after, in_turn, ok

RATE = 10
OWNER = """
    select d.name from pgrelay.webhook_owners o join pgrelay.daemons d on d.id = o.daemon_id where d.ended_at is null
"""
RECORDED = (
    "select count(*) from pgrelay.delivery_attempts where daemon = %s and not late and error_kind is null"
)
DONE = "select count(*) >= %s from pgrelay.delivery_history"


@pytest.mark.slow
async def test_a_stopped_daemon_is_replaced_and_sends_nothing_when_it_wakes_up_until_it_is_its_turn_again(
    database: Database, db: psycopg.Connection, tmp_path: Path
) -> None:
    """Rate limits are counted where they matter: by the receiver."""
    answer = asyncio.Event()
    adopt(database.dsn)
    async with Receiver() as receiver:
        add_webhook(db, url=receiver.url("/hook"), rate_limit_per_second=RATE)
        receiver.on("/hook", in_turn(*[ok()] * 7, after(answer), ok()))
        with (
            daemon_process(tmp_path, database.dsn, "one") as one,
            daemon_process(tmp_path, database.dsn, "two") as two,
        ):
            await one.says("notifications_arriving")
            await two.says("notifications_arriving")
            emit(db, 50)
            await receiver.wait_for(8, within=60)
            first = await until(db, OWNER)
            stopped, other = (one, two) if first == "one" else (two, one)
            stopped.send_signal(signal.SIGSTOP)
            before = len(receiver.seen)
            await receiver.wait_for(before + 5, within=60)
            second = await until(db, OWNER)
            recorded = value(db, RECORDED, first)
            assert second != first

            answer.set()
            stopped.send_signal(signal.SIGCONT)
            await stopped.says("daemon_declared_dead")
            await stopped.says("lease_lost")
            assert value(
                db, "select count(*) from pgrelay.delivery_attempts where late and daemon = %s", first
            )
            await until(
                db, "select count(*) from pgrelay.daemons where name = %s and ended_at is null", first
            )
            await until(db, DONE, 30)
            assert value(db, OWNER) == second
            assert value(db, RECORDED, first) == recorded, "it sent something, and it was not its turn"

            await asyncio.to_thread(other.end)
            await until(db, DONE, 50)
            assert value(db, OWNER) == first
            assert value(db, RECORDED, first) > recorded
    arrivals = [request.at for request in receiver.seen]
    gaps = [later - earlier for earlier, later in zip(arrivals, arrivals[RATE:], strict=False)]
    assert min(gaps) > 1.0, f"{RATE + 1} requests within {min(gaps):.3f} s"
    assert {row[0] for row in db.execute("select distinct status from pgrelay.deliveries")} == {"succeeded"}
    assert max(later - earlier for earlier, later in pairwise(arrivals)) < 10
