"""tls: which event loop serves a daemon better whose receivers speak TLS, as nearly all do.

Like drain, to an nginx that speaks TLS: pgrelay's transport alone, and the daemon with 10,000 deliveries pending, in
turn under uvloop and asyncio's own loop. Skipped where nginx or openssl is missing.
"""

from drain import Turn, bare, pending
from receivers import fast_over_tls
from results import Figure, Skipped, summed_up
from traffic import insert_rows
from world import Loop, World, sample_sources

NAME = "tls"
LOOPS: tuple[Loop, ...] = ("uvloop", "asyncio")


def run(world: World) -> list[Figure]:
    """Both, in turn, a few times over."""
    rounds, number = (1, 3_000) if world.quick else (4, 10_000)
    with fast_over_tls() as receiver, world.database("tls") as database:
        if receiver is None:
            raise Skipped("it needs nginx and openssl")
        url, certificate = receiver
        webhook_id = database.webhook(url)
        config = database.config("trusting", sample_sources(), ca_file=certificate)
        turns: dict[tuple[str, Loop], list[Turn]] = {
            (what, loop): [] for what in ("transport", "pending") for loop in LOOPS
        }
        for _ in range(rounds):
            for loop in LOOPS:
                database.clear()
                with database.connect() as connection:
                    insert_rows(connection, number)
                turns["transport", loop].append(bare("transport", loop, url, database, number, certificate))
                database.clear()
                turns["pending", loop].append(pending(database, loop, webhook_id, number, config))
    figures = []
    for what, name in (("transport", "a bare loop over pgrelay's client"), ("pending", "deliveries pending")):
        pairs = list(zip(turns[what, "uvloop"], turns[what, "asyncio"], strict=True))
        rates = [uvloop.rate / asyncio.rate for uvloop, asyncio in pairs]
        figures.append(summed_up(NAME, f"{name}: rate under uvloop, of that under asyncio", rates, "×"))
        for loop in LOOPS:
            made = turns[what, loop]
            figures += [
                summed_up(NAME, f"    ({loop}: rate)", [turn.rate for turn in made], "/s"),
                summed_up(
                    NAME, f"    ({loop}: processor time)", [1e6 * turn.processor for turn in made], "µs"
                ),
            ]
    return figures
