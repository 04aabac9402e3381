"""The command line as a person uses it, in order, against the sample application: what it prints and how it exits."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgrelay.config.example import EXAMPLE_FILE
from support.database import Database
from support.receiver import Receiver, ok, status


class Shell:
    """Runs `pgrelay` with one configuration file, as a subprocess."""

    def __init__(self, config: Path) -> None:
        self.config = config

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pgrelay", "-c", str(self.config), *words]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __call__(self, *words: str, exit_code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=180)
        assert "Traceback" not in err + out
        assert process.returncode == exit_code, f"{words}: exit {process.returncode}\n{out}\n{err}"
        return out + err

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[str]]:
        """`pgrelay run`, ended by SIGTERM at the latest."""
        process = self.start("run")
        assert process.stdout is not None
        for line in process.stdout:
            if "notifications_arriving" in line:
                break
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=180)


def settings(dsn: str, *, sources: bool = True, **daemon: object) -> str:
    """A configuration file for loopback receivers, with the shipped example's sources."""
    example = Path(EXAMPLE_FILE).read_text()
    return "\n".join(
        [
            "environment: test",
            "database:",
            f"  dsn: {json.dumps(dsn)}",
            "delivery:",
            "  retry_schedule: [0.3, 0.3]",
            "network:",
            "  allow_http: true",
            "  allowed_networks: [127.0.0.0/8]",
            "daemon:",
            "  name: tour",
            *[f"  {key}: {value}" for key, value in daemon.items()],
            example[example.index("\nsources:") :] if sources else "",
        ]
    )


@pytest.fixture
def shell(app: Database, tmp_path: Path) -> Shell:
    with app.connect() as connection:
        connection.execute("drop schema if exists pgrelay cascade")
    config = tmp_path / "pgrelay.yaml"
    config.write_text(settings(app.dsn))
    return Shell(config)


def test_a_database_is_prepared_checked_and_left_again(shell: Shell, app: Database) -> None:
    assert "create table pgrelay.outbox" in shell("migrate", "--sql")
    assert "pgrelay apply" in shell("migrate")
    assert "pgrelay migrate" not in shell("migrate")
    plan = shell("apply", "--plan")
    assert "callback.overdue" in plan and "create or replace function" in plan
    with app.connect() as connection:
        assert connection.execute("select count(*) from pgrelay.sources").fetchone() == (0,)
    assert "2 sources watched" in shell("apply")
    assert "Nothing to do" in shell("apply")
    with app.connect() as connection:
        connection.execute(
            "alter table callback_requests disable trigger zz_pgrelay_callback_requests_update"
        )
    assert "callback_requests" in shell("check", exit_code=2)
    shell("apply")
    found = [
        json.loads(line.strip("[],"))
        for line in shell("check", "--json", exit_code=1).splitlines()
        if "{" in line
    ]
    assert [finding["subject"] for finding in found if finding["level"] not in ("ok", "info")] == ["daemons"]
    shell.config.write_text(settings(app.dsn, sources=False))
    assert "unwatch" in shell("apply", "--plan")
    shell("apply")
    with app.connect() as connection:
        assert connection.execute(
            "select count(*) from pg_trigger where tgname like 'zz_pgrelay%'"
        ).fetchone() == (0,)
    assert "drop schema" in shell("uninstall", "--sql")
    shell("uninstall", "--yes")
    with app.connect() as connection:
        assert connection.execute("select to_regnamespace('pgrelay')").fetchone() == (None,)


def test_what_is_wrong_is_said_in_one_line_with_its_mend_and_an_exit_code(
    shell: Shell, tmp_path: Path
) -> None:
    assert "pgrelay migrate" in shell("status", exit_code=3)
    shell.config.write_text("deliver: {}\n")
    assert "did you mean .delivery." in shell("check", exit_code=2).replace("'", ".")
    shell("status", exit_code=78)
    shell.config.write_text("database: {dsn: 'host=/nowhere dbname=x'}\n")
    shell("status", exit_code=69)
    shell("nonsense", exit_code=2)


