"""memory: what a daemon occupies while it works off a backlog, however long that is.

Events are made while no daemon runs, so all of them wait when one starts; it expands and delivers them to one webhook,
with everything recorded. Taken is the most it ever had resident (VmHWM), after a tenth of the backlog and after all
of it: a daemon whose memory follows the backlog shows it in the difference.
"""

from pathlib import Path

from receivers import fast
from results import Figure, at_most
from traffic import insert_rows
from world import World, wait_for

NAME = "memory"
_MIB = 1024.0


def run(world: World) -> list[Figure]:
    """One drain of a million, or of 20,000."""
    number, step = (20_000, 10_000) if world.quick else (1_000_000, 100_000)
    with fast() as (_, url), world.database("memory") as database:
        webhook_id = database.webhook(url)
        with database.connect() as connection:
            for _ in range(number // step):
                insert_rows(connection, step)
            with database.daemon("uvloop") as daemon:

                def delivered() -> int:
                    row = connection.execute(
                        "select successful_deliveries from pgrelay.webhook_stats where webhook_id = %s",
                        (webhook_id,),
                    ).fetchone()
                    return 0 if row is None else int(row[0])

                wait_for(lambda: delivered() >= number // 10, "a tenth to be delivered", 600, every=0.5)
                early = _most_resident(daemon)
                wait_for(lambda: delivered() >= number, "all to be delivered", 1800, every=0.5)
                late = _most_resident(daemon)
    return [
        Figure(NAME, f"most resident after {number // 10:,} deliveries", early, "MiB"),
        Figure(NAME, f"most resident after {number:,} deliveries", late, "MiB", target=at_most(150.0)),
    ]


def _most_resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / _MIB
