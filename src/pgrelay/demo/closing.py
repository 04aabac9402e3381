"""The last scene: what the tables say about it all, the queries that ask them, and whether it is as it should be."""

from pgrelay.demo.lines import milliseconds, percentile
from pgrelay.demo.stage import Stage

#: Each is shown as it is run, ready to be pasted.
QUERIES = (
    (
        "select name, company_id, attempts, successful_deliveries, failed_deliveries, pending_deliveries",
        "from pgrelay.webhook_stats order by webhook_id;",
    ),
    ("select status, count(*) from pgrelay.deliveries group by status;",),
    (
        "select coalesce(error_kind, 'success') as outcome, status_code, count(*)",
        "from pgrelay.delivery_attempts group by 1, 2 order by 3 desc;",
    ),
    (
        "select event_type, attempt, status_code, error_kind, duration_ms, idempotency_key",
        "from pgrelay.webhook_logs where webhook_name = 'mail.example' order by id;",
    ),
)


async def the_numbers(stage: Stage) -> None:
    """The numbers
    Everything is a table: what the daemon knows, SQL can see."""
    await stage.until_true(
        "the last outcome to be recorded",
        "select events_waiting + deliveries_pending + deliveries_in_flight = 0 from pgrelay.health",
    )
    for lines in QUERIES:
        stage.screen.sql(*lines)
        stage.screen.table(await stage.owner.rows(" ".join(lines)))
        await stage.pause(0.3)
    figures = [f"p{percent} {milliseconds(percentile(stage.latencies, percent))}" for percent in (50, 90, 99)]
    slowest = milliseconds(max(stage.latencies))
    stage.screen.line(
        "recv", f"from commit to arrival, by the receiver: {', '.join(figures)}, slowest {slowest}"
    )
    await _as_promised(stage)


async def _as_promised(stage: Stage) -> None:
    """What has to hold in the end, by the tables and by the receivers. NotAsPromised otherwise."""
    unfinished = await stage.owner.rows(
        "select id, status from pgrelay.deliveries where status <> 'succeeded'"
    )
    stage.expect(not unfinished, f"not every delivery succeeded in the end: {unfinished}")
    errors = await stage.owner.rows("select source, message from pgrelay.capture_errors")
    stage.expect(not errors, f"events could not be captured: {errors}")
    for hook in stage.hooks.values():
        accepted = set(stage.feed.accepted(hook.name))
        owed = {
            row["idempotency_key"]
            for row in await stage.owner.rows(
                "select idempotency_key from pgrelay.outbox join pgrelay.webhook_configurations w using (company_id)"
                " where w.id = %s and w.subscribed_events && pgrelay.event_patterns(event_type)",
                hook.id,
            )
        }
        lacking, more = len(owed - accepted), len(accepted - owed)
        stage.expect(
            accepted == owed,
            f"{hook.name}: {lacking} events did not arrive, {more} arrived that are not its own",
        )
    kinds = {event.event_type for event in stage.feed.events.values()}
    stage.expect(len(kinds) == 8, f"only these of the eight events occurred: {', '.join(sorted(kinds))}")
    total = len(stage.feed.events)
    made = sum(len(stage.feed.accepted(name)) for name in stage.hooks)
    stage.screen.line(
        "ok",
        f"{total} events of 8 types, {made} deliveries owed and {made} made, every signature right",
    )
