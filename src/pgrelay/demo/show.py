"""`pgrelay demo`: the scenes in their order, and what is left to play with afterwards.

Nothing outlives it, whatever ends it: files lie in the embedded server's directory, which its guardian
removes, and the daemon dies with this process.
"""

import asyncio
import inspect
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from pgrelay.demo.closing import the_numbers
from pgrelay.demo.cluster import Cluster
from pgrelay.demo.opening import an_application, one_daemon, pgrelay_moves_in, webhooks_are_rows
from pgrelay.demo.scenes import a_dead_letter, a_life, a_rollback, how_quick, kill_nine, time_passes
from pgrelay.demo.screen import Screen
from pgrelay.demo.stage import DATABASE, OWNER, Stage, set_up

Scene = Callable[[Stage], Awaitable[None]]

SCENES: Sequence[Scene] = (
    an_application,
    pgrelay_moves_in,
    webhooks_are_rows,
    one_daemon,
    a_life,
    a_rollback,
    a_dead_letter,
    time_passes,
    kill_nine,
    how_quick,
    the_numbers,
)

#: Commit times, because from them to arrivals is measured. Without parallel plans and JIT, which tables that were
#: never analyzed invite, and which cost more than they save on so few rows.
_SETTINGS = {
    "track_commit_timestamp": "on",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "max_connections": "40",
}
#: These end it as Ctrl-C does, but there is nobody to talk to.
_QUIETLY = (signal.SIGTERM, signal.SIGHUP)

_TO_TRY = (
    "insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'You', '+1 555 0100');",
    "update callback_requests set status = 'completed' where customer_name = 'You';",
    "insert into callback_requests (company_id, customer_name, customer_phone, expires_at)",
    "  values (2, 'Late', '+1 555 0101', now() + interval '5 s');",
    "select pgrelay.test_webhook(id) from pgrelay.webhook_configurations;",
    "select * from pgrelay.webhook_logs order by id desc limit 1 \\gx",
)


def main(*, keep: bool, fast: bool = False, color: bool | None = None) -> int:
    """The whole of it; the exit code. `fast` leaves out the pauses for reading.

    Raises Refused without a Postgres, NotAsPromised when a promise is not kept, KeyboardInterrupt after Ctrl-C.
    """
    screen = Screen.of_terminal(color=color)
    try:
        screen.print(
            "pgrelay: rows written to Postgres become signed webhook deliveries. Half a minute, live.", "bold"
        )
        screen.scene(
            "A Postgres of its own",
            "Made for this demonstration and removed with it; nothing else is touched.",
        )
        began = time.monotonic()
        with Cluster.start(settings=_SETTINGS) as cluster:
            binaries, seconds = cluster.binaries, time.monotonic() - began
            screen.line(
                "server", f"PostgreSQL {binaries.version} of {binaries.bin_dir}, started in {seconds:.1f} s"
            )
            screen.line("", f"its files: {cluster.directory}")
            # held back until _show() runs: what Ctrl-C interrupts while asyncio.run() begins stays unclosed
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            ended_by = asyncio.run(_show(cluster, screen, keep=keep, fast=fast))
    except KeyboardInterrupt:
        screen.print("\nInterrupted. Nothing is left behind: no process, no file.")
        raise
    if ended_by in _QUIETLY:
        return 128 + ended_by
    screen.print("\nIt is all gone again: no process, no file.")
    if not keep:
        screen.print("To keep it running and play with it: pgrelay demo --keep, or make demo ARGS=--keep")
    return 0


async def _show(cluster: Cluster, screen: Screen, *, keep: bool, fast: bool) -> int:
    """All scenes; the signal that ended them, 0 if none did. KeyboardInterrupt comes from asyncio.run()."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    loop, ended_by = asyncio.get_running_loop(), 0
    playing = asyncio.current_task()
    assert playing is not None

    def end(number: int) -> None:
        nonlocal ended_by
        ended_by = number
        playing.cancel()

    for number in _QUIETLY:
        loop.add_signal_handler(number, end, number)
    try:
        async with set_up(cluster, screen, fast=fast) as stage:
            for scene in SCENES:
                title, _, about = (inspect.getdoc(scene) or scene.__name__).partition("\n")
                screen.scene(title, about)
                await scene(stage)
            if keep:
                loop.add_signal_handler(signal.SIGINT, end, signal.SIGINT)
                _invite(stage)
                while True:
                    await stage.feed.look_again()
            await stage.relay.stop()
    except asyncio.CancelledError:
        if not ended_by:
            raise
        playing.uncancel()
    return ended_by


def _invite(stage: Stage) -> None:
    """What there is to play with, for --keep."""
    screen, cluster, config = stage.screen, stage.cluster, stage.relay.config
    screen.scene(
        "Yours",
        "All of it stays, and what arrives is shown here, until you press Ctrl-C. In another terminal:",
    )
    psql = "psql" if cluster.psql is None or shutil.which("psql") else str(cluster.psql)
    pgrelay = "pgrelay" if shutil.which("pgrelay") else f"{sys.executable} -m pgrelay"
    screen.print(f"   {psql} {shlex.quote(cluster.dsn(DATABASE, user=OWNER))}")
    screen.print()
    for line in _TO_TRY:
        screen.print(f"   {line}")
    screen.print()
    screen.print(f"   export PGRELAY_CONFIG={config}")
    screen.print(f"   {pgrelay} status        (and webhooks list, deliveries list, check …)")
    screen.print(f"   tail -f {stage.relay.log}")
    screen.print()
