"""What psql makes of the files is what the program makes of them, and an ordinary role may do it."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pgrelay import sqlfiles
from pgrelay.db import guard, migrations
from support.database import Database, Role
from support.queue import add_webhook, expand, record, sign_on, succeeded, value

SQL = Path(str(sqlfiles.sql_root()))


def psql(database: Database, *arguments: str, user: str = "postgres", text: str = "") -> str:
    """Run psql as people do; what it said."""
    assert database.cluster.psql is not None
    command = [
        database.cluster.psql,
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--dbname",
        database.cluster.dsn(database.name, user=user),
    ]
    done = subprocess.run(
        [*command, *arguments], input=text, text=True, capture_output=True, cwd=SQL.parent, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def dump(database: Database) -> str:
    """The schema as pg_dump writes it, without what differs between two dumps of the same."""
    command = [
        database.cluster.binaries.bin_dir / "pg_dump",
        "--schema-only",
        "--schema=pgrelay",
        "--dbname",
        database.dsn,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)


@pytest.fixture
def another(empty_database: Database) -> Iterator[Database]:
    """A second database without pgrelay."""
    other = Database("another", empty_database.cluster)
    with psycopg.connect(other.cluster.dsn(), autocommit=True) as superuser:
        superuser.execute("create database another template template1")
        yield other
        superuser.execute("drop database another with (force)")


def migrate(database: Database) -> list[str]:
    async def run() -> list[str]:
        async with await database.aconnect() as connection:
            applied = await migrations.migrate(connection, "production")
            await guard.refuse_unknown_schema(connection)
            await guard.refuse_copy(connection, "production")
            return applied

    return asyncio.run(run())


def head_of_install() -> list[str]:
    """The command in the head of install.sql, as its arguments."""
    head = (SQL / "install.sql").read_text().split("\n\n", 1)[0]
    found = re.search(r"^--\s+psql (-1 (?:-f \S+ ?)+)", head, re.MULTILINE)
    assert found is not None
    return found[1].split()


def test_the_command_in_the_head_of_install_sql_installs_all_that_the_program_needs(
    empty_database: Database, another: Database
) -> None:
    psql(empty_database, *head_of_install())
    by_psql = dump(empty_database)
    psql(empty_database, "-1", "-f", "sql/install.sql")
    assert dump(empty_database) == by_psql
    migrate(another)
    assert dump(another) == by_psql
    # and the program goes on from there: it finds the migrations done and notes the files
    assert migrate(empty_database) == [file.path for file in sqlfiles.files()]
    assert migrate(empty_database) == []
    assert dump(empty_database) == by_psql
    with empty_database.connect() as db:
        assert value(db, "select environment from pgrelay.installation") == "production"


def test_the_script_gives_the_same_schema_as_the_migration_it_stands_for(
    empty_database: Database, another: Database, tmp_path: Path
) -> None:
    script = tmp_path / "install.sql"
    script.write_text(asyncio.run(migrations.script(None, "it's production")))
    psql(empty_database, "-f", str(script))
    migrate(another)
    assert dump(empty_database) == dump(another)
    with empty_database.connect() as db:
        assert value(db, "select environment from pgrelay.installation") == "it's production"
        digests = dict(db.execute("select path, digest from pgrelay.schema_objects").fetchall())
    assert digests == {file.path: file.digest for file in sqlfiles.files()}


def test_every_migration_notes_itself_so_that_psql_alone_will_do() -> None:
    for migration in sqlfiles.migrations():
        note = f"insert into pgrelay.schema_migrations (number, name) values ({migration.number}, '{migration.name}');"
        assert migration.text.rstrip().endswith(note)


@contextmanager
def groups_hidden(db: psycopg.Connection) -> Iterator[None]:
    """As in a cluster where nobody has made pgrelay's roles yet."""
    groups = ("pgrelay_daemon", "pgrelay_admin", "pgrelay_reader", "pgrelay_tenant")
    for group in groups:
        db.execute(
            sql.SQL("alter role {} rename to {}").format(
                sql.Identifier(group), sql.Identifier(f"hidden_{group}")
            )
        )
    try:
        yield
    finally:
        for group in groups:
            db.execute(
                sql.SQL("alter role {} rename to {}").format(
                    sql.Identifier(f"hidden_{group}"), sql.Identifier(group)
                )
            )


def test_a_role_that_is_neither_superuser_nor_may_make_roles_can_install_and_work(
    empty_database: Database,
) -> None:
    with empty_database.connect() as superuser:
        superuser.execute("create role owner_alone login nosuperuser nocreaterole")
        try:
            superuser.execute(f"grant create on database {empty_database.name} to owner_alone".encode())
            with groups_hidden(superuser):
                said = psql(empty_database, *head_of_install(), user="owner_alone")
                assert said.count("grants for it are left out") == 4
                owner = Role(
                    "owner_alone", empty_database.cluster.dsn(empty_database.name, user="owner_alone")
                )
                with owner.connect() as db:
                    whole_path(db)
            # later a DBA makes the roles, and the file is run again
            psql(empty_database, "-1", "-f", "sql/install.sql", user="owner_alone")
            assert (
                value(superuser, "select has_schema_privilege('pgrelay_reader', 'pgrelay', 'usage')") is True
            )
        finally:
            superuser.execute("drop owned by owner_alone cascade")
            superuser.execute("drop role owner_alone")


def whole_path(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    assert value(db, "select pgrelay.emit('order.paid', '{}', '1')") is not None
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    assert record(db, daemon, succeeded(lease)) == []
    assert value(db, "select pgrelay.rotate('outbox', 86400)") is None
    assert (
        value(db, "select successful_deliveries from pgrelay.webhook_stats where webhook_id = %s", webhook)
        == 1
    )


def test_what_is_captured_in_the_very_transaction_of_the_installation_is_delivered(
    empty_database: Database,
) -> None:
    files = [*(str(path) for path in sorted((SQL / "migrations").iterdir())), str(SQL / "install.sql")]
    capture = (
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " values ('1', 'n', 'https://example.com/', '{*}'); select pgrelay.emit('order.paid', '{}', '1');"
    )
    psql(empty_database, "-1", *(word for file in files for word in ("-f", file)), "-c", capture)
    with empty_database.connect() as db:
        assert len(expand(db, sign_on(db)).leases) == 1


def test_a_copy_of_the_schema_alone_does_not_disturb_the_application(
    database: Database, empty_database: Database
) -> None:
    # its sequences have no value yet, its feed no position
    psql(empty_database, text=dump(database))
    with empty_database.connect() as db:
        row = db.execute(
            "insert into pgrelay.outbox (event_type, company_id, idempotency_key, body) values ('a.b', '1', 'k', '{}') returning slot"
        ).fetchone()
        assert row == (0,)
