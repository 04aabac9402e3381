"""drain: how fast a backlog is delivered with all that pgrelay records, against a loop that only posts the same.

In turn, one process each, to the same receiver, 64 requests at once, under uvloop and under asyncio's own loop: an
aiohttp session, pgrelay's transport, the daemon with 20,000 events to expand, and the daemon with 20,000 deliveries
pending. The daemon's rate is from the start of its first request to the end of the record of its last (times in the
tables); its processor time from when it had started, or its deliveries were released, to then.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from processor import backends, spent, spent_by
from receivers import fast
from results import Figure, at_least, at_most, summed_up
from traffic import insert_rows
from world import Database, Loop, World, wait_for

NAME = "drain"
CONCURRENCY = 64
LOOPS: tuple[Loop, ...] = ("uvloop", "asyncio")


@dataclass(frozen=True, slots=True)
class Turn:
    """Requests per second; processor seconds per request, of the sender and of the server processes it uses."""

    rate: float
    processor: float
    server: float = 0.0


def run(world: World) -> list[Figure]:
    """All four, in turn, a few times over."""
    figures = []
    rounds, number = (1, 5_000) if world.quick else (5, 20_000)
    with fast() as (receiver, url), world.database("drain") as database:
        webhook_id = database.webhook(url)
        for loop in LOOPS:
            turns: dict[str, list[Turn]] = {name: [] for name in ("raw", "transport", "events", "pending")}
            for _ in range(rounds):
                database.clear()
                with database.connect() as connection:
                    insert_rows(connection, number)
                for client in ("raw", "transport"):
                    database.settle()
                    turns[client].append(bare(client, loop, url, database, number))
                database.settle()
                turns["events"].append(_events(database, loop, webhook_id, number))
                database.clear()
                turns["pending"].append(pending(database, loop, webhook_id, number))
            figures += _figures(f"{loop}, {receiver}", turns)
    return figures


def _figures(how: str, turns: dict[str, list[Turn]]) -> list[Figure]:
    figures = []
    for kind, what in (("pending", "deliveries pending"), ("events", "events waiting")):
        for bare, against in (
            ("raw", "a bare aiohttp loop"),
            ("transport", "a bare loop over pgrelay's own client"),
        ):
            pairs = list(zip(turns[kind], turns[bare], strict=True))
            rates = [ours.rate / theirs.rate for ours, theirs in pairs]
            costs = [ours.processor / theirs.processor for ours, theirs in pairs]
            figures += [
                summed_up(NAME, f"{how}, {what}: rate, of {against}'s", rates, "×", at_least(0.80)),
                summed_up(NAME, f"{how}, {what}: processor time, of {against}'s", costs, "×", at_most(1.25)),
            ]
    for kind, made in turns.items():
        sender, server = ([1e6 * turn.processor for turn in made], [1e6 * turn.server for turn in made])
        figures.append(summed_up(NAME, f"    ({how}, {kind}: rate)", [turn.rate for turn in made], "/s"))
        figures.append(summed_up(NAME, f"    ({how}, {kind}: processor time of the sender)", sender, "µs"))
        if any(server):
            figures.append(summed_up(NAME, f"    ({how}, {kind}: and of its backends)", server, "µs"))
    return figures


def bare(client: str, loop: Loop, url: str, database: Database, number: int, *trusted: Path) -> Turn:
    """One run of bare.py over the newest events."""
    script = Path(__file__).with_name("bare.py")
    words = [client, loop, url, str(CONCURRENCY), database.dsn, str(number), *map(str, trusted)]
    said = subprocess.run([sys.executable, script, *words], check=True, stdout=subprocess.PIPE).stdout
    return Turn(**json.loads(said))


def _events(database: Database, loop: Loop, webhook_id: int, number: int) -> Turn:
    """The events are there when the daemon starts."""
    with database.daemon(loop) as daemon:
        return _measured(database, daemon, webhook_id, number)


def pending(database: Database, loop: Loop, webhook_id: int, number: int, config: Path | None = None) -> Turn:
    """The deliveries are there, of a webhook that is paused, until the daemon is idle; then it is released."""
    with database.connect() as connection:
        connection.execute(
            "update pgrelay.webhook_configurations set paused = true where id = %s", (webhook_id,)
        )
        with database.daemon(loop, config) as daemon:
            insert_rows(connection, number)

            def all_expanded() -> bool:
                query = "select count(*) from pgrelay.delivery_queue where status = 'pending'"
                return connection.execute(query).fetchone() == (number,)

            wait_for(all_expanded, "the events to be expanded", 120, every=0.5)
            database.settle()
            connection.execute(
                "update pgrelay.webhook_configurations set paused = false where id = %s", (webhook_id,)
            )
            return _measured(database, daemon, webhook_id, number)


def _measured(database: Database, daemon: int, webhook_id: int, number: int) -> Turn:
    """Wait until everything is delivered. Processor time before the first look is lost: some milliseconds."""
    with database.connect() as connection:
        servers = backends(connection)
        ours, theirs = spent(daemon), spent_by(servers)

        def done() -> bool:
            row = connection.execute(
                "select successful_deliveries from pgrelay.webhook_stats where webhook_id = %s", (webhook_id,)
            ).fetchone()
            return row is not None and row[0] >= number

        wait_for(done, "the backlog to be delivered", 300, every=0.1)
        ours, theirs = spent(daemon) - ours, spent_by(servers) - theirs
        row = connection.execute(
            "select extract(epoch from (select max(finished_at) from pgrelay.delivery_history)"
            " - (select min(started_at) from pgrelay.delivery_attempts))::float8,"
            " (select count(*) from pgrelay.delivery_attempts)"
        ).fetchone()
    assert row is not None and row[1] == number
    return Turn(number / row[0], ours / number, theirs / number)
