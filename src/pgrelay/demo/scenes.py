"""The scenes in which something happens. A scene's docstring is what the audience reads: its title, and why it matters.

Each waits for what has to come of it, so a promise that is not kept ends the demonstration there.
"""

import asyncio

from pgrelay.demo.lines import milliseconds, percentile
from pgrelay.demo.opening import hears
from pgrelay.demo.relay import LEASE
from pgrelay.demo.stage import CRM, MAIL, PORT, Stage

_INSERT = """
insert into callback_requests (company_id, branch_id, service_id, customer_name, customer_phone, priority)
values (%s, %s, %s, %s, '+49 30 12345', %s) returning id
"""
_BULK = """
insert into callback_requests (company_id, branch_id, service_id, customer_name, customer_phone)
select 1, 1, 1, 'Customer ' || n, '+49 30 ' || n from generate_series(1, %s) as n
"""
_BULK_SIZE = 300
_KILL_AFTER = 100
_QUICK_COMMITS = 200
_DEADLINE = 2


async def a_life(stage: Stage) -> None:
    """The life of a request
    Plain SQL in, signed HTTP requests out: the event is written in the application's own transaction.
    mail.example answers 500, and gets it again a second later: same key, same body."""
    ada = await stage.write(
        "INSERT callback_requests #{id} (Zoe Adler, urgent)", _INSERT, 1, 1, 1, "Zoe Adler", "urgent"
    )
    request = ada["id"]
    await stage.arrival("callback.created", request, CRM)
    await stage.pause()
    for change, values in (
        ("assigned", "status = 'assigned', assigned_to = 1, assigned_at = now()"),
        ("contacted", "status = 'contacted', contacted_at = now()"),
        ("completed", "status = 'completed', completed_at = now()"),
    ):
        await stage.write(f"UPDATE callback_requests #{{id}} {change}", _update(values), request)
        await stage.arrival(f"callback.{change}", request, CRM)
        await stage.pause()
    await stage.arrival("callback.completed", request, MAIL)
    await stage.pause()


async def a_rollback(stage: Stage) -> None:
    """What did not happen is not told
    An event exists if, and only if, its transaction committed."""
    await stage.application.rows("begin")
    row = await stage.write(
        "BEGIN; INSERT callback_requests #{id} (Max Moeller)", _INSERT, 1, 1, 1, "Max Moeller", "normal"
    )
    await stage.write("ROLLBACK", "rollback")
    undone = str(row["id"])
    row = await stage.write(
        "INSERT callback_requests #{id} (Mia Sommer)", _INSERT, 1, 2, 2, "Mia Sommer", "normal"
    )
    await stage.arrival("callback.created", row["id"], CRM)
    events = await stage.owner.value("select count(*) from pgrelay.outbox where resource_id = %s", undone)
    stage.expect(events == 0, f"the insert of #{undone} was rolled back, and yet it has {events} events")
    stage.screen.line("ok", f"#{undone} has no row, no event, and nobody heard of it")
    await stage.pause()


async def a_dead_letter(stage: Stage) -> None:
    """Tenants are apart, and so are their troubles
    Company 2's webhook is down. Company 1 does not notice, and never sees company 2's events. After the
    third attempt the deliveries are failed, and kept: the dead letter."""
    stranger = await stage.write(
        "INSERT callback_requests #{id} (Hanna Berg, of company 2)", _INSERT, 2, 3, 3, "Hanna Berg", "high"
    )
    await stage.write(
        "UPDATE callback_requests #{id} assigned",
        _update("status = 'assigned', assigned_to = 3"),
        stranger["id"],
    )
    await stage.pause(0.3)
    row = await stage.write(
        "INSERT callback_requests #{id} (Tom Faber, of company 1)", _INSERT, 1, 1, 2, "Tom Faber", "normal"
    )
    await stage.arrival("callback.created", row["id"], CRM)
    await stage.until("two deliveries to fail", lambda: len(_given_up(stage)) == 2)
    await stage.pause()
    port = stage.hooks[PORT]
    await port.open()
    stage.screen.line("recv", f"{PORT} is repaired; its deliveries get another round of attempts:")
    query = (
        "select pgrelay.retry_delivery(id) from pgrelay.deliveries",
        f"where webhook_id = {port.id} and status = 'failed';",
    )
    stage.screen.sql(*query)
    await stage.owner.rows(" ".join(query))
    for event in ("created", "assigned"):
        await stage.arrival(f"callback.{event}", stranger["id"], PORT)
    await stage.pause()


def _given_up(stage: Stage) -> list[int]:
    return [
        failure.id for failure in stage.feed.failures if failure.hook == PORT and failure.status == "failed"
    ]


