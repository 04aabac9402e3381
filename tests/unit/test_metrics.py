"""What is counted for which observation, and what is told before anything happened."""

import asyncio
import time

import pytest

from pgrelay.delivery import ErrorKind
from pgrelay.metrics.counted import Metrics
from pgrelay.metrics.figures import FIGURES
from pgrelay.observation import (
    AttemptFailed,
    CircuitOpened,
    Claimed,
    ConfigRejected,
    ConfigReloaded,
    DaemonDeclaredDead,
    DatabaseLost,
    DeadlinesFired,
    Delivered,
    DeliveriesExpired,
    DeliveryFailed,
    Expanded,
    HttpServing,
    LeaseLost,
    LeasesLapsed,
    NotificationsArriving,
    NotificationsMissing,
    Observation,
    UpkeepFailed,
    WebhookDisabled,
)
from support.metrics import Scrape


def after(*observations: Observation, webhooks: int = 10) -> Scrape:
    """What is told after these."""
    metrics = Metrics(name="one", version="1.2.3", webhooks=webhooks)
    for observation in observations:
        metrics.observe(observation)
    return told(metrics)


def told(metrics: Metrics) -> Scrape:
    body, content_type = metrics.render("text/plain")
    assert content_type.startswith("text/plain")
    return Scrape(body.decode())


def delivered(attempt: int = 1, webhook_id: int = 3, waited: float = 0.002) -> Delivered:
    return Delivered(1, 2, webhook_id, "a.b", "key", attempt, 200, 0.0123, waited)


def test_a_delivery_is_a_success_of_its_webhook_with_its_times():
    seen = after(delivered())
    assert seen.values("pgrelay_attempts_total") == {("", "succeeded"): 1}
    assert seen.values("pgrelay_webhook_attempts_total") == {("succeeded", "3"): 1}
    assert seen.value("pgrelay_request_duration_seconds_sum") == 0.0123
    assert seen.value("pgrelay_request_duration_seconds_bucket", le="0.01") == 0
    assert seen.value("pgrelay_request_duration_seconds_bucket", le="0.025") == 1
    assert seen.value("pgrelay_first_request_wait_seconds_bucket", le="0.0025") == 1


def test_only_first_requests_count_for_the_wait_and_all_others_are_retries():
    seen = after(delivered(1), delivered(2, waited=60.0), delivered(3, waited=120.0))
    assert seen.value("pgrelay_first_request_wait_seconds_count") == 1
    assert seen.value("pgrelay_retries_total") == 2


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_failure_is_counted_with_or_without_another_try(kind: ErrorKind):
    seen = after(
        AttemptFailed(1, 2, 3, "a.b", "key", 1, str(kind), "why", None, 1.0, 60.0),
        DeliveryFailed(1, 2, 3, "crm", "a.b", "key", 2, str(kind), "why", None, 1.0),
    )
    assert seen.values("pgrelay_attempts_total") == {(kind, "retry"): 1, (kind, "failed"): 1}
    assert seen.values("pgrelay_webhook_attempts_total") == {("retry", "3"): 1, ("failed", "3"): 1}
    assert seen.value("pgrelay_dead_letters_total") == 1


def test_what_a_dead_daemon_held_is_lapsed_and_a_dead_letter_where_it_was_the_last_attempt():
    seen = after(LeasesLapsed(daemon_id=7, pending=3, failed=2))
    assert seen.value("pgrelay_lapsed_deliveries_total") == 5
    assert seen.values("pgrelay_attempts_total") == {("lapsed", "retry"): 3, ("lapsed", "failed"): 2}
    assert seen.value("pgrelay_dead_letters_total") == 2


@pytest.mark.parametrize(
    ("observation", "name", "value"),
    [
        (Expanded(leased=2, pending=3), "expanded_deliveries_total", 5),
        (LeaseLost(1, 2, 3), "leases_lost_total", 1),
        (CircuitOpened(3, "crm", 5.0), "circuits_opened_total", 1),
        (WebhookDisabled(3, "crm"), "webhooks_disabled_total", 1),
        (DeliveriesExpired(4), "expired_deliveries_total", 4),
        (DaemonDeclaredDead(7), "declared_dead_total", 1),
        (DeadlinesFired(fired=4, dropped=1), "deadlines_fired_total", 4),
        (NotificationsArriving(), "notifications_arriving", 1),
        (ConfigReloaded((), ()), "config_last_reload_successful", 1),
        (ConfigRejected("line 3"), "config_last_reload_successful", 0),
    ],
)
def test_an_observation_moves_its_metric(observation: Observation, name: str, value: float):
    assert after(observation).value(f"pgrelay_{name}") == value


