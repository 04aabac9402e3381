"""The parts that deliver, wired to each other: made when the database has admitted us, run until told to stop."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pgrelay
from pgrelay import policies
from pgrelay.config.settings import Settings
from pgrelay.db.contact import Contact
from pgrelay.db.listener import Listener
from pgrelay.db.store import Due, Store
from pgrelay.deliverer import Deliverer
from pgrelay.delivery import Outcome, Verdict
from pgrelay.errors import PgrelayError
from pgrelay.metrics.counted import Metrics
from pgrelay.observation import (
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    Delivered,
    NotificationsArriving,
    NotificationsMissing,
    Observation,
)
from pgrelay.pacing import Pace
from pgrelay.recorder import Recorder
from pgrelay.sealing import Keyring
from pgrelay.systemd import Notifier
from pgrelay.telling import told
from pgrelay.transport import Transport
from pgrelay.upkeep import (
    CALLED,
    Chore,
    ExpireDeliveries,
    FeedReplays,
    FireDeadlines,
    FoldMetrics,
    Glance,
    Heartbeat,
    ReadFigures,
    ReleaseLapsed,
    Retain,
    SealSecrets,
    WatchCapture,
    lease_clock,
    run_forever,
)
from pgrelay.watchman import Watchman

#: Outcomes get this long to reach the database when the daemon stops; after it their leases lapse.
_FLUSH_TIMEOUT = 10.0


class Stores(NamedTuple):
    """A connection for each who must not wait for the others."""

    claims: Store
    records: Store
    chores: Store
    beats: Store
    figures: Store


class Engine:
    """`sign_on()` before `run()`, which returns when everything is drained and recorded.

    `tells` says whether anybody hears of such observations, so that the most frequent need not be made. `fail` is told
    of what only a person can mend; it is expected to stop the daemon.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        transport: Transport,
        contact: Contact,
        keys: Keyring,
        *,
        metrics: Metrics | None,
        notifier: Notifier,
        observe: Callable[[Observation], None],
        tells: Callable[[type[Observation]], bool],
        fail: Callable[[PgrelayError], None],
    ) -> None:
        self._settings = settings
        self._stores = stores
        self._keys = keys
        self._metrics = metrics
        self._notifier = notifier
        self._observe = observe
        self._tells = tells
        self._fail = fail
        self._daemon_id = 0
        self._hears = False
        self._told_deaf = False
        #: Chores that come when called, by name.
        self._called = {name: asyncio.Event() for name in CALLED}
        self._heartbeat = Heartbeat(
            self._beat,
            self.sign_on,
            lease=settings.daemon.lease,
            observe=observe,
            identity=self._identity,
        )
        self._recorder = Recorder(
            stores.records.record,
            daemon=settings.daemon.name,
            capacity=settings.daemon.max_buffered_outcomes,
            on_recorded=self._recorded,
            observe=observe,
        )
        self._deliverer = Deliverer(
            stores.claims,
            Pace(
                asyncio.get_running_loop().time(),
                poll_interval=settings.daemon.poll_interval,
                fallback_poll_interval=settings.daemon.fallback_poll_interval,
                watched=True,
            ),
            policies.policy(settings),
            send=transport.send,
            record=self._recorder.put,
            identity=self._identity,
            may_start=lambda: self.holds_lease and not self._recorder.full,
            on_withdrawn=self._called["leases"].set,
            observe=observe,
        )
        self._watchman = Watchman(
            stores.chores,
            policies.circuit(settings),
            heed=self._deliverer.heed,
            holds_any=lambda: self._deliverer.held > 0,
            name_of=self._deliverer.name_of,
            observe=observe,
        )
        self._listener = Listener(
            lambda: contact.open("listen"),
            ring=stores.beats.ring,
            on_note=lambda word: self._deliverer.notified(settle=word == "settle"),
            on_state=self._listening,
            proof_interval=20.0,
        )

    @property
    def holds_lease(self) -> bool:
        """Whether requests may start: nobody takes our deliveries for left behind."""
        return self._heartbeat.holds(lease_clock())

    @property
    def status(self) -> str:
        """What it is at, in a line."""
        mode = "listening" if self._hears else "polling"
        return (
            f"{mode}, {self._deliverer.in_flight} requests under way, {self._deliverer.held} deliveries held"
        )

    def adopt(self, settings: Settings) -> None:
        """Go by settings that were read again."""
        self._settings = settings
        self._deliverer.adopt(policies.policy(settings))
        self._watchman.limits = policies.circuit(settings)

    async def sign_on(self) -> None:
        """Register under a new id; what an earlier one had leased is no longer ours."""
        sent = lease_clock()
        self._daemon_id = await self._stores.beats.sign_on(
            name=self._settings.daemon.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=pgrelay.__version__,
            lease=self._settings.daemon.lease,
        )
        self._heartbeat.began(sent)
        self._deliverer.abandon()

    async def run(self, stopping: asyncio.Event, reason: Callable[[], str]) -> None:
        """Deliver until `stopping` is set, then stop in order."""
        self._observe(DaemonStarted(self._daemon_id, self._settings.daemon.name, pgrelay.__version__))
        on_call, background = self._on_call(), self._background()
        if self._metrics is not None:
            self._declare(self._metrics, [self._heartbeat, *on_call, *background])
        async with asyncio.TaskGroup() as group:

            def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
                return group.create_task(self._guarded(work))

            tasks = [
                start(run_forever(chore, self._observe, self._called.get(chore.name)))
                for chore in (*on_call, *background)
            ]
            tasks += [start(part.run()) for part in (self._listener, self._watchman)]
            if self._metrics is not None:
                tasks.append(start(self._metrics.watch_loop()))
            kept = [
                start(run_forever(self._heartbeat, self._observe)),
                start(self._recorder.run()),
                start(self._watchdog()),
            ]
            delivering = start(self._deliverer.run())
            self._notifier.ready()
            await stopping.wait()

            patience = self._settings.daemon.drain_timeout
            self._notifier.stopping()
            self._notifier.extend_timeout(patience + _FLUSH_TIMEOUT)
            self._observe(DaemonStopping(reason(), self._deliverer.in_flight))
            for task in tasks:
                task.cancel()
            given_back = await self._deliverer.stop(patience)
            delivering.cancel()
            with contextlib.suppress(TimeoutError, PgrelayError):
                async with asyncio.timeout(_FLUSH_TIMEOUT):
                    await self._recorder.flush()
                    # what a receiver asked for meanwhile holds for the other daemons
                    await self._watchman.tell_the_rest()
            for task in kept:
                task.cancel()
        with contextlib.suppress(PgrelayError):
            await self._stores.beats.sign_off(self._daemon_id)
        self._observe(DaemonStopped(given_back))

    # Chores --------------------------------------------------------------------------------------------------------

    def _on_call(self) -> list[Chore]:
        """What comes when something is due, or is called by `_background`'s glance."""
        chores, observe, deliverer = self._stores.chores, self._observe, self._deliverer
        return [
            FireDeadlines(chores.fire_deadlines, wake=deliverer.notified, observe=observe),
            ReleaseLapsed(
                chores.release_lapsed,
                chores.cancel_orphans,
                every=self._settings.daemon.lease / 5,
                may_judge=lambda: self._heartbeat.judges(lease_clock()),
                wake=deliverer.look_everywhere,
                observe=observe,
            ),
            ExpireDeliveries(chores.expire_deliveries, observe=observe),
            FeedReplays(chores.feed_replays, wake=deliverer.look_everywhere, observe=observe),
            FoldMetrics(chores.fold_metrics),
        ]

    def _background(self) -> list[Chore]:
        """What comes at intervals."""
        chores, figures, observe = self._stores.chores, self._stores.figures, self._observe
        found: list[Chore] = [
            Glance(
                self._glance,
                poll_interval=self._settings.daemon.poll_interval,
                poll=self._deliverer.poll,
                calls={name: event.set for name, event in self._called.items()},
            ),
            Retain(
                chores.rotate,
                chores.prune,
                chores.sweep,
                retention=lambda: policies.retention(self._settings),
            ),
            WatchCapture(chores.open_capture_errors, observe=observe),
        ]
        if self._keys:
            verbs = chores.seal_with, chores.webhooks_to_seal, chores.seal_webhook
            found.append(SealSecrets(*verbs, keys=self._keys, observe=observe))
        if self._metrics is not None:
            limit = self._settings.http.metrics_webhooks
            found.append(
                ReadFigures(
                    figures.health, lambda: figures.overdue_webhooks(limit), self._metrics.figures.publish
                )
            )
        return found

    async def _glance(self) -> Due:
        if self._deliverer.held:
            self._watchman.stir()
        due = await self._stores.claims.glance()
        self._deliverer.share_with(due.daemons)
        return due

    def _declare(self, metrics: Metrics, chores: list[Chore]) -> None:
        metrics.expect_chores(chore.name for chore in chores)
        metrics.declared.ask(
            in_flight=lambda: self._deliverer.in_flight,
            in_flight_limit=lambda: self._settings.daemon.max_in_flight,
            held=lambda: self._deliverer.held,
            outcomes_waiting=lambda: self._recorder.waiting,
            lease_held=lambda: self.holds_lease,
        )

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A part that meets what only a person can mend stops the daemon in good order."""
        try:
            await work
        except PgrelayError as error:
            self._fail(error)

    # What the parts ask and say ------------------------------------------------------------------------------------

    def _identity(self) -> int:
        return self._daemon_id

    async def _beat(self) -> bool:
        return await self._stores.beats.heartbeat(
            self._daemon_id, lease=self._settings.daemon.lease, listening=self._hears, note=self.status
        )

    def _listening(self, hears: bool, why: str) -> None:
        if hears == self._hears and (hears or self._told_deaf):
            return
        self._hears = hears
        self._told_deaf = not hears
        self._deliverer.listening(hears)
        if hears:
            self._observe(NotificationsArriving())
        else:
            self._observe(NotificationsMissing(why, self._settings.daemon.fallback_poll_interval))

    def _recorded(self, outcome: Outcome, fenced: bool) -> None:
        self._deliverer.recorded(outcome, fenced=fenced)
        if fenced:
            return  # LeaseLost tells it; what became of the delivery, somebody else knows
        self._watchman.note(outcome)
        if outcome.verdict is Verdict.SUCCEEDED and self._metrics is None and not self._tells(Delivered):
            return  # most of all observations, and nobody would hear of it
        failed = outcome.verdict is Verdict.FAILED
        self._observe(told(outcome, self._deliverer.name_of(outcome.claim.webhook_id) if failed else ""))

    async def _watchdog(self) -> None:
        """Tell systemd that the event loop turns. It does not depend on the database, which may be away for long."""
        interval = self._notifier.watchdog_interval or 10.0
        while True:
            self._notifier.watchdog()
            self._notifier.status(self.status)
            await asyncio.sleep(min(interval, 10.0))
