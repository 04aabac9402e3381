"""The first scenes: an application, pgrelay beside it, three webhooks, one daemon.

A scene's docstring is what the audience reads: its title, and why it matters.
"""

from pathlib import Path

from pgrelay.demo.hooks import Hook
from pgrelay.demo.stage import APPLICATION, CRM, MAIL, PORT, Stage

SAMPLE_APPLICATION = Path(__file__).with_name("sample.sql")


async def an_application(stage: Stage) -> None:
    """An application
    A CRM with customers who want to be called back. It knows nothing of pgrelay: its role may write its own
    tables and has no right to anything else."""
    await stage.owner.rows(SAMPLE_APPLICATION.read_text("utf-8"))
    await stage.owner.rows(
        f"grant select, insert, update, delete on all tables in schema public to {APPLICATION}"
    )
    tables = await stage.owner.rows("select tablename from pg_tables where schemaname = 'public' order by 1")
    names = [row["tablename"] for row in tables]
    stage.screen.line("app", f"{len(names)} tables: {', '.join(names)}")
    await stage.pause()


async def pgrelay_moves_in(stage: Stage) -> None:
    """pgrelay moves in
    Plain SQL in a schema of its own, installed by the database's owner: no extension, no superuser, and no
    change to the application."""
    for command in ("migrate", "apply"):
        stage.screen.line("shell", f"pgrelay {command:<9} {await stage.relay.command(command)}")
    rules = await stage.owner.rows("select distinct event_type from pgrelay.event_rules order by 1")
    stage.expect(len(rules) == 8, f"the sources of the example have {len(rules)} event types, not 8")
    stage.feed.start()
    names = [row["event_type"].removeprefix("callback.") for row in rules]
    stage.screen.line("", f"{len(names)} events, callback.*: {', '.join(names)}")
    await stage.pause()


async def webhooks_are_rows(stage: Stage) -> None:
    """Webhooks are rows
    Two belong to company 1, one to company 2. Each gets a secret of its own; the receivers behind them run
    here and verify both signatures of every request (Standard Webhooks, and X-Webhook-Signature)."""
    arrived = stage.feed.arrived
    hooks = (
        Hook(CRM, "1", "{callback.*}", tell=arrived),
        Hook(MAIL, "1", "{callback.completed,callback.cancelled}", tell=arrived, fails_first=True),
        Hook(PORT, "2", "{callback.*}", tell=arrived),
    )
    stage.hooks.update({hook.name: hook for hook in hooks})
    values = [f"({hook.company_id}, '{hook.name}', '{hook.url}', '{hook.events}')" for hook in hooks]
    query = (
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events) values",
        *(f"  {value}," for value in values[:-1]),
        f"  {values[-1]}",
        "returning id, name, secret_key;",
    )
    stage.screen.sql(*query)
    for row in await stage.owner.rows(" ".join(query)):
        hook = stage.hooks[row["name"]]
        hook.id, hook.secret = row["id"], row["secret_key"]
    for name in (CRM, MAIL):
        await stage.hooks[name].open()
    stage.screen.line("recv", f"{CRM} works; {MAIL} answers 500 to every first attempt; {PORT} is down")
    await stage.pause()


async def one_daemon(stage: Stage) -> None:
    """One daemon
    It sleeps until Postgres notifies it. Retries are set to come after 1 s and 1 s here, not 60 s and 60 s."""
    stage.relay.start()
    await hears(stage)
    await stage.pause()


async def hears(stage: Stage) -> None:
    """Wait until the daemon is there and hears notifications, and tell."""
    await stage.until_true(
        "the daemon to listen",
        "select exists (select from pgrelay.daemons where pid = %s and ended_at is null and listening)",
        stage.relay.pid,
    )
    stage.screen.line("daemon", f"pgrelay run, process {stage.relay.pid}: listening")
