"""Installing and upgrading: everything or nothing, once, and never backwards."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from psycopg import AsyncConnection

from pgrelay import sqlfiles
from pgrelay.db import guard, migrations
from pgrelay.errors import DatabaseUnavailable, NotPermitted, NotTheOriginal, Refused, SchemaMismatch
from pgrelay.sqlfiles import Migration, SqlFile
from support.database import Database

Change = Callable[..., None]


@pytest.fixture
async def bare(empty_database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection to a database without pgrelay."""
    async with await empty_database.aconnect() as connection:
        yield connection


async def all_of(connection: AsyncConnection, query: str) -> list[tuple[object, ...]]:
    return await (await connection.execute(query.encode())).fetchall()


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Makes the program ship other files: shipped("views/metrics.sql", text) or shipped(migration=...)."""

    def ship(path: str = "", text: str = "", *, migration: Migration | None = None) -> None:
        if migration is not None:
            numbered = [*migrations.migrations(), migration]
            monkeypatch.setattr(migrations, "migrations", lambda: numbered)
            return
        files = [
            SqlFile(path, text, sqlfiles.digest(text)) if file.path == path else file
            for file in migrations.files()
        ]
        monkeypatch.setattr(migrations, "files", lambda: files)

    return ship


def changed(path: str, comment: str) -> str:
    """A shipped file that says one thing more."""
    return next(file.text for file in sqlfiles.files() if file.path == path) + f"\n-- {comment}\n"


def migration(number: int, text: str = "select 1;", *, breaking: bool = False) -> Migration:
    return Migration(number, "further", text, sqlfiles.digest(text), breaking)


async def test_a_fresh_installation_applies_every_file_once_and_the_second_does_nothing(
    bare: AsyncConnection,
) -> None:
    expected = ["migrations/0001_schema.sql", *(file.path for file in sqlfiles.files())]
    assert await migrations.pending(bare) == expected
    assert await migrations.migrate(bare, "production") == expected
    assert await migrations.pending(bare) == []
    assert await migrations.migrate(bare, "production") == []
    assert await all_of(bare, "select number, name, digest, breaking from pgrelay.schema_migrations") == [
        (m.number, m.name, m.digest, m.breaking) for m in sqlfiles.migrations()
    ]
    rows = await all_of(bare, "select path, digest from pgrelay.schema_objects")
    assert dict(rows) == {file.path: file.digest for file in sqlfiles.files()}
    await guard.refuse_unknown_schema(bare)
    await guard.refuse_copy(bare, "production")


async def test_a_changed_file_is_applied_again_and_the_grants_with_it(
    aconn: AsyncConnection, shipped: Change
) -> None:
    shipped("views/metrics.sql", changed("views/metrics.sql", "changed"))
    assert await migrations.migrate(aconn) == ["views/metrics.sql", "grants.sql"]
    assert await migrations.migrate(aconn) == []


async def test_functions_made_anew_are_not_executable_by_everybody(
    aconn: AsyncConnection, shipped: Change
) -> None:
    await aconn.execute("drop function pgrelay.cancel_delivery(bigint)")
    shipped("delivery/cancel_delivery.sql", changed("delivery/cancel_delivery.sql", "changed"))
    await migrations.migrate(aconn)
    rows = await all_of(
        aconn,
        "select has_function_privilege('public', 'pgrelay.cancel_delivery(bigint)', 'execute'),"
        " has_function_privilege('pgrelay_admin', 'pgrelay.cancel_delivery(bigint)', 'execute')",
    )
    assert rows == [(False, True)]


async def test_roles_that_were_made_after_the_schema_get_their_grants_by_migrating_again(
    aconn: AsyncConnection,
) -> None:
    assert await migrations.migrate(aconn) == []
    await aconn.execute("revoke usage on schema pgrelay from pgrelay_reader")
    assert await migrations.pending(aconn) == ["grants.sql"]
    assert await migrations.migrate(aconn) == ["grants.sql"]
    assert await all_of(aconn, "select has_schema_privilege('pgrelay_reader', 'pgrelay', 'usage')") == [
        (True,)
    ]
    assert await migrations.migrate(aconn) == []


async def test_a_further_migration_is_applied_once_before_the_files(
    aconn: AsyncConnection, shipped: Change
) -> None:
    shipped(migration=migration(2, "alter table pgrelay.webhook_configurations add color text;"))
    assert await migrations.migrate(aconn) == ["migrations/0002_further.sql", "grants.sql"]
    assert await migrations.migrate(aconn) == []
    rows = await all_of(aconn, "select number, name from pgrelay.schema_migrations order by number")
    assert rows == [(1, "schema"), (2, "further")]


async def test_a_step_that_fails_leaves_everything_as_it_was(aconn: AsyncConnection, shipped: Change) -> None:
    shipped(migration=migration(2, "create table pgrelay.half_done (id integer);"))
    shipped("views/metrics.sql", "select 1 / 0;")
    with pytest.raises(Refused, match="division by zero"):
        await migrations.migrate(aconn)
    assert await all_of(
        aconn, "select to_regclass('pgrelay.half_done'), max(number) from pgrelay.schema_migrations"
    ) == [(None, 1)]


async def test_two_migrators_at_once_both_succeed_and_one_has_nothing_to_do(empty_database: Database) -> None:
    async with await empty_database.aconnect() as one, await empty_database.aconnect() as two:
        # even where every transaction would see the database as it was before it waited
        await two.execute("set default_transaction_isolation = 'repeatable read'")
        done = await asyncio.gather(migrations.migrate(one), migrations.migrate(two))
        assert sorted(len(applied) for applied in done) == [0, len(sqlfiles.files()) + 1]
        assert await migrations.pending(one) == []


async def test_a_busy_table_makes_the_migration_give_up_and_change_nothing(
    database: Database, aconn: AsyncConnection, shipped: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    shipped(migration=migration(2, "create table pgrelay.half_done (id integer);"))
    shipped("views/deliveries.sql", changed("views/deliveries.sql", "changed"))
    async with await database.aconnect(autocommit=False) as reader:
        await reader.execute("select * from pgrelay.deliveries")
        with pytest.raises(Refused, match=r"another session holds a lock .* nothing was changed") as refused:
            await migrations.migrate(aconn)
        assert "Run pgrelay migrate again" in refused.value.remedy
        assert await all_of(aconn, "select to_regclass('pgrelay.half_done')") == [(None,)]
        await reader.rollback()
    assert await migrations.migrate(aconn) == [
        "migrations/0002_further.sql",
        "views/deliveries.sql",
        "grants.sql",
    ]


async def test_a_migrator_that_is_at_it_is_waited_for(database: Database, aconn: AsyncConnection) -> None:
    async with await database.aconnect(autocommit=False) as other:
        await other.execute("select pg_advisory_xact_lock(hashtext('pgrelay'), hashtext('migrate'))")
        waiting = asyncio.create_task(migrations.migrate(aconn))
        asks = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while (await all_of(other, asks)) == [(0,)]:
            await asyncio.sleep(0)
        assert not waiting.done()
        await other.commit()
        assert await waiting == []


async def test_a_breaking_migration_of_the_future_is_refused_by_the_migrator_and_by_the_guard(
    aconn: AsyncConnection,
) -> None:
    await aconn.execute(
        "insert into pgrelay.schema_migrations (number, name, breaking) values (9, 'future', true)"
    )
    for attempt in (migrations.migrate(aconn), migrations.pending(aconn), guard.refuse_unknown_schema(aconn)):
        with pytest.raises(SchemaMismatch, match="migration 0009") as refused:
            await attempt
        assert refused.value.remedy == "Upgrade pgrelay to the version that made it."


async def test_a_migration_that_was_applied_from_another_file_is_refused_and_the_mend_it_tells_mends_it(
    aconn: AsyncConnection, shipped: Change
) -> None:
    altered = sqlfiles.migrations()[0]._replace(digest=sqlfiles.digest("altered"))
    await guard.refuse_unknown_schema(aconn)
    await aconn.execute("update pgrelay.schema_migrations set digest = %s", (altered.digest,))
    shipped("views/metrics.sql", changed("views/metrics.sql", "changed"))
    for attempt in (migrations.migrate(aconn), migrations.pending(aconn), guard.refuse_unknown_schema(aconn)):
        with pytest.raises(SchemaMismatch, match="migration 0001 was applied from another file") as refused:
            await attempt
    assert await all_of(aconn, "select digest from pgrelay.schema_migrations") == [(altered.digest,)]
    told = re.search(r"update .*;", refused.value.remedy)
    assert told is not None
    await aconn.execute(told[0].encode())
    await guard.refuse_unknown_schema(aconn)
    assert await migrations.migrate(aconn) == ["views/metrics.sql", "grants.sql"]
    # nobody knows from which file psql applied it
    await aconn.execute("update pgrelay.schema_migrations set digest = ''")
    await guard.refuse_unknown_schema(aconn)
    assert await migrations.migrate(aconn) == []


async def test_an_older_program_changes_nothing_of_a_newer_schema_that_it_can_work_with(
    aconn: AsyncConnection, shipped: Change
) -> None:
    await aconn.execute("insert into pgrelay.schema_migrations (number, name) values (9, 'future')")
    shipped("views/metrics.sql", changed("views/metrics.sql", "as it was before"))
    assert await migrations.migrate(aconn) == []
    assert await migrations.script(aconn) == "-- Nothing to do: the schema is up to date.\n"
    await guard.refuse_unknown_schema(aconn)


async def test_the_guard_refuses_a_schema_that_is_missing_or_older(bare: AsyncConnection) -> None:
    with pytest.raises(SchemaMismatch, match="there is no schema pgrelay in database") as refused:
        await guard.refuse_unknown_schema(bare)
    assert refused.value.remedy == "Run pgrelay migrate."
    await migrations.migrate(bare)
    known = [*sqlfiles.migrations(), migration(2), migration(3)]
    with pytest.raises(SchemaMismatch, match="the schema lacks migration 0002, 0003") as refused:
        await guard.refuse_unknown_schema(bare, known)
    assert refused.value.remedy == "Run pgrelay migrate."


async def test_the_guard_refuses_a_copy_and_another_environment(aconn: AsyncConnection) -> None:
    # databases of tests are copies of a template
    with pytest.raises(NotTheOriginal, match=r"a copy within its cluster.*\n.*pgrelay adopt"):
        await guard.refuse_copy(aconn, "production")
    await aconn.execute("select pgrelay.adopt('production', 'cancel')")
    await guard.refuse_copy(aconn, "production")
    with pytest.raises(NotTheOriginal, match="says environment staging, the database says production"):
        await guard.refuse_copy(aconn, "staging")


async def test_the_guard_serves_a_primary(aconn: AsyncConnection) -> None:
    await guard.refuse_standby(aconn)
    assert issubclass(guard.StandbyRefused, DatabaseUnavailable)


async def test_the_environment_is_noted_once(bare: AsyncConnection) -> None:
    noted = "select environment from pgrelay.installation"
    await migrations.migrate(bare)
    assert await all_of(bare, noted) == [(None,)]
    await migrations.migrate(bare, "production")
    assert await all_of(bare, noted) == [("production",)]
    await migrations.migrate(bare, "staging")
    assert await all_of(bare, noted) == [("production",)]


async def test_a_dump_without_data_is_recognised(aconn: AsyncConnection) -> None:
    await aconn.execute("truncate pgrelay.schema_migrations")
    with pytest.raises(SchemaMismatch, match="a dump without data") as refused:
        await migrations.migrate(aconn)
    assert "drop schema pgrelay cascade" in refused.value.remedy


async def test_a_role_that_may_not_create_schemas_hears_which_grant_it_lacks(
    empty_database: Database, bare: AsyncConnection
) -> None:
    await bare.execute("create role visitor_of_migrations login")
    try:
        dsn = empty_database.cluster.dsn(empty_database.name, user="visitor_of_migrations")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as visitor:
            with pytest.raises(
                NotPermitted, match="visitor_of_migrations may not install the schema"
            ) as refused:
                await migrations.migrate(visitor)
        granted = re.search(r"grant .*;", refused.value.remedy)
        assert granted is not None
        await bare.execute(granted[0].encode())
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as visitor:
            assert await migrations.migrate(visitor)
    finally:
        await bare.execute("drop owned by visitor_of_migrations cascade")
        await bare.execute("drop role visitor_of_migrations")
