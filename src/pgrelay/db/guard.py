"""May this database be served, and where: is it the primary, the original, of a schema this program knows?"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from psycopg import AsyncConnection

from pgrelay.addresses import is_loopback
from pgrelay.errors import ConfigError, DatabaseUnavailable, NotTheOriginal, SchemaMismatch
from pgrelay.sqlfiles import Migration, migrations


class StandbyRefused(DatabaseUnavailable):
    """The server is a standby: nothing can be recorded there. It is served once it is promoted."""


async def one(connection: AsyncConnection, query: str, *parameters: Any) -> tuple[Any, ...] | None:
    """The first row of a query."""
    cursor = await connection.execute(query.encode(), parameters)
    return await cursor.fetchone()


async def refuse_standby(connection: AsyncConnection) -> None:
    """Raise StandbyRefused on a server in recovery."""
    row = await one(connection, "select pg_is_in_recovery()")
    if row is not None and row[0]:
        raise StandbyRefused(
            "this server is a standby: deliveries cannot be claimed or recorded on it",
            "Point database.dsn at the primary, or list all hosts with target_session_attrs=read-write.",
        )


async def refuse_unknown_schema(
    connection: AsyncConnection, shipped: Iterable[Migration] | None = None
) -> None:
    """Raise SchemaMismatch when the schema is missing, older than this program, newer and breaking, or altered."""
    row = await one(connection, "select to_regclass('pgrelay.schema_migrations') is not null")
    if row is None or not row[0]:
        found = f"there is no schema pgrelay in database {connection.info.dbname}"
        raise SchemaMismatch(found, "Run pgrelay migrate.")
    known = {migration.number: migration for migration in (migrations() if shipped is None else shipped)}
    cursor = await connection.execute(
        "select number, breaking, digest from pgrelay.schema_migrations order by number"
    )
    rows = await cursor.fetchall()
    applied: dict[int, bool] = {number: breaking for number, breaking, _ in rows}
    missing = [number for number in known if number not in applied]
    if missing:
        raise SchemaMismatch(
            f"the schema lacks migration {', '.join(f'{number:04d}' for number in missing)}",
            "Run pgrelay migrate.",
        )
    foreign = [number for number, breaking in applied.items() if breaking and number not in known]
    if foreign:
        raise SchemaMismatch(
            f"the schema has migration {foreign[0]:04d}, which this version of pgrelay cannot work with",
            "Upgrade pgrelay to the version that made it.",
        )
    refuse_changed({number: digest for number, _, digest in rows}, known.values())


def refuse_changed(applied: Mapping[int, str], shipped: Iterable[Migration]) -> None:
    """Raise SchemaMismatch when a migration was applied in another form than this program ships.

    `applied`: digests by number. One that psql applied has none, and is taken as it is.
    """
    for migration in shipped:
        if applied.get(migration.number, "") not in ("", migration.digest):
            raise SchemaMismatch(
                f"migration {migration.number:04d} was applied from another file than this version of pgrelay ships,"
                " so the tables may not be what it expects",
                "Run the version that applied it. Once the tables are as this version's file has them, say so:"
                f" update pgrelay.schema_migrations set digest = '{migration.digest}'"
                f" where number = {migration.number};",
            )


async def refuse_sealed(connection: AsyncConnection, key_ids: Collection[str]) -> None:
    """Raise ConfigError when webhooks' secrets are sealed with a key that is not among these."""
    row = await one(connection, "select sealed_with from pgrelay.installation")
    if row is not None and row[0] is not None and row[0] not in key_ids:
        having = f"the keys here are {', '.join(key_ids)}" if key_ids else "there is no key here"
        raise ConfigError(
            f"secrets.key: the webhooks' secrets are sealed with key {row[0]}; {having}",
            "Give that key in PGRELAY_SECRETS_KEY or as the credential secrets_key.",
        )


async def refuse_copy(connection: AsyncConnection, environment: str) -> None:
    """Raise NotTheOriginal when the database is a copy, or of another environment."""
    row = await one(connection, "select pgrelay.copy_problem(%s)", environment)
    if row is not None and row[0] is not None:
        raise NotTheOriginal(
            f"nothing is sent from this database: {row[0]}",
            "If it is meant to send: pgrelay adopt --keep-pending (send what was pending when it was copied)"
            " or pgrelay adopt --cancel-pending.",
        )


async def refuse_public(connection: AsyncConnection, listen: str) -> None:
    """Raise ConfigError when others can reach the address `listen` ("HOST:PORT") and nobody has a token."""
    if is_loopback(listen):
        return
    row = await one(connection, "select pgrelay.any_token()")
    if row is not None and not row[0]:
        raise ConfigError(
            f"http.listen: {listen} is an address that others can reach, and there is no token yet",
            "Make one first: pgrelay tokens create --help. Or listen at 127.0.0.1.",
        )
