"""notify: what waking the daemon costs many writers that commit at once.

pgbench inserts one row a transaction while a daemon delivers what is captured: in turn a daemon that cannot listen,
for which captures never notify (it polls every 100 ms), and an ordinary one, for which they do while it is quiet.
For information also without any daemon: capture disabled, captures silent, and captures that always notify. Daemon,
writers, server and receiver share the machine.
"""

import threading

import psycopg
from contention import pgbench
from receivers import fast
from results import Figure, Skipped, at_least, summed_up
from world import Database, World, sample_sources

NAME = "notify"

_SCRIPT = (
    "insert into public.callback_requests (company_id, branch_id, service_id, customer_name, customer_phone)"
    " values (1, 1, 1, 'Zoë', '123');\n"
)


def run(world: World) -> list[Figure]:
    """16 and 32 writers."""
    if world.pgbench() is None:
        raise Skipped("it needs pgbench of PostgreSQL 15 or later")
    figures = []
    rounds, seconds = (1, 3) if world.quick else (5, 5)
    with fast() as (_, url), world.database("notify") as database:
        database.webhook(url)
        deaf = database.config("deaf", sample_sources(), listen_dsn="host=/nonexistent")
        for clients in (16, 32):
            rates: dict[str, list[float]] = {
                name: [] for name in ("off", "silent", "always", "deaf", "daemon")
            }
            ringing: list[float] = []

            def writers(name: str, clients: int = clients, rates: dict[str, list[float]] = rates) -> None:
                rates[name].append(
                    pgbench(world, database, _SCRIPT, clients=clients, seconds=seconds).per_second
                )

            for _ in range(rounds):
                for name in ("off", "silent", "always"):
                    _prepare(database, bell=2 if name == "always" else 1, capture=name != "off")
                    with psycopg.connect(database.dsn, autocommit=True) as listener:
                        listener.execute("listen pgrelay")
                        writers(name)
                _prepare(database)
                with database.daemon(config=deaf):
                    writers("deaf")
                _prepare(database)
                with database.daemon(), _Bell(database) as bell:
                    writers("daemon")
                ringing.append(bell.share * 100)
            figures += _figures(f"{clients} writers", rates, ringing)
    return figures


def _figures(who: str, rates: dict[str, list[float]], ringing: list[float]) -> list[Figure]:
    kept = [100 * listens / polls for listens, polls in zip(rates["daemon"], rates["deaf"], strict=True)]
    return [
        summed_up(NAME, f"{who}, daemon busy: of the commit rate without NOTIFY", kept, "%", at_least(85)),
        summed_up(NAME, "    (commits/s, the daemon listens)", rates["daemon"], "/s"),
        summed_up(NAME, "    (time during which captures notified)", ringing, "%"),
        summed_up(NAME, "    (commits/s, the daemon polls)", rates["deaf"], "/s"),
        summed_up(NAME, "    (commits/s, no daemon, capture disabled)", rates["off"], "/s"),
        summed_up(NAME, "    (commits/s, no daemon, captured in silence)", rates["silent"], "/s"),
        summed_up(NAME, "    (commits/s, no daemon, every capture notifies)", rates["always"], "/s"),
    ]


def _prepare(database: Database, *, bell: int = 1, capture: bool = True) -> None:
    database.triggers(enabled=capture)
    database.clear()
    with database.connect() as connection:
        connection.execute("truncate public.callback_requests cascade")
        connection.execute("select setval('pgrelay.wake', %s)", (bell,))


class _Bell:
    """Looks 50 times a second whether captures should notify; `share` is the part of the looks that found it so."""

    def __init__(self, database: Database) -> None:
        self.share = 0.0
        self._database = database
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Bell":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        looks = rings = 0
        with self._database.connect() as connection:
            while not self._over.wait(0.02):
                row = connection.execute("select pg_sequence_last_value('pgrelay.wake') = 2").fetchone()
                looks += 1
                rings += bool(row and row[0])
        self.share = rings / max(1, looks)
