"""serializable: how many more transactions of a SERIALIZABLE application fail because its changes are captured.

16 clients of pgbench read and update one of 50,000 rows in each transaction, which fires one event; failed
transactions are not repeated. In turn with the capture triggers disabled and enabled; a sample is the difference of
a pair's rates.
"""

from contention import pgbench
from results import Figure, Skipped, at_most, summed_up
from traffic import insert_rows
from world import World

NAME = "serializable"
CLIENTS = 16

_SCRIPT = """
\\set id random(1, 50000)
begin isolation level serializable;
select status from public.callback_requests where id = :id;
update public.callback_requests set status = case status when 'contacted' then 'completed' else 'contacted' end
    where id = :id;
end;
"""


def run(world: World) -> list[Figure]:
    """With the bell off, and on (every capture notifies)."""
    if world.pgbench() is None:
        raise Skipped("it needs pgbench of PostgreSQL 15 or later")
    figures = []
    pairs, transactions = (2, 250) if world.quick else (4, 1000)
    with world.database("serializable") as database:
        database.webhook("http://127.0.0.1:9/")
        with database.connect() as connection:
            database.triggers(enabled=False)
            insert_rows(connection, 50_000)
            database.settle()
            for bell, what in ((1, "no daemon sleeps"), (2, "a daemon sleeps: captures notify")):
                connection.execute("select setval('pgrelay.wake', %s)", (bell,))
                rates: dict[bool, list[float]] = {False: [], True: []}
                for _ in range(pairs):
                    for enabled in (False, True):
                        database.triggers(enabled=enabled)
                        found = pgbench(world, database, _SCRIPT, clients=CLIENTS, transactions=transactions)
                        rates[enabled].append(100 * found.failed / (found.transactions + found.failed))
                added = [on - off for off, on in zip(rates[False], rates[True], strict=True)]
                what = f"failures added, {what} ({pairs * CLIENTS * transactions:,} transactions each)"
                figures += [
                    summed_up(NAME, what, added, "points", at_most(0.5)),
                    summed_up(NAME, "    (failed without capture)", rates[False], "%"),
                    summed_up(NAME, "    (failed with capture)", rates[True], "%"),
                ]
    return figures
