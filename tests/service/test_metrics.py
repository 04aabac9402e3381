"""What /metrics says of a daemon that delivered, failed and tried again."""

import asyncio
from collections.abc import Callable

import aiohttp
import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics

from pgrelay.delivery import ErrorKind
from pgrelay.observation import AttemptFailed, Delivered, DeliveryFailed, HttpServing
from pgrelay.upkeep import ReadFigures
from support.daemon import PATIENCE, Running, daemon
from support.database import Database
from support.factories import emit
from support.metrics import Scrape, scrape
from support.queue import add_webhook
from support.receiver import Receiver, hang, in_turn, ok, status

LISTENING = {"http.listen": "127.0.0.1:0"}


def url(one: Running) -> str:
    (serving,) = one.of(HttpServing)
    return serving.url


async def scraped(one: Running, where: Callable[[Scrape], object]) -> Scrape:
    """A scrape for which `where` holds: what was counted last may be counted a moment after it was seen."""
    async with asyncio.timeout(PATIENCE):
        while not where(seen := await scrape(url(one))):
            await asyncio.sleep(0.02)
        return seen


async def test_attempts_are_counted_by_outcome_and_kind_of_error_and_by_webhook(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    good = add_webhook(db, url=receiver.url("/good"))
    poor = add_webhook(db, url=receiver.url("/poor"))
    dead = add_webhook(db, url=receiver.url("/dead"), max_retry_attempts=2)
    receiver.on("/poor", in_turn(status(503), ok()))
    receiver.on("/dead", status(500))
    async with daemon(database.dsn, LISTENING) as one:
        emit(db)
        await one.seen(Delivered, 2)
        await one.seen(DeliveryFailed)
        seen = await scrape(url(one))
    assert seen.values("pgrelay_attempts_total") == {
        ("", "succeeded"): 2,
        ("status", "retry"): 2,
        ("status", "failed"): 1,
    }
    assert seen.values("pgrelay_webhook_attempts_total") == {
        ("succeeded", str(good)): 1,
        ("retry", str(poor)): 1,
        ("succeeded", str(poor)): 1,
        ("retry", str(dead)): 1,
        ("failed", str(dead)): 1,
    }
    assert seen.value("pgrelay_retries_total") == 2
    assert seen.value("pgrelay_dead_letters_total") == 1
    assert seen.value("pgrelay_request_duration_seconds_count") == 5
    assert seen.value("pgrelay_first_request_wait_seconds_count") == 3
    assert seen.value("pgrelay_expanded_deliveries_total") == 3
    assert seen.values("pgrelay_claimed_deliveries_total") == {("new",): 3, ("pending",): 2}
    assert seen.values("pgrelay_daemon_info") == {("one", "0.1.0"): 1}


async def test_what_a_delivery_waited_holds_the_time_it_waited_here_for_a_slot(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"))
    release = asyncio.Event()

    async def slow(exchange) -> None:
        await release.wait()
        await exchange.answer(200)

    receiver.on("/hook", in_turn(slow, ok()))
    async with daemon(database.dsn, {**LISTENING, "delivery.max_concurrency": 1}) as one:
        emit(db, 2)
        await receiver.wait_for(1)
        await asyncio.sleep(0.3)
        release.set()
        first, second = await one.seen(Delivered, 2)
    assert first.waited < second.waited
    assert second.waited >= 0.3


async def test_webhooks_beyond_the_limit_share_one_label_and_every_label_is_of_a_known_kind(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    for _ in range(3):
        add_webhook(db, url=receiver.url("/hook"))
    async with daemon(database.dsn, {**LISTENING, "http.metrics_webhooks": 1}) as one:
        emit(db, 2)
        await one.seen(Delivered, 6)
        seen = await scrape(url(one))
    counted = seen.values("pgrelay_webhook_attempts_total")
    assert counted[("succeeded", "other")] == 4
    assert sorted(counted.values()) == [2, 4]
    labels = seen.labels()
    assert labels["error_kind"] == {"", *map(str, ErrorKind)}
    assert labels.keys() == {
        "name",
        "version",
        "webhook_id",
        "outcome",
        "error_kind",
        "source",
        "verb",
        "le",
        "connection",
        "chore",
    }


async def test_requests_under_way_and_the_queue_are_told(
    database: Database, db: psycopg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ReadFigures, "every", 0.05)
    monkeypatch.setattr(ReadFigures, "share", 1.0)
    add_webhook(db, url=receiver.url("/hook"))
    add_webhook(db, url=receiver.url("/hook"), paused=True)
    receiver.on("/hook", hang())
    db.execute("insert into pgrelay.capture_errors (source) values ('a'), ('b')")
    keys = {
        **LISTENING,
        "daemon.drain_timeout": 0.1,
        "daemon.max_in_flight": 2,
        "delivery.max_concurrency": 2,
    }
    emit(db, 3)
    async with daemon(database.dsn, keys) as one:
        await receiver.wait_for(2)
        seen = await scraped(
            one,
            lambda seen: seen.value("pgrelay_queue_pending") and seen.value("pgrelay_notifications_arriving"),
        )
        assert {
            name: seen.value(f"pgrelay_{name}")
            for name in (
                "requests_in_flight", "requests_in_flight_limit", "deliveries_held", "outcomes_waiting", "lease_held",
                "daemons_alive", "queue_events", "queue_pending", "queue_in_flight", "capture_errors",
                "webhooks_paused", "deadlines_overdue", "config_last_reload_successful",
            )
        } == {
            "requests_in_flight": 2, "requests_in_flight_limit": 2, "deliveries_held": 3, "outcomes_waiting": 0,
            "lease_held": 1, "daemons_alive": 1, "queue_events": 0, "queue_pending": 3, "queue_in_flight": 3,
            "capture_errors": 2, "webhooks_paused": 1, "deadlines_overdue": 0, "config_last_reload_successful": 1,
        }  # fmt: skip
        assert {("expand",), ("heartbeat",), ("sign_on",)} <= seen.values(
            "pgrelay_database_round_trip_seconds_count"
        ).keys()


async def test_a_webhook_that_is_behind_is_named_with_how_late_it_is(
    database: Database, db: psycopg.Connection, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ReadFigures, "every", 0.05)
    monkeypatch.setattr(ReadFigures, "share", 1.0)
    slow = add_webhook(db, url=receiver.url("/slow"))
    add_webhook(db, url=receiver.url("/good"))
    add_webhook(db, url=receiver.url("/slow"), paused=True)
    receiver.on("/slow", hang())
    keys = {**LISTENING, "daemon.drain_timeout": 0.1, "delivery.max_concurrency": 1}
    emit(db, 9)
    async with daemon(database.dsn, keys) as one:
        await receiver.wait_for(10)
        db.execute("update pgrelay.delivery_queue set next_attempt_at = now() - interval '1 minute'"
                   " where status = 'pending'")  # fmt: skip
        seen = await scraped(one, lambda seen: seen.values("pgrelay_webhook_overdue_seconds"))
    ((labels, late),) = seen.values("pgrelay_webhook_overdue_seconds").items()
    assert labels == (str(slow),)
    assert late == pytest.approx(60.0, abs=20.0)


async def test_figures_that_could_not_be_read_anew_are_not_told_any_more(
    database: Database, db: psycopg.Connection
):
    async with daemon(database.dsn, LISTENING) as one:
        await scraped(one, lambda seen: seen.value("pgrelay_daemons_alive") == 1)
        one.daemon._metrics.figures.publish(None, {})
        seen = await scrape(url(one))
        assert seen.value("pgrelay_daemons_alive") is None
        assert seen.value("pgrelay_lease_held") == 1


async def test_who_asks_for_open_metrics_gets_them(database: Database):
    async with daemon(database.dsn, LISTENING) as one, aiohttp.ClientSession() as client:
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with client.get(f"{url(one)}/metrics", headers=headers) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            families = list(open_metrics(await answer.text()))
    assert "pgrelay_attempts" in {family.name for family in families}


async def test_nothing_is_counted_and_no_connection_made_where_nobody_listens(
    database: Database, db: psycopg.Connection
):
    async with daemon(database.dsn) as one:
        assert one.daemon._metrics is None
        names = db.execute(
            "select application_name from pg_stat_activity where application_name like 'pgrelay %' and datname = current_database()"
        ).fetchall()
    assert ("pgrelay metrics",) not in names


async def test_an_attempt_that_will_be_made_again_says_how_long_its_event_waited(
    database: Database, db: psycopg.Connection, receiver: Receiver
):
    add_webhook(db, url=receiver.url("/hook"), max_retry_attempts=2)
    receiver.on("/hook", status(500))
    async with daemon(database.dsn, {"delivery.retry_schedule": (0.2,)}) as one:
        emit(db)
        (first,) = await one.seen(AttemptFailed)
        (last,) = await one.seen(DeliveryFailed)
    assert 0.0 < first.waited < 0.2 <= last.waited
    assert last.duration > 0.0
