"""Behind a pooler in transaction mode: LISTEN is accepted and notifications do not come, so the daemon polls, and says so."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from pgrelay.demo.places import give, new_directory, server_account
from pgrelay.observation import Delivered, NotificationsArriving, NotificationsMissing
from support.daemon import daemon
from support.database import Database
from support.factories import emit
from support.pooler import Pooler
from support.queue import add_webhook, value
from support.receiver import Receiver

#: A daemon that trusted in notifications would look once a minute.
KEYS = {"daemon.poll_interval": 60.0, "daemon.fallback_poll_interval": 0.1}


def through(database: Database, port: int) -> str:
    return f"{database.tcp_dsn} port={port} sslmode=disable gssencmode=disable"


async def serves_by_polling(database: Database, db: psycopg.Connection, receiver: Receiver, dsn: str) -> None:
    add_webhook(db, url=receiver.url("/hook"))
    async with daemon(dsn, KEYS, hears=False) as one:
        (missing,) = await one.seen(NotificationsMissing)
        assert "pooler" in missing.reason and missing.poll_interval == 0.1
        for round_ in range(1, 11):
            emit(db, 5)
            await one.seen(Delivered, 5 * round_, within=5.0)
        assert one.of(NotificationsArriving) == []
        assert value(db, "select bool_or(listening) from pgrelay.daemons") is False
    assert value(db, "select last_value from pgrelay.wake") == 1
    assert value(db, "select max(attempts) from pgrelay.deliveries") == 1


async def test_where_notifications_come_only_during_a_statement_the_daemon_polls(
    database: Database, db: psycopg.Connection, receiver: Receiver
) -> None:
    async with Pooler(database.cluster.port) as pooler:
        await serves_by_polling(database, db, receiver, through(database, pooler.port))
        assert pooler.dropped > 0 and pooler.prepared == 0


async def test_with_a_way_of_its_own_for_listening_it_need_not_poll(
    database: Database, db: psycopg.Connection, receiver: Receiver
) -> None:
    add_webhook(db, url=receiver.url("/hook"))
    async with Pooler(database.cluster.port) as pooler:
        dsn = through(database, pooler.port)
        async with daemon(dsn, {**KEYS, "database.listen_dsn": database.dsn}) as one:
            emit(db, 5)
            await one.seen(Delivered, 5)
            assert one.of(NotificationsMissing) == []


@asynccontextmanager
async def pgbouncer(database: Database) -> AsyncIterator[int]:
    """The port of a true one, in transaction mode, with fewer servers than the daemon has connections."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed on this machine")
    account = server_account()
    folder = new_directory(account)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{database.name} = host={database.cluster.host} port={database.cluster.port} user=postgres pool_size=3\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\n" + (f"user = {account.name}\n" if account else "")
    )
    give(config, account)
    running = await asyncio.create_subprocess_exec(program, "-q", str(config))
    try:
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(_answers, port):
                await asyncio.sleep(0.05)
        yield port
    finally:
        running.terminate()
        await running.wait()
        shutil.rmtree(folder)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_behind_pgbouncer_in_transaction_mode_it_polls_and_everything_works(
    database: Database, db: psycopg.Connection, receiver: Receiver
) -> None:
    async with pgbouncer(database) as port:
        await serves_by_polling(database, db, receiver, through(database, port))
