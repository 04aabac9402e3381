"""`secrets`, and the other commands where secrets are sealed: the key is where the command is, never in the database."""

import psycopg
import pytest

from pgrelay.sealing import Keyring, write_key
from support.command import Command
from support.factories import SECRET

OLD, NEW = write_key(b"o" * 32), write_key(b"n" * 32)
OLD_ID, NEW_ID = (Keyring(key).ids[0] for key in (OLD, NEW))
ADD = (
    "webhooks",
    "add",
    "--company",
    "1",
    "--name",
    "CRM",
    "--url",
    "https://example.com/hooks",
    "--event",
    "*",
)


@pytest.fixture
def table(app):
    """All that the table of webhooks holds, as text."""

    def read() -> str:
        with app.connect() as db:
            return str(
                db.execute("select w::text from pgrelay.webhook_configurations w order by id").fetchall()
            )

    return read


def add(pgrelay: Command, *words: str, **environ: str) -> dict:
    done = pgrelay(*ADD, "--json", *words, **environ)
    assert done.code == 0, done.err
    return done.data


def finding(pgrelay: Command, **environ: str) -> tuple[str, str]:
    (found,) = [row for row in pgrelay("check", "--json", **environ).data if row["subject"] == "secrets"]
    return found["level"], found["message"]


def test_a_key_is_made_and_serves(pgrelay, table):
    made = pgrelay("secrets", "key")
    assert (made.code, "PGRELAY_SECRETS_KEY" in made.err) == (0, True)
    assert add(pgrelay, PGRELAY_SECRETS_KEY=made.out.strip())["secret_key"].startswith("whsec_")
    assert "whsec_" not in table()


def test_with_a_key_a_command_seals_before_anything_reaches_the_database(pgrelay, table):
    key = {"PGRELAY_SECRETS_KEY": NEW}
    added = add(pgrelay, "--header", "X-Key: hush", "--secret", SECRET, **key)
    assert (added["secret_key"], added["secrets"], added["sealed_with"]) == (SECRET, "sealed", [NEW_ID])
    assert pgrelay("webhooks", "set", "1", "header.X-Other=hush", **key).code == 0
    rotated = pgrelay("webhooks", "rotate-secret", "1", "--json", **key).data["secret_key"]
    assert rotated.startswith("whsec_") and rotated != SECRET
    for private in ("whsec_", "hush"):
        assert private not in table()
    revealed = pgrelay("webhooks", "show", "1", "--reveal", "--json", **key).data
    assert (revealed["secret_key"], revealed["headers"]) == (rotated, {"X-Key": "hush", "X-Other": "hush"})
    shown = pgrelay("webhooks", "show", "1", **key)
    assert f"sealed with key {NEW_ID}" in shown.out and "whsec_***" in shown.out


def test_without_the_key_what_is_sealed_is_not_revealed(pgrelay):
    add(pgrelay, PGRELAY_SECRETS_KEY=NEW)
    for other in ({}, {"PGRELAY_SECRETS_KEY": OLD}):
        done = pgrelay("webhooks", "show", "1", "--reveal", **other)
        assert (done.code, done.out) == (1, "")
        assert f"the secrets of webhook 1 are sealed with key '{NEW_ID}'" in done.err


def test_what_could_not_work_is_refused_before_it_is_sealed(pgrelay, table):
    for words, problem in (
        (("--secret", "whsec_abc"), "it must be whsec_"),
        (("--header", "X-Key: hüsh"), "the value of X-Key has"),
    ):
        done = pgrelay(*ADD, *words, PGRELAY_SECRETS_KEY=NEW)
        assert (done.code, problem in done.err, "hüsh" in done.err) == (1, True, False)
    assert table() == "[]"


def test_a_webhook_added_without_the_key_where_secrets_are_sealed_waits_for_a_daemon(pgrelay, app):
    assert pgrelay("secrets", "seal", PGRELAY_SECRETS_KEY=NEW).code == 0
    done = pgrelay(*ADD)
    assert (done.code, "pgrelay webhooks show 1 --reveal" in done.err) == (0, True)
    assert pgrelay("webhooks", "show", "1", "--json").data["secrets"] == "awaited"
    assert "none yet: a running daemon makes it" in pgrelay("webhooks", "show", "1").out
    assert pgrelay("webhooks", "rotate-secret", "1", "--json").data["secret_key"] is None


