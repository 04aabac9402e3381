"""peers: how fast PgQueuer and Procrastinate are at pgrelay's job, with a handler that posts by aiohttp.

In turn, to the same receiver: the daemon with 20,000 deliveries pending, as in `drain`; then a worker of each peer with
a job for each of those events' bodies, which it posts with the signature and headers that the daemon would send, and
records in its own tables. One process each, under uvloop. Rates are from the start of the first request to the end of
the record of the last. A turn counts if the receiver got each delivery once, by the keys that it keeps.

The peers' settings stand in `peer_pgqueuer.py` and `peer_procrastinate.py`. Procrastinate gets 2,000 jobs: they take it
longer than 20,000 take the others.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import LiteralString

from drain import Turn, pending
from processor import backends, spent, spent_by
from receivers import Counting, counting
from results import Figure, Skipped, at_least, summed_up
from world import Database, World, wait_for

NAME = "peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them, and where it keeps what became of its jobs."""

    name: str
    module: str
    #: Jobs in a turn, and in a quick one.
    jobs: tuple[int, int]
    #: Takes away all jobs and what is known of them.
    forget: LiteralString
    #: How many are recorded as delivered, and when the last of them was, in seconds.
    recorded: LiteralString


PEERS = (
    Peer(
        "PgQueuer",
        "peer_pgqueuer",
        (20_000, 5_000),
        "truncate pgqueuer, pgqueuer_log, pgqueuer_statistics",
        "select count(*), extract(epoch from max(created))::float8 from pgqueuer_log where status = 'successful'",
    ),
    Peer(
        "Procrastinate",
        "peer_procrastinate",
        (2_000, 500),
        "truncate procrastinate_jobs, procrastinate_events, procrastinate_workers, procrastinate_periodic_defers",
        "select count(*), extract(epoch from max(at))::float8 from procrastinate_events where type = 'succeeded'",
    ),
)


def run(world: World) -> list[Figure]:
    """All of them, in turn, a few times over."""
    try:
        versions = {peer.name: f"{peer.name} {version(peer.name)}" for peer in PEERS}
    except PackageNotFoundError as missing:
        raise Skipped(f"it needs {missing.name}, of the extra `peers`, which `make bench` installs") from None
    rounds, number = (1, 5_000) if world.quick else (3, 20_000)
    turns: dict[str, list[Turn]] = {name: [] for name in ("pgrelay", *versions)}
    with counting() as receiver, world.database("peers") as database:
        webhook_id = database.webhook(receiver.url)
        for peer in PEERS:
            subprocess.run(_command(peer, "install", database.dsn), check=True)
        for _ in range(rounds):
            database.clear()
            turns["pgrelay"].append(pending(database, "uvloop", webhook_id, number))
            _check_arrivals(receiver, "pgrelay", number)
            for peer in PEERS:
                turns[peer.name].append(_turn(peer, database, receiver, peer.jobs[world.quick]))
                _check_arrivals(receiver, peer.name, peer.jobs[world.quick])
    return _figures(receiver.what, versions, turns)


def _figures(receiver: str, versions: dict[str, str], turns: dict[str, list[Turn]]) -> list[Figure]:
    figures = []
    for name, full_name in versions.items():
        pairs = list(zip(turns["pgrelay"], turns[name], strict=True))
        rates = [ours.rate / theirs.rate for ours, theirs in pairs]
        costs = [
            (ours.processor + ours.server) / (theirs.processor + theirs.server) for ours, theirs in pairs
        ]
        what = f"uvloop, {receiver}, deliveries pending"
        figures += [
            summed_up(NAME, f"{what}: rate, of {full_name}'s", rates, "×", at_least(1.7)),
            summed_up(NAME, f"{what}: processor time with backends, of {full_name}'s", costs, "×"),
        ]
    for name, made in turns.items():
        sender, server = ([1e6 * turn.processor for turn in made], [1e6 * turn.server for turn in made])
        figures += [
            summed_up(NAME, f"    ({name}: rate)", [turn.rate for turn in made], "/s"),
            summed_up(NAME, f"    ({name}: processor time of the sender)", sender, "µs"),
            summed_up(NAME, f"    ({name}: and of its backends)", server, "µs"),
        ]
    return figures


def _turn(peer: Peer, database: Database, receiver: Counting, number: int) -> Turn:
    """The jobs are there when the worker starts; it is let go once the machine is quiet."""
    with database.connect() as connection:
        connection.execute(peer.forget)
        subprocess.run(_command(peer, "load", database.dsn, str(number)), check=True)
        with _worker(_command(peer, "work", database.dsn, receiver.url)) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            database.settle()
            ours, theirs = spent(worker.pid), spent_by(backends(connection, "peer"))
            worker.stdin.write("go\n")
            worker.stdin.flush()
            began = float(worker.stdout.readline() or "nan")
            ended = 0.0

            def done() -> bool:
                nonlocal ended
                if worker.poll() is not None:
                    raise RuntimeError(f"the worker of {peer.name} has ended before its jobs were done")
                row = connection.execute(peer.recorded).fetchone()
                assert row is not None
                ended = row[1]
                return bool(row[0] >= number)

            wait_for(done, f"{peer.name} to deliver", 300, every=0.1)
            # its backends of now: those that it has opened meanwhile began at nothing
            ours = spent(worker.pid) - ours
            theirs = spent_by(backends(connection, "peer")) - theirs
    return Turn(number / (ended - began), ours / number, theirs / number)


@contextmanager
def _worker(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a worker, from when it is ready until it has stopped in good order."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"this did not start: {' '.join(command)}")
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(60)
            except subprocess.TimeoutExpired:
                worker.kill()


def _command(peer: Peer, *words: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("peer.py")), peer.module, *words]


def _check_arrivals(receiver: Counting, sender: str, number: int) -> None:
    """RuntimeError unless each delivery came once; then what came is forgotten."""
    wait_for(lambda: len(receiver.keys()) >= number, f"the receiver to log what {sender} sent", 10, every=0.5)
    keys = receiver.keys()
    if not len(keys) == len(set(keys)) == number:
        raise RuntimeError(
            f"{sender} had {number} deliveries, and {len(keys)} requests with {len(set(keys))} keys came"
        )
    receiver.forget()
