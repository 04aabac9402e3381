"""`pgrelay tokens` and `pgrelay api`, as a person uses them."""

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from support.command import Command
from support.database import Database, Role
from support.queue import value


@pytest.fixture
def pgrelay(tmp_path: Path, database: Database) -> Command:
    return Command(tmp_path, database.dsn)


def test_a_token_is_shown_once_listed_and_revoked(pgrelay: Command, db: psycopg.Connection):
    made = pgrelay(
        "tokens",
        "create",
        "--name",
        "portal",
        "--role",
        "tenant",
        "--company",
        "42",
        "--expires",
        "90d",
        "--json",
    )
    assert re.fullmatch(r"pgrelay_[A-Za-z0-9_-]{43}", made.data["token"])
    assert (
        value(db, "select digest = sha256(%s) from pgrelay.api_tokens", made.data["token"].encode()) is True
    )
    said = pgrelay("tokens", "create", "--name", "deploy", "--role", "admin")
    assert "Token: pgrelay_" in said.out
    listed = pgrelay("tokens", "list", "--json")
    assert [(row["name"], row["usable"]) for row in listed.data] == [("portal", True), ("deploy", True)]
    assert made.data["token"] not in listed.out
    assert pgrelay("tokens", "revoke", "1").code == 0
    again = pgrelay("tokens", "revoke", "1")
    assert (again.code, "no token 1, or it is revoked already" in again.err) == (1, True)
    shown = pgrelay("tokens", "list").out
    assert "revoked" in shown.splitlines()[1]


def test_a_role_and_a_company_that_do_not_fit_are_refused(pgrelay: Command):
    refused = pgrelay("tokens", "create", "--name", "x", "--role", "tenant")
    assert (refused.code, "--role tenant needs --company" in refused.err) == (2, True)
    refused = pgrelay("tokens", "create", "--name", "x", "--role", "admin", "--company", "1")
    assert (refused.code, "--company is for --role tenant alone" in refused.err) == (2, True)
    assert pgrelay("tokens", "create", "--name", " ", "--role", "admin").code == 1


def test_an_address_that_others_can_reach_is_not_served_before_there_is_a_token(pgrelay: Command):
    for listen in ("0.0.0.0:0", "[::]:0", "db.example.com:0"):
        refused = pgrelay("api", "--listen", listen)
        assert (refused.code, "there is no token yet" in refused.err) == (78, True), listen
    assert pgrelay("api", "--listen", "8060").code == 2


def test_a_daemon_at_such_an_address_does_not_start_before_there_is_a_token(
    pgrelay: Command, db: psycopg.Connection
):
    pgrelay.config.write_text("http:\n  listen: 0.0.0.0:0\n")
    db.execute("select pgrelay.adopt('production', 'keep')")
    refused = pgrelay("run", "--no-uvloop")
    assert refused.code == 78
    assert "0.0.0.0:0 is an address that others can reach, and there is no token yet" in refused.err
    assert "pgrelay tokens create" in refused.err
    assert value(db, "select count(*) from pgrelay.daemons") == 0
    assert "there is no token yet" in pgrelay("check").out
    pgrelay("tokens", "create", "--name", "deploy", "--role", "admin")
    assert "there is no token yet" not in pgrelay("check").out
    with pgrelay.start("run") as running:
        assert running.stdout is not None
        assert any('"http_serving"' in line or "http_serving" in line for line in running.stdout)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0


def test_the_api_is_served_until_it_is_told_to_stop(pgrelay: Command, db: psycopg.Connection):
    token = pgrelay("tokens", "create", "--name", "deploy", "--role", "admin", "--json").data["token"]
    with pgrelay.start("api", "--listen", "127.0.0.1:0") as running:
        assert running.stdout is not None
        url = json.loads(running.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        asked = urllib.request.Request(f"{url}/api/v1/token", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert json.load(answer)["name"] == "deploy"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/api/v1/token", timeout=10)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0


def test_a_role_that_may_not_act_for_tenants_is_told_so_at_the_start_and_by_check(
    tmp_path: Path, database: Database, db: psycopg.Connection, role: Callable[..., Role]
):
    made = role("api")
    db.execute(f"grant pgrelay_admin, pgrelay_reader to {made.name}".encode())
    pgrelay = Command(tmp_path, made.dsn)
    pgrelay.configure(('  #listen: ""', "  listen: 127.0.0.1:8060"))
    found = [row for row in pgrelay("check", "--json").data if row["subject"] == "api"]
    assert [(row["level"], row["mend"]) for row in found] == [
        ("info", f"grant pgrelay_tenant to {made.name};")
    ]
    with pgrelay.start("api", "--listen", "127.0.0.1:0") as running:
        assert running.stderr is not None
        assert "may not act for those who need pgrelay_tenant" in running.stderr.readline()
        assert f"grant pgrelay_tenant to {made.name};" in running.stderr.readline()
        assert running.stdout is not None
        assert "http_serving" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        running.wait(30)
