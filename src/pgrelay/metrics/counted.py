"""Counts what happens in this process: a listener to observations, and hands for what is measured elsewhere.

A delivery costs two counters and two histograms, 2.6 µs together (Python 3.11). The children of labels are bound
beforehand: to look one up costs six times what counting does.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, Summary, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from pgrelay.delivery import ErrorKind
from pgrelay.metrics.declared import Declared
from pgrelay.metrics.figures import Figures
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
    LeaseLost,
    LeasesLapsed,
    NotificationsArriving,
    NotificationsMissing,
    Observation,
    UpkeepFailed,
    WebhookDisabled,
)

#: Webhooks beyond the limit share this id.
OTHERS = "other"
_LAG_EVERY = 0.25


class _Webhook(NamedTuple):
    """Attempts for one webhook, by outcome."""

    succeeded: Counter
    retry: Counter
    failed: Counter


class Metrics:
    """All metrics of one daemon. The first so many `webhooks` that it serves have figures of their own."""

    def __init__(self, *, name: str, version: str, webhooks: int) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = CollectorRegistry()
        self.figures = Figures()
        self.declared = declared = Declared(self.registry)
        self.registry.register(self.figures)
        ProcessCollector(registry=self.registry)
        declared.daemon.info({"name": name, "version": version})
        declared.config_reloaded.set(1)
        self._webhook_limit = webhooks
        self._webhooks: dict[int, _Webhook] = {}
        self._others = self._children(OTHERS)
        self._succeeded = declared.attempts.labels("succeeded", "")
        self._retry = {str(kind): declared.attempts.labels("retry", str(kind)) for kind in ErrorKind}
        self._failed = {str(kind): declared.attempts.labels("failed", str(kind)) for kind in ErrorKind}
        self._new, self._pending = declared.claimed.labels("new"), declared.claimed.labels("pending")
        self._round_trips: dict[str, Summary] = {}
        for connection in ("start", "claim", "record"):
            declared.database_losses.labels(
                connection
            )  # there, as 0, before the first: else its increase is not seen
        self._listeners: Mapping[type[Observation], Callable[[Any], None]] = {
            Delivered: self._delivered,
            AttemptFailed: self._attempt_failed,
            DeliveryFailed: self._delivery_failed,
            Expanded: self._expanded,
            Claimed: lambda seen: self._pending.inc(seen.leased),
            LeaseLost: lambda seen: declared.leases_lost.inc(),
            LeasesLapsed: self._leases_lapsed,
            DaemonDeclaredDead: lambda seen: declared.declared_dead.inc(),
            DatabaseLost: lambda seen: declared.database_losses.labels(seen.connection).inc(),
            CircuitOpened: lambda seen: declared.circuits_opened.inc(),
            WebhookDisabled: lambda seen: declared.webhooks_disabled.inc(),
            DeliveriesExpired: lambda seen: declared.expired.inc(seen.expired),
            DeadlinesFired: lambda seen: declared.deadlines_fired.inc(seen.fired),
            UpkeepFailed: lambda seen: declared.upkeep_failures.labels(seen.chore).inc(),
            NotificationsArriving: lambda seen: declared.notifications_arriving.set(1),
            NotificationsMissing: lambda seen: declared.notifications_arriving.set(0),
            ConfigReloaded: lambda seen: declared.config_reloaded.set(1),
            ConfigRejected: lambda seen: declared.config_reloaded.set(0),
        }

    def observe(self, observation: Observation) -> None:
        """Count one observation, if it is one that counts."""
        listener = self._listeners.get(type(observation))
        if listener is not None:
            listener(observation)

    def expect_chores(self, names: Iterable[str]) -> None:
        """These may fail one day."""
        for name in names:
            self.declared.upkeep_failures.labels(name)

    def round_trip(self, verb: str, seconds: float) -> None:
        """The database answered a statement."""
        child = self._round_trips.get(verb)
        if child is None:
            child = self._round_trips[verb] = self.declared.round_trips.labels(verb)
        child.observe(seconds)

    async def watch_loop(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(_LAG_EVERY)
            self.declared.lag.observe(max(0.0, time.monotonic() - began - _LAG_EVERY))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Everything, in the best format that the header Accept allows, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    # Deliveries --------------------------------------------------------------------------------------------------

    def _delivered(self, seen: Delivered) -> None:
        self._succeeded.inc()
        self._webhook(seen.webhook_id).succeeded.inc()
        self._request(seen.attempt, seen.waited, seen.duration)

    def _attempt_failed(self, seen: AttemptFailed) -> None:
        self._retry[seen.error_kind].inc()
        self._webhook(seen.webhook_id).retry.inc()
        self._request(seen.attempt, seen.waited, seen.duration)

    def _delivery_failed(self, seen: DeliveryFailed) -> None:
        self._failed[seen.error_kind].inc()
        self._webhook(seen.webhook_id).failed.inc()
        self.declared.dead_letters.inc()
        self._request(seen.attempts, seen.waited, seen.duration)

    def _request(self, attempt: int, waited: float, duration: float) -> None:
        self.declared.requests.observe(duration)
        if attempt == 1:
            self.declared.waited.observe(waited)
        else:
            self.declared.retries.inc()

    def _expanded(self, seen: Expanded) -> None:
        self.declared.expanded.inc(seen.leased + seen.pending)
        self._new.inc(seen.leased)

    def _leases_lapsed(self, seen: LeasesLapsed) -> None:
        self.declared.lapsed.inc(seen.pending + seen.failed)
        self._retry[ErrorKind.LAPSED].inc(seen.pending)
        self._failed[ErrorKind.LAPSED].inc(seen.failed)
        self.declared.dead_letters.inc(seen.failed)

    def _webhook(self, webhook_id: int) -> _Webhook:
        found = self._webhooks.get(webhook_id)
        if found is None:
            if len(self._webhooks) >= self._webhook_limit:
                return self._others
            found = self._webhooks[webhook_id] = self._children(str(webhook_id))
        return found

    def _children(self, webhook_id: str) -> _Webhook:
        """All three, so that each is there, as 0, from the beginning."""
        return _Webhook._make(
            self.declared.webhook_attempts.labels(webhook_id, outcome) for outcome in _Webhook._fields
        )