async def time_passes(stage: Stage) -> None:
    """Time passes, and nobody writes
    A deadline in a row fires by itself, once, and only if the row still waits. Meanwhile: an escalation in
    its own table, a cancellation, an expiry."""
    insert = _INSERT.replace("priority)", "priority, expires_at)").replace(
        "%s) ret", f"%s, now() + interval '{_DEADLINE} s') ret"
    )
    waiting = await stage.write(
        f"INSERT callback_requests #{{id}} (Lea Kurz), expires in {_DEADLINE} s",
        insert,
        1,
        1,
        1,
        "Lea Kurz",
        "high",
    )
    others = [
        await stage.write(f"INSERT callback_requests #{{id}} ({name})", _INSERT, 1, 2, 1, name, "normal")
        for name in ("Jan Vogt", "Ida Roth")
    ]
    await stage.pause()
    await stage.write(
        "INSERT callback_escalations #{callback_request_id} to level 1",
        "insert into callback_escalations (callback_request_id, level, reason, escalated_from, escalated_to)"
        " values (%s, 1, 'nobody called', 1, 2) returning callback_request_id",
        others[0]["id"],
    )
    cancelled = _update("status = 'cancelled', cancelled_at = now(), cancellation_reason = 'solved'")
    await stage.write("UPDATE callback_requests #{id} cancelled", cancelled, others[0]["id"])
    await stage.write(
        "UPDATE callback_requests #{id} expired", _update("status = 'expired'"), others[1]["id"]
    )
    await stage.arrival("callback.escalated", others[0]["id"], CRM)
    await stage.arrival("callback.expired", others[1]["id"], CRM)
    await stage.arrival("callback.overdue", waiting["id"], CRM)
    await stage.arrival("callback.cancelled", others[0]["id"], MAIL)
    await stage.pause()


async def kill_nine(stage: Stage) -> None:
    """kill -9
    The daemon dies in the middle of its work. The application notices nothing, and nothing is lost: what was
    under way is sent again once the dead daemon's lease has ended, so it may arrive twice, with the same key."""
    screen, crm = stage.screen, stage.hooks[CRM]
    before = set(stage.feed.accepted(CRM))
    crm.delay = 0.1

    def arrived() -> int:
        return len(stage.feed.accepted(CRM).keys() - before)

    with stage.feed.silent():
        await stage.write(f"INSERT {_BULK_SIZE} callback_requests in one statement", _BULK, _BULK_SIZE)
        await stage.until("the first of many to arrive", lambda: arrived() >= _KILL_AFTER)
        killed = stage.relay.pid
        stage.relay.kill()
        crm.delay = 0.0
        held = await stage.owner.value(
            "select count(*) from pgrelay.delivery_queue where leased_by is not null"
        )
        screen.line(
            "kill", f"process {killed}, after {arrived()} of {_BULK_SIZE} arrived, with {held} in its hands"
        )
        await stage.write(
            "INSERT callback_requests #{id} (Eva Lang), as ever", _INSERT, 1, 1, 1, "Eva Lang", "high"
        )
        await stage.pause()
        stage.relay.start()
        await hears(stage)
        screen.line("", f"it takes over what the other held when that one's lease of {LEASE} s has ended …")
        total = _BULK_SIZE + 1
        await stage.until(f"all {total} to arrive", lambda: arrived() == total)
    keys = [a.key for a in stage.feed.arrivals if a.hook == CRM and a.accepted and a.key not in before]
    screen.line(
        "ok", f"all {total} arrived; {len(keys) - total} of them twice, with the same key and the same body"
    )
    await stage.pause()


async def how_quick(stage: Stage) -> None:
    """How quick
    One commit every hundredth of a second, each waiting for the disk (fsync), each a request of its own."""
    written: set[str] = set()
    with stage.feed.silent():
        for number in range(_QUICK_COMMITS):
            row = await stage.application.one(_INSERT, 1, 1, 1, f"Customer {number}", "normal")
            assert row is not None
            written.add(str(row["id"]))
            await asyncio.sleep(0.01)

        def quick() -> list[float]:
            arrivals = (a for a in stage.feed.accepted(CRM).values() if a.resource_id in written)
            return [seconds for a in arrivals if (seconds := stage.feed.latency(a)) is not None]

        await stage.until("all of them to arrive", lambda: len(quick()) == len(written))
    stage.latencies = quick()
    shown = ", ".join(
        f"p{percent} {milliseconds(percentile(stage.latencies, percent))}" for percent in (50, 99)
    )
    stage.screen.line("ok", f"{_QUICK_COMMITS} commits, from commit to the receiver: {shown}")
    await stage.pause()


def _update(values: str) -> str:
    return f"update callback_requests set {values}, updated_at = now() where id = %s returning id"