def test_notifications_that_stop_to_arrive_are_a_zero():
    seen = after(NotificationsArriving(), NotificationsMissing("a pooler", 0.1))
    assert seen.value("pgrelay_notifications_arriving") == 0


def test_leases_are_counted_by_where_they_came_from():
    seen = after(Expanded(leased=2, pending=3), Claimed(4))
    assert seen.values("pgrelay_claimed_deliveries_total") == {("new",): 2, ("pending",): 4}


def test_losses_and_failures_are_counted_by_connection_and_chore():
    seen = after(DatabaseLost("record", "gone", 1.0), UpkeepFailed("retention", "why"))
    assert seen.values("pgrelay_database_losses_total") == {("record",): 1}
    assert seen.values("pgrelay_upkeep_failures_total") == {("retention",): 1}


def test_an_observation_that_is_no_metric_is_ignored():
    assert after(HttpServing("http://127.0.0.1:1")).value("pgrelay_retries_total") == 0


def test_what_may_happen_one_day_is_zero_before_for_an_increase_has_to_be_seen():
    metrics = Metrics(name="one", version="1.2.3", webhooks=10)
    metrics.expect_chores(["retention"])
    seen = told(metrics)
    assert seen.value("pgrelay_attempts_total", outcome="failed", error_kind="tls") == 0
    assert seen.value("pgrelay_dead_letters_total") == 0
    assert seen.value("pgrelay_database_losses_total", connection="claim") == 0
    assert seen.value("pgrelay_upkeep_failures_total", chore="retention") == 0
    assert seen.value("pgrelay_daemon_info", name="one", version="1.2.3") == 1
    assert [name for name in seen.names if name.endswith("_created")] == []


def test_webhooks_beyond_the_limit_share_one_id_and_none_gives_way_to_another():
    seen = after(*(delivered(webhook_id=number) for number in (5, 6, 7, 5, 6, 7)), webhooks=1)
    assert seen.values("pgrelay_webhook_attempts_total") == {
        ("succeeded", "5"): 2,
        ("succeeded", "other"): 4,
    }


def test_figures_of_the_database_are_absent_until_they_are_read():
    metrics = Metrics(name="one", version="1.2.3", webhooks=10)
    assert told(metrics).value("pgrelay_queue_pending") is None
    metrics.figures.publish({figure.field: 7.0 for figure in FIGURES}, {3: 60.0})
    seen = told(metrics)
    assert {seen.value(figure.name) for figure in FIGURES} == {7.0}
    assert seen.values("pgrelay_webhook_overdue_seconds") == {("3",): 60.0}


def test_what_is_asked_for_at_a_scrape_is_as_it_is_then():
    metrics = Metrics(name="one", version="1.2.3", webhooks=10)
    under_way = [3]
    metrics.declared.ask(in_flight=lambda: under_way[0])
    assert told(metrics).value("pgrelay_requests_in_flight") == 3
    under_way[0] = 4
    assert told(metrics).value("pgrelay_requests_in_flight") == 4


async def test_a_loop_that_is_blocked_shows_as_lag(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pgrelay.metrics.counted._LAG_EVERY", 0.01)
    metrics = Metrics(name="one", version="1.2.3", webhooks=10)
    watching = asyncio.create_task(metrics.watch_loop())
    await asyncio.sleep(0)
    time.sleep(0.15)  # noqa: ASYNC251 - this is what must show
    while told(metrics).value("pgrelay_event_loop_lag_seconds_count") == 0:
        await asyncio.sleep(0.01)
    watching.cancel()
    assert told(metrics).value("pgrelay_event_loop_lag_seconds_bucket", le="0.1") == 0