def test_another_owners_source_is_left_alone(shell: Shell, app: Database) -> None:
    shell("migrate")
    shell("apply")
    shell.config.write_text(
        settings(app.dsn, sources=False).replace("environment:", "owner: other\nenvironment:")
    )
    shell("apply")
    with app.connect() as connection:
        assert connection.execute("select count(*) from pgrelay.sources").fetchone() == (2,)


@pytest.mark.slow
async def test_webhooks_and_deliveries_are_managed_from_the_command_line(shell: Shell, app: Database) -> None:
    shell("migrate")
    shell("apply")
    async with Receiver() as receiver:
        receiver.on("/good", ok())
        receiver.on("/bad", status(500))

        async def run(*words: str, exit_code: int = 0) -> str:
            return await asyncio.to_thread(shell, *words, exit_code=exit_code)

        added = await run("webhooks", "add", "--company", "1", "--name", "good", "--url", receiver.url("/good"),
                          "--event", "callback.*", "--header", "X-Key=hidden")  # fmt: skip
        assert "whsec_" in added
        await run(
            "webhooks",
            "add",
            "--company",
            "1",
            "--name",
            "bad",
            "--url",
            receiver.url("/bad"),
            "--event",
            "callback.created",
        )
        secret = next(word for word in added.split() if word.startswith("whsec_"))
        shown = await run("webhooks", "show", "1")
        assert secret not in shown and "hidden" not in shown
        assert secret in await run("webhooks", "show", "1", "--reveal")
        with shell.daemon() as daemon:
            assert "200" in await run("webhooks", "test", "1")
            with app.connect() as connection:
                connection.execute(
                    "insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'A', '1')"
                )
                await receiver.wait_for(3, path="/bad", within=60)
                while connection.execute(
                    "select count(*) from pgrelay.deliveries where status = 'failed'"
                ).fetchone() == (0,):
                    await asyncio.sleep(0.02)
                (failed,) = connection.execute(
                    "select id from pgrelay.deliveries where status = 'failed'"
                ).fetchone() or (0,)
            assert "failed" in await run("deliveries", "list", "--status", "failed")
            story = await run("deliveries", "show", str(failed))
            assert "500" in story and "callback.created" in story
            receiver.on("/bad", ok())
            await run("deliveries", "retry", str(failed), "--yes")
            await receiver.wait_for(4, path="/bad", within=60)
            assert "1" in await run("replay", "--webhook", "1", "--since", "2000-01-01", "--dry-run")
            await run("replay", "--webhook", "1", "--since", "2000-01-01", "--yes")
            await receiver.wait_for(3, path="/good", within=60)
            assert "good" in await run("status")
            await run("webhooks", "pause", "1")
            await run("webhooks", "resume", "1")
            await run("webhooks", "set", "1", "timeout_seconds=5")
            assert "whsec_" in await run("webhooks", "rotate-secret", "1")
            await run("webhooks", "disable", "2")
            await run("webhooks", "enable", "2")
            await run("webhooks", "delete", "2", "--yes")
            assert "bad" not in await run("webhooks", "list")
            await run("recapture")
            daemon.send_signal(signal.SIGHUP)
            assert "tour" in await run("status", "--json")
        assert daemon.returncode == 0
        seen = [exchange for exchange in receiver.seen if exchange.path == "/good"]
        assert all(request.header("X-Key") == "hidden" for request in seen)


def test_a_copied_database_is_refused_until_it_is_adopted(shell: Shell, app: Database) -> None:
    shell("migrate")
    shell.config.write_text(settings(app.dsn).replace("environment: test", "environment: staging"))
    said = shell("run", exit_code=78)
    assert "pgrelay adopt" in said and "staging" in said
    assert "--keep-pending" in shell("adopt", exit_code=2)
    shell("adopt", "--cancel-pending", "--yes")
    assert "Nothing to do" in shell("adopt")
