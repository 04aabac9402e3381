"""What statements inside functions read: by which index or none, how many rows, how many pages.

Counted by the server for the session (pg_stat_get_xact_*), which needs no extension, as auto_explain would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

_COUNTS = """
select c.relname, c.relkind = 'i', pg_stat_get_xact_numscans(c.oid), pg_stat_get_xact_tuples_returned(c.oid)
from pg_class c where c.relnamespace = 'pgrelay'::regnamespace and c.relkind in ('r', 'i')
"""


class Read(NamedTuple):
    """One table read as a whole, or one index; the slots of a ring count as one."""

    name: str
    by_index: bool
    scans: int
    #: Rows of the table, or entries of the index, that were looked at.
    rows: int


@contextmanager
def reads(connection: psycopg.Connection) -> Iterator[list[Read]]:
    """What the block reads of pgrelay's tables, in one transaction of its own; filled in at its end."""
    found: list[Read] = []
    with connection.transaction():
        before = _counts(connection)
        yield found
        after = _counts(connection)
    for (name, by_index), (scans, rows) in after.items():
        earlier_scans, earlier_rows = before[name, by_index]
        if scans > earlier_scans:
            found.append(Read(name, by_index, scans - earlier_scans, rows - earlier_rows))


def _counts(connection: psycopg.Connection) -> dict[tuple[str, bool], tuple[int, int]]:
    counts: dict[tuple[str, bool], tuple[int, int]] = {}
    for name, by_index, scans, rows in connection.execute(_COUNTS):
        family = "_".join(word for word in name.split("_") if not word.isdigit() and word != "kept")
        other_scans, other_rows = counts.get((family, by_index), (0, 0))
        counts[family, by_index] = (other_scans + scans, other_rows + rows)
    return counts


def buffers(connection: psycopg.Connection, query: str, *parameters: Any) -> int:
    """Pages that a query looks at, with all that the functions in it do. It runs."""
    explain = sql.SQL("explain (analyze, buffers, timing off, format json) ") + sql.SQL(query)  # type: ignore[arg-type]
    row = psycopg.ClientCursor(connection).execute(explain, parameters).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
