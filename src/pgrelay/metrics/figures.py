"""Figures of the database as a whole, as they were last read of pgrelay.health.

Every daemon of a database serves the same ones: take their maximum, not their sum.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Figure(NamedTuple):
    """A gauge, or a counter if its name ends as theirs do, and the figure it shows."""

    name: str
    field: str
    help: str


FIGURES = (
    Figure("pgrelay_daemons_alive", "daemons_alive", "Daemons whose lease holds"),
    Figure("pgrelay_queue_events", "events_waiting", "Committed events not yet turned into deliveries"),
    Figure(
        "pgrelay_queue_oldest_event_seconds",
        "oldest_event_seconds",
        "How long the oldest of these events has waited; 0 if there is none",
    ),
    Figure("pgrelay_queue_pending", "deliveries_pending", "Deliveries that wait, retries included"),
    Figure("pgrelay_queue_in_flight", "deliveries_in_flight", "Deliveries that daemons have leased"),
    Figure(
        "pgrelay_queue_oldest_untried_seconds",
        "oldest_untried_seconds",
        "How long the oldest delivery has waited for its first attempt; paused and held webhooks left out",
    ),
    Figure(
        "pgrelay_queue_overdue_seconds",
        "oldest_due_seconds",
        "How late the most overdue delivery is, first attempts and retries alike; paused and held webhooks left out",
    ),
    Figure("pgrelay_failed_last_day", "failed_last_day", "Deliveries that became dead letters within a day"),
    Figure(
        "pgrelay_capture_errors",
        "capture_errors_open",
        "Changes whose event could not be made, and that nobody has recaptured",
    ),
    Figure("pgrelay_deadlines_overdue", "deadlines_overdue", "Deadlines that passed and have not fired"),
    Figure(
        "pgrelay_deadlines_overdue_seconds",
        "oldest_deadline_seconds",
        "How long ago the first of these deadlines passed",
    ),
    Figure("pgrelay_webhooks_paused", "webhooks_paused", "Active webhooks that are paused"),
    Figure(
        "pgrelay_circuits_open", "circuits_open", "Webhooks that failed so often that they are only probed"
    ),
    Figure(
        "pgrelay_webhooks_held", "webhooks_held", "Webhooks whose receiver asked to be left alone for a while"
    ),
    Figure(
        "pgrelay_webhooks_disabled_last_week",
        "disabled_last_week",
        "Webhooks that pgrelay made inactive within seven days, and that still are",
    ),
    Figure("pgrelay_replays_running", "replays_running", "Replays that have not queued all of their events"),
    Figure("pgrelay_replay_events_left", "replay_events_left", "Events that these have still to queue"),
    Figure(
        "pgrelay_filter_doubts_total",
        "filter_doubts",
        "Times that an event was owed because its webhook's filter could not be judged",
    ),
    Figure(
        "pgrelay_notification_queue_usage_ratio",
        "notification_queue_usage",
        "How full the server's notification queue is, 0 to 1",
    ),
)


class Figures(Collector):
    """What was last read; nothing after a reading that failed, for old figures would look like new ones."""

    def __init__(self) -> None:
        self._last: Mapping[str, float] | None = None
        self._overdue: Mapping[int, float] = {}

    def publish(self, figures: Mapping[str, float] | None, overdue: Mapping[int, float]) -> None:
        """Show these from now on; `overdue` by webhook."""
        self._last = figures
        self._overdue = overdue

    def collect(self) -> Iterator[Metric]:
        for figure in FIGURES:
            kind = CounterMetricFamily if figure.name.endswith("_total") else GaugeMetricFamily
            family = kind(figure.name, figure.help)
            if self._last is not None:
                family.add_metric([], self._last[figure.field])
            yield family
        late = GaugeMetricFamily(
            "pgrelay_webhook_overdue_seconds",
            "How late the most overdue delivery of a webhook is; only of webhooks that are late by a second or more",
            labels=["webhook_id"],
        )
        for webhook_id, seconds in self._overdue.items():
            late.add_metric([str(webhook_id)], seconds)
        yield late
