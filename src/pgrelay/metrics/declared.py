"""Every metric of one daemon by name: what it counts and by which labels. `counted` says when."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary

#: Seconds. Those of requests are the buckets of the view pgrelay.metrics, and two more up to the longest timeout.
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
WAIT_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Declared:
    """The metrics, made in `registry`, in the order in which they are read and documented."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.daemon = Info(
            "pgrelay_daemon", "1, with the name and the version of this daemon as labels", registry=registry
        )
        self._declare_deliveries()
        self._declare_leases()
        self._declare_surroundings()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"pgrelay_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"pgrelay_{name}", text, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"pgrelay_{name}", text, buckets=buckets, registry=self._registry)

    def _declare_deliveries(self) -> None:
        self.attempts = self._counter(
            "attempts_total",
            "Requests whose outcome is recorded: succeeded, retry (it will be tried again) or failed (the dead letter)",
            "outcome",
            "error_kind",
        )
        self.webhook_attempts = self._counter(
            "webhook_attempts_total",
            "The same by webhook; those beyond http.metrics_webhooks count as webhook_id other",
            "webhook_id",
            "outcome",
        )
        self.retries = self._counter("retries_total", "Requests that were not the first of their delivery")
        self.dead_letters = self._counter(
            "dead_letters_total", "Deliveries that used up their attempts, lapsed ones included"
        )
        self.expired = self._counter(
            "expired_deliveries_total",
            "Deliveries that ended undelivered, because their event outlived its valid_for",
        )
        self.circuits_opened = self._counter(
            "circuits_opened_total", "How often a webhook failed so often that it is only probed"
        )
        self.webhooks_disabled = self._counter(
            "webhooks_disabled_total", "Webhooks made inactive, because their receiver is gone"
        )
        self.waited = self._histogram(
            "first_request_wait_seconds",
            "From the capture of an event to the start of its first request; replays count with their age",
            WAIT_BUCKETS,
        )
        self.requests = self._histogram(
            "request_duration_seconds",
            "From the start of a request to its complete answer, or its failure",
            REQUEST_BUCKETS,
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests under way")
        self.in_flight_limit = self._gauge(
            "requests_in_flight_limit", "As many may be under way at once: daemon.max_in_flight"
        )
        self.outcomes_waiting = self._gauge("outcomes_waiting", "Outcomes that are not recorded yet")

    def _declare_leases(self) -> None:
        self.expanded = self._counter("expanded_deliveries_total", "Deliveries that new events became here")
        self.claimed = self._counter(
            "claimed_deliveries_total",
            "Deliveries leased by this daemon: new, as their event was expanded, or pending, out of the queue",
            "source",
        )
        self.held = self._gauge("deliveries_held", "Deliveries leased by this daemon, under way or not")
        self.lease_held = self._gauge(
            "lease_held", "1: the lease certainly holds; 0: no request may start until the database is back"
        )
        self.leases_lost = self._counter(
            "leases_lost_total", "Outcomes that came too late: another daemon owned the delivery"
        )
        self.lapsed = self._counter(
            "lapsed_deliveries_total", "Deliveries that this daemon took back from others, which had died"
        )
        self.declared_dead = self._counter(
            "declared_dead_total", "How often this daemon missed its own heartbeat for a whole lease"
        )

    def _declare_surroundings(self) -> None:
        self.round_trips = Summary(
            "pgrelay_database_round_trip_seconds",
            "Statements that the database answered, and how long it took, by the SQL function they call",
            ("verb",),
            registry=self._registry,
        )
        self.database_losses = self._counter(
            "database_losses_total", "How often a connection broke or could not be made", "connection"
        )
        self.notifications_arriving = self._gauge(
            "notifications_arriving", "1: LISTEN works; 0: this daemon polls"
        )
        self.deadlines_fired = self._counter("deadlines_fired_total", "Deadlines that fired")
        self.upkeep_failures = self._counter("upkeep_failures_total", "Periodic chores that failed", "chore")
        self.config_reloaded = self._gauge(
            "config_last_reload_successful",
            "0: the last reload was rejected, the configuration before it holds",
        )
        self.lag = self._histogram(
            "event_loop_lag_seconds",
            "How late the event loop comes back to a timer, measured four times a second",
            LAG_BUCKETS,
        )

    def ask(self, **gauges: Callable[[], float]) -> None:
        """Ask these for their value at each scrape, by the names they have here."""
        for name, value in gauges.items():
            getattr(self, name).set_function(value)
