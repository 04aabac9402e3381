"""What people are shown of the last minutes, hours and day is read by index: not all that retention keeps."""

from collections.abc import Awaitable, Callable

import pytest
from psycopg import AsyncConnection

from pgrelay.db import admin_page, admin_top, admin_upkeep
from pgrelay.db.admin import Admin

MINUTES = 20_000

Read = Callable[[Admin], Awaitable[object]]


async def rows_read(admin: Admin, read: Read) -> int:
    """Rows of the minutes that a read looks at, as the server counts them."""
    counted = (
        "select sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint from pg_class c"
        " where c.relname like 'metric_minutes%'"
    )
    async with admin.connection.transaction():
        before = await admin.value(counted)
        await read(admin)
        return int(await admin.value(counted)) - int(before)


@pytest.mark.parametrize(
    ("read", "at_most"),
    [
        (admin_top._lately, 20),
        (lambda admin: admin_top._webhooks(admin, 10), 20),
        (admin_upkeep.totals, 2 * 1440 + 20),
        (lambda admin: admin_upkeep.webhooks_by_health(admin, 10), 2 * 60 + 20),
        (lambda admin: admin_page.hours(admin, 24), 2 * 1440 + 20),
    ],
    ids=["top", "webhooks of top", "totals", "webhooks by health", "hours"],
)
async def test_figures_of_late_do_not_read_all_minutes_that_are_kept(
    aconn: AsyncConnection, read: Read, at_most: int
) -> None:
    await aconn.execute(
        "insert into pgrelay.metric_minutes select 1, date_trunc('minute', now()) - n * interval '1 minute',"
        " 1, 0, 1, 0, 5, array_fill(0, array[12]) from generate_series(0, %s) as n",
        (MINUTES,),
    )
    await aconn.execute("analyze pgrelay.metric_minutes")
    assert await rows_read(Admin(aconn), read) <= at_most


async def test_top_counts_the_minute_before_and_the_one_that_runs(aconn: AsyncConnection) -> None:
    await aconn.execute(
        "insert into pgrelay.metric_minutes select 1, date_trunc('minute', now()) - n * interval '1 minute',"
        " 10, 1, 9, 1, 50, array_fill(0, array[12]) from generate_series(-1, 5) as n"
    )
    found = await admin_top._lately(Admin(aconn))
    # the next minute may have begun since
    assert found["attempts"] in (20, 30) and found["attempts_failed"] in (2, 3)
    assert 60 <= found["seconds"] <= 180