def test_secrets_are_sealed_sealed_anew_and_kept_in_the_clear_again(pgrelay, table, app):
    add(pgrelay, "--header", "X-Key: hush", "--secret", SECRET)
    assert finding(pgrelay) == ("info", "webhooks' secrets are in the clear in the table, and in its backups")
    assert finding(pgrelay, PGRELAY_SECRETS_KEY=OLD)[0] == "warning"
    sealed = pgrelay("secrets", "seal", PGRELAY_SECRETS_KEY=OLD)
    assert sealed.out == f"Secrets of 1 webhook sealed with key {OLD_ID}.\n"
    assert SECRET not in table() and "hush" not in table()
    assert finding(pgrelay, PGRELAY_SECRETS_KEY=OLD) == ("ok", f"sealed with key {OLD_ID}")
    assert finding(pgrelay) == ("info", f"sealed with key {OLD_ID}, which is not here")
    assert finding(pgrelay, PGRELAY_SECRETS_KEY=NEW)[0] == "error"
    assert finding(pgrelay, PGRELAY_SECRETS_KEY=f"{NEW} {OLD}")[1].startswith(
        "some are sealed with an older key"
    )

    both = {"PGRELAY_SECRETS_KEY": f"{NEW},{OLD}"}
    assert pgrelay("secrets", "seal", "--json", **both).data == {"key_id": NEW_ID, "sealed": 1, "left": []}
    left = pgrelay("secrets", "seal", PGRELAY_SECRETS_KEY=OLD)
    assert (left.code, "Webhook 1 is left as it is" in left.err) == (1, True)

    refused = pgrelay("secrets", "unseal", "--yes", PGRELAY_SECRETS_KEY=OLD)
    assert refused.code == 1 and SECRET not in table()
    assert pgrelay("secrets", "unseal", PGRELAY_SECRETS_KEY=NEW).code == 1  # asks
    done = pgrelay("secrets", "unseal", "--yes", PGRELAY_SECRETS_KEY=NEW)
    assert (done.code, done.out) == (0, "Secrets of 1 webhook are in the clear.\n")
    assert SECRET in table() and "hush" in table() and "sealed:" not in table()
    assert pgrelay("webhooks", "rotate-secret", "1", "--json").data["secret_key"].startswith("whsec_")


def test_nothing_is_unsealed_under_a_running_daemon(pgrelay, app):
    with app.connect() as db:
        db.execute("select pgrelay.sign_on('relay-1', 'host', 1, '1.0', 60)")
    done = pgrelay("secrets", "unseal", "--yes", PGRELAY_SECRETS_KEY=NEW)
    assert (done.code, "still running: relay-1" in done.err) == (1, True)


def test_a_key_that_is_none_is_a_configuration_error_that_does_not_repeat_it(pgrelay):
    done = pgrelay("webhooks", "list", PGRELAY_SECRETS_KEY="hush!")
    assert done.code == 78
    assert done.err.startswith("pgrelay: PGRELAY_SECRETS_KEY: secrets.key: the value is not base64")
    assert "hush!" not in done.err
    assert pgrelay("secrets", "seal").code == 1


def test_signatures_are_verified_with_the_secret_of_a_sealed_webhook(pgrelay, tmp_path):
    from pgrelay.signing import classic_signature

    key = {"PGRELAY_SECRETS_KEY": NEW}
    add(pgrelay, "--secret", SECRET, **key)
    body = tmp_path / "body"
    body.write_bytes(b"{}")
    words = (
        "verify",
        "--webhook",
        "1",
        "--header",
        f"X-Webhook-Signature: {classic_signature(SECRET, b'{}')}",
        str(body),
    )
    done = pgrelay(*words, **key)
    assert done.code == 0, done.err


def test_a_member_of_the_admins_seals_and_unseals(pgrelay, app, tmp_path):
    from support.database import new_role

    add(pgrelay, "--secret", SECRET)
    with new_role(app, "alice", "") as role, psycopg.connect(app.dsn, autocommit=True) as db:
        db.execute(f"grant pgrelay_admin to {role.name}".encode())
        alice = Command(tmp_path, role.dsn)
        assert alice("secrets", "seal", PGRELAY_SECRETS_KEY=NEW).code == 0
        assert alice("secrets", "unseal", "--yes", PGRELAY_SECRETS_KEY=NEW).code == 0
