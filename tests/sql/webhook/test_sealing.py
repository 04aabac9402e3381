"""Secrets that SQL asks for and a daemon makes; what the database accepts as sealed."""

import json

import psycopg
import pytest

from pgrelay.sealing import Kept, Keyring, write_key
from support.plans import reads
from support.queue import add_webhook, value

RING = Keyring(write_key(b"k" * 32))


def seal(db: psycopg.Connection, webhook: int, kept: Kept) -> Kept:
    """As a daemon does it."""
    sealed = RING.seal(kept, webhook, lambda count: b"r" * count)
    version = value(db, "select version from pgrelay.webhook_configurations where id = %s", webhook)
    headers = None if sealed.headers is None else json.dumps(dict(sealed.headers))
    assert value(
        db,
        "select pgrelay.seal_webhook(%s, %s, %s, %s, %s)",
        webhook, version, sealed.secret_key, sealed.previous_secret_key, headers,
    )  # fmt: skip
    return sealed


def row(db: psycopg.Connection, columns: str) -> tuple:
    found = db.execute(f"select {columns} from pgrelay.webhook_configurations".encode()).fetchone()
    assert found is not None
    return found


def test_without_a_key_a_secret_is_made_at_once(db: psycopg.Connection) -> None:
    add_webhook(db)
    assert row(db, "secret_key")[0].startswith("whsec_")
    assert value(db, "select secrets from pgrelay.webhooks") == "plain"


def test_where_secrets_are_sealed_a_new_webhook_waits_for_one(db: psycopg.Connection) -> None:
    db.execute("select pgrelay.seal_with('0a1b2c3d')")
    webhook = add_webhook(db)
    assert row(db, "secret_key") == (None,)
    assert value(db, "select secrets from pgrelay.webhooks") == "awaited"
    assert value(db, "select array_agg(id) from pgrelay.webhooks_to_seal()") == [webhook]
    sealed = seal(db, webhook, Kept(None, None, None))
    assert row(db, "secret_key, version") == (sealed.secret_key, 2)
    shown = db.execute("select secrets, sealed_with from pgrelay.webhooks").fetchone()
    assert shown == ("sealed", list(RING.ids))
    assert value(db, "select count(*) from pgrelay.webhooks_to_seal()") == 0


def test_rotating_by_sql_keeps_the_sealed_secret_as_the_previous_one_and_asks_for_another(
    db: psycopg.Connection,
) -> None:
    db.execute("select pgrelay.seal_with('0a1b2c3d')")
    webhook = add_webhook(db)
    assert value(db, "select pgrelay.rotate_secret(%s)", webhook) is None
    assert row(db, "previous_secret_key, previous_secret_expires_at") == (None, None)
    sealed = seal(db, webhook, Kept(None, None, None))
    for _ in range(2):  # the second before any daemon was there for the first
        assert value(db, "select pgrelay.rotate_secret(%s)", webhook) is None
        assert row(db, "secret_key, previous_secret_key") == (None, sealed.secret_key)
    again = seal(db, webhook, Kept(None, sealed.secret_key, None))
    assert RING.open(
        Kept(*row(db, "secret_key, previous_secret_key, headers")), webhook
    ).previous_secret_key == (RING.open(again, webhook).previous_secret_key)
    value(db, "select pgrelay.rotate_secret(%s, interval '0')", webhook)
    assert row(db, "secret_key, previous_secret_key") == (None, None)


@pytest.mark.parametrize("columns", [{}, {"headers": '{"X-Key": "hush"}'}], ids=["secret", "headers"])
def test_what_is_in_the_clear_is_found_until_it_is_sealed(db: psycopg.Connection, columns: dict) -> None:
    webhook = add_webhook(db, **columns)
    ((found, version, *kept),) = db.execute("select * from pgrelay.webhooks_to_seal()").fetchall()
    assert (found, version) == (webhook, 1)
    seal(db, webhook, Kept(*kept))
    assert value(db, "select count(*) from pgrelay.webhooks_to_seal()") == 0
    assert value(db, "select count(*) from pgrelay.webhooks_to_seal(%s)", RING.ids[0]) == 0
    assert value(db, "select count(*) from pgrelay.webhooks_to_seal('00000000')") == 1
    db.execute('update pgrelay.webhook_configurations set headers = headers || \'{"X-New": "hush"}\'')
    assert value(db, "select count(*) from pgrelay.webhooks_to_seal()") == bool(columns)


def test_a_daemon_may_store_nothing_in_the_clear_and_nothing_over_a_later_change(
    db: psycopg.Connection,
) -> None:
    webhook = add_webhook(db)
    store = "select pgrelay.seal_webhook(%s, %s, %s, null, %s)"
    sealed = RING.seal(Kept(None, None, {"X": "1"}), webhook, lambda count: b"r" * count)
    for secret, headers in (("whsec_x", None), (None, None), (sealed.secret_key, '{"X": "hush"}')):
        with pytest.raises(psycopg.Error) as caught:
            db.execute(store, (webhook, 1, secret, headers))
        assert caught.value.sqlstate == "PGR26"
    assert value(db, store, webhook, 9, sealed.secret_key, None) is False


@pytest.mark.parametrize(
    "secret", ["sealed:", "sealed:0a1b2c3d:", "sealed:0A1B2C3D:" + "A" * 50, "sealed:0a1b2c3d:" + "!" * 50]
)
def test_what_only_looks_sealed_is_refused(db: psycopg.Connection, secret: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="secret_key: it must be whsec_"):
        add_webhook(db, secret_key=secret)


def test_looking_for_what_is_to_be_sealed_reads_no_webhook_that_is(db: psycopg.Connection) -> None:
    for _ in range(3):
        seal(db, add_webhook(db), Kept(None, None, None))
    with reads(db) as found:
        db.execute("select * from pgrelay.webhooks_to_seal()")
    assert [read[:2] for read in found] == [("webhook_configurations_unsealed_idx", True)]
