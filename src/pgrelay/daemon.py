"""The daemon: builds every part from the settings, starts and stops them in order, owns signals and reload."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pgrelay
from pgrelay import policies
from pgrelay.api.app import SERVICES, api_app, make_app
from pgrelay.api.server import serving
from pgrelay.config.settings import Settings, changed_keys, reloaded
from pgrelay.db.contact import Contact
from pgrelay.db.listener import Listener
from pgrelay.db.store import Due, Store
from pgrelay.deliverer import Deliverer
from pgrelay.delivery import Outcome, Verdict
from pgrelay.errors import ConfigError, PgrelayError
from pgrelay.logs import configure, is_told, log_observation, set_level
from pgrelay.metrics.counted import Metrics
from pgrelay.observation import (
    ConfigRejected,
    ConfigReloaded,
    DaemonStarted,
    DaemonStopped,
    DaemonStopping,
    Delivered,
    HttpServing,
    NotificationsArriving,
    NotificationsMissing,
    Observation,
)
from pgrelay.pacing import Pace
from pgrelay.recorder import Recorder
from pgrelay.sealing import Keyring
from pgrelay.supervisor import parent_gone
from pgrelay.systemd import Notifier
from pgrelay.telling import told
from pgrelay.transport import Proxy, Transport
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

_MAX_BACKOFF = 5.0
#: Outcomes get this long to reach the database when the daemon stops; after it their leases lapse.
_FLUSH_TIMEOUT = 10.0


async def serve(settings: Settings, reload: Callable[[], Settings], *, is_child: bool = False) -> int:
    """Run until SIGTERM or SIGINT; the exit code. `reload` reads the configuration again, or raises ConfigError.

    A child of a `supervisor` ends with it, too.

    Raises what a person must mend before anything may be sent: a schema that does not fit, a database that is a copy,
    a missing privilege. A database that is away, or a standby, is waited for.
    """
    configure(settings.log.level, settings.log.format, sys.stdout)
    daemon = Daemon(settings, reload, observe=log_observation, tells=is_told)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    parent = loop.create_task(_end_with_parent(daemon)) if is_child else None
    try:
        await daemon.run()
    finally:
        if parent is not None:
            parent.cancel()
    return 0


async def _end_with_parent(daemon: "Daemon") -> None:
    await parent_gone()
    daemon.stop("the parent process is gone")


class Daemon:
    """One daemon process. `run()` returns after `stop()`, when everything is drained and recorded.

    `tells` says whether anybody hears of such observations, so that the most frequent need not be made.
    """

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings],
        *,
        observe: Callable[[Observation], None],
        tells: Callable[[type[Observation]], bool] = lambda _: True,
    ) -> None:
        self._settings = settings
        self._read_settings = reload
        self._metrics = _metrics(settings)
        self._observe = observe if self._metrics is None else _both(observe, self._metrics.observe)
        self._tells = tells
        self._notifier = Notifier()
        self._stop_reason: str | None = None
        self._stopping = asyncio.Event()
        self._daemon_id = 0
        self._hears = False
        self._told_deaf = False
        self._encoding = "UTF8"
        self._deliverer: Deliverer | None = None
        self._watchman: Watchman | None = None
        self._transport: Transport | None = None
        self._tls = policies.tls(settings.network)
        self._keys = Keyring(settings.secrets.key)
        self._heartbeat: Heartbeat | None = None
        #: Why nothing can be delivered yet.
        self._waiting_for = "starting"
        self._contact = Contact(
            settings.database,
            settings.environment,
            self._keys.ids,
            observe=self._observe,
            waiting=self._wait_for,
            stopping=self._stopping,
        )
        self._fatal: PgrelayError | None = None

    def stop(self, reason: str = "asked to") -> None:
        """Begin to stop."""
        self._stop_reason = self._stop_reason or reason
        self._stopping.set()

    def reload(self) -> None:
        """Read the configuration again; a bad one is told and changes nothing."""
        self._notifier.reloading()
        try:
            read = self._read_settings()
            tls = policies.tls(read.network)
        except ConfigError as error:
            self._observe(ConfigRejected(str(error)))
        else:
            changed = changed_keys(self._settings, read)
            self._settings = reloaded(self._settings, read)
            # the files may hold something else under the same names: a renewed certificate
            self._tls = self._tls if tls == self._tls else tls
            set_level(self._settings.log.level)
            if self._deliverer is not None and self._transport is not None:
                self._deliverer.adopt(policies.policy(self._settings))
                if self._watchman is not None:
                    self._watchman.limits = policies.circuit(self._settings)
                self._transport.adopt(
                    policies.addresses(self._settings),
                    self._settings.delivery.max_response_bytes,
                    tls=self._tls.context,
                    proxy=Proxy.of(self._settings.network.proxy),
                )
            self._observe(
                ConfigReloaded(
                    tuple(key.name for key in changed if key.reloadable),
                    tuple(key.name for key in changed if not key.reloadable),
                )
            )
        self._notifier.ready()

    # Start and stop ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Wait for the database, deliver until stopped, stop in order."""
        async with contextlib.AsyncExitStack() as stack:
            await self._serve_http(stack)
            encoding = await self._contact.first(self._settings.http.listen)
            if encoding is None:
                return
            self._encoding = encoding
            # objects of start-up live as long as the process: do not look at them again in every collection
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            await self._run(stack)
        if self._fatal is not None:
            raise self._fatal

    async def _run(self, stack: contextlib.AsyncExitStack) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        metrics = self._metrics
        claims, records, chores, beats, figures = [
            Store(
                await stack.enter_async_context(self._contact.link(purpose)),
                self._encoding,
                self._keys,
                on_round_trip=None if metrics is None else metrics.round_trip,
            )
            for purpose in ("claim", "record", "upkeep", "heartbeat", "metrics")
        ]
        transport = self._transport = Transport(
            policies.addresses(settings),
            settings.delivery.max_response_bytes,
            tls=self._tls.context,
            proxy=Proxy.of(settings.network.proxy),
        )
        await transport.start()
        stack.push_async_callback(transport.close)

        async def sign_on() -> None:
            sent = lease_clock()
            self._daemon_id = await beats.sign_on(
                name=settings.daemon.name,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=pgrelay.__version__,
                lease=settings.daemon.lease,
            )
            heartbeat.began(sent)
            if self._deliverer is not None:
                self._deliverer.abandon()

        async def beat() -> bool:
            return await beats.heartbeat(
                self._daemon_id, lease=settings.daemon.lease, listening=self._hears, note=self._status_line()
            )

        heartbeat = self._heartbeat = Heartbeat(
            beat,
            sign_on,
            lease=settings.daemon.lease,
            observe=self._observe,
            identity=lambda: self._daemon_id,
        )
        recorder = Recorder(
            records.record,
            daemon=settings.daemon.name,
            capacity=settings.daemon.max_buffered_outcomes,
            on_recorded=self._recorded,
            observe=self._observe,
        )
        #: Chores that come when called, by name.
        called = {name: asyncio.Event() for name in CALLED}
        deliverer = self._deliverer = Deliverer(
            claims,
            Pace(
                loop.time(),
                poll_interval=settings.daemon.poll_interval,
                fallback_poll_interval=settings.daemon.fallback_poll_interval,
                watched=True,
            ),
            policies.policy(settings),
            send=transport.send,
            record=recorder.put,
            identity=lambda: self._daemon_id,
            may_start=lambda: heartbeat.holds(lease_clock()) and not recorder.full,
            on_withdrawn=called["leases"].set,
            observe=self._observe,
        )
        watchman = self._watchman = Watchman(
            chores,
            policies.circuit(settings),
            heed=deliverer.heed,
            holds_any=lambda: deliverer.held > 0,
            name_of=deliverer.name_of,
            observe=self._observe,
        )
        listener = Listener(
            lambda: self._contact.open("listen"),
            ring=beats.ring,
            on_note=lambda word: deliverer.notified(settle=word == "settle"),
            on_state=self._listening,
            proof_interval=20.0,
        )
        await self._contact.until_possible(sign_on)
        if self._stopping.is_set():
            return
        self._observe(DaemonStarted(self._daemon_id, settings.daemon.name, pgrelay.__version__))

        on_call: list[Chore] = [
            FireDeadlines(chores.fire_deadlines, wake=deliverer.notified, observe=self._observe),
            ReleaseLapsed(
                chores.release_lapsed,
                chores.cancel_orphans,
                every=settings.daemon.lease / 5,
                may_judge=lambda: heartbeat.judges(lease_clock()),
                wake=deliverer.look_everywhere,
                observe=self._observe,
            ),
            ExpireDeliveries(chores.expire_deliveries, observe=self._observe),
            FeedReplays(chores.feed_replays, wake=deliverer.look_everywhere, observe=self._observe),
            FoldMetrics(chores.fold_metrics),
        ]

        async def glance() -> Due:
            if deliverer.held:
                watchman.stir()
            return await claims.glance()

        background: list[Chore] = [
            Glance(
                glance,
                poll_interval=settings.daemon.poll_interval,
                poll=deliverer.poll,
                calls={name: event.set for name, event in called.items()},
            ),
            Retain(chores.rotate, chores.prune, retention=lambda: policies.retention(self._settings)),
            WatchCapture(chores.open_capture_errors, observe=self._observe),
        ]
        if self._keys:
            verbs = chores.seal_with, chores.webhooks_to_seal, chores.seal_webhook
            background.append(SealSecrets(*verbs, keys=self._keys, observe=self._observe))
        if metrics is not None:
            limit = settings.http.metrics_webhooks
            background.append(
                ReadFigures(figures.health, lambda: figures.overdue_webhooks(limit), metrics.figures.publish)
            )
            metrics.expect_chores(chore.name for chore in (heartbeat, *on_call, *background))
            metrics.declared.ask(
                in_flight=lambda: deliverer.in_flight,
                in_flight_limit=lambda: settings.daemon.max_in_flight,
                held=lambda: deliverer.held,
                outcomes_waiting=lambda: recorder.waiting,
                lease_held=lambda: heartbeat.holds(lease_clock()),
            )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._guarded(run_forever(chore, self._observe, called.get(chore.name))))
                for chore in (*on_call, *background)
            ]
            tasks += [group.create_task(self._guarded(part.run())) for part in (listener, watchman)]
            if metrics is not None:
                tasks.append(group.create_task(metrics.watch_loop()))
            kept = [
                group.create_task(self._guarded(run_forever(heartbeat, self._observe))),
                group.create_task(self._guarded(recorder.run())),
                group.create_task(self._watchdog()),
            ]
            delivering = group.create_task(self._guarded(deliverer.run()))
            self._notifier.ready()
            await self._stopping.wait()

            self._notifier.stopping()
            self._notifier.extend_timeout(self._settings.daemon.drain_timeout + _FLUSH_TIMEOUT)
            self._observe(DaemonStopping(self._stop_reason or "", deliverer.in_flight))
            for task in tasks:
                task.cancel()
            given_back = await deliverer.stop(self._settings.daemon.drain_timeout)
            delivering.cancel()
            with contextlib.suppress(TimeoutError, PgrelayError):
                async with asyncio.timeout(_FLUSH_TIMEOUT):
                    await recorder.flush()
                    # what a receiver asked for meanwhile holds for the other daemons
                    await watchman.tell_the_rest()
            for task in kept:
                task.cancel()
        with contextlib.suppress(PgrelayError):
            await beats.sign_off(self._daemon_id)
        self._observe(DaemonStopped(given_back))

    async def _serve_http(self, stack: contextlib.AsyncExitStack) -> None:
        """Answer from now on, where http.listen says so: also that the database is still waited for."""
        listen = self._settings.http.listen
        if listen is not None and self._metrics is not None:
            from pgrelay.doctor.trial import (
                try_out,  # they cost memory, as templates do, where nothing is served
            )
            from pgrelay.page.site import add_page

            api = api_app(lambda: self._contact.open_admitted("api"), self._observe, self._keys)
            app = make_app(unready=self._unready, render_metrics=self._metrics.render, api=api)
            add_page(app, api[SERVICES], lambda webhook: try_out(self._settings, webhook))
            self._observe(HttpServing(await stack.enter_async_context(serving(app, listen))))

    def _unready(self) -> str | None:
        """Why nothing is delivered now, None if nothing stands in the way."""
        if self._stopping.is_set():
            return f"stopping: {self._stop_reason}"
        if self._heartbeat is None or self._waiting_for:
            return self._waiting_for or "starting"
        if not self._heartbeat.holds(lease_clock()):
            return "the lease is not held: no heartbeat has reached the database for most of daemon.lease"
        return None

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A part that meets what only a person can mend stops the daemon in good order; it is raised at the end."""
        try:
            await work
        except PgrelayError as error:
            self._fatal = self._fatal or error
            self.stop(error.message)

    def _wait_for(self, reason: str) -> None:
        self._waiting_for = reason
        if reason:
            self._notifier.status(reason)
            self._notifier.extend_timeout(30.0)

    # What the parts say --------------------------------------------------------------------------------------------

    def _listening(self, hears: bool, why: str) -> None:
        if hears == self._hears and (hears or self._told_deaf):
            return
        self._hears = hears
        self._told_deaf = not hears
        if self._deliverer is not None:
            self._deliverer.listening(hears)
        if hears:
            self._observe(NotificationsArriving())
        else:
            self._observe(NotificationsMissing(why, self._settings.daemon.fallback_poll_interval))

    def _recorded(self, outcome: Outcome, fenced: bool) -> None:
        if self._deliverer is not None:
            self._deliverer.recorded(outcome, fenced=fenced)
        if fenced:
            return  # LeaseLost tells it; what became of the delivery, somebody else knows
        if self._watchman is not None:
            self._watchman.note(outcome)
        if outcome.verdict is Verdict.SUCCEEDED and self._metrics is None and not self._tells(Delivered):
            return  # most of all observations, and nobody would hear of it
        name = ""
        if outcome.verdict is Verdict.FAILED and self._deliverer is not None:
            name = self._deliverer.name_of(outcome.claim.webhook_id)
        self._observe(told(outcome, name))

    def _status_line(self) -> str:
        if self._deliverer is None:
            return "starting"
        mode = "listening" if self._hears else "polling"
        return (
            f"{mode}, {self._deliverer.in_flight} requests under way, {self._deliverer.held} deliveries held"
        )

    async def _watchdog(self) -> None:
        """Tell systemd that the event loop turns. It does not depend on the database, which may be away for long."""
        interval = self._notifier.watchdog_interval or 10.0
        while True:
            self._notifier.watchdog()
            self._notifier.status(self._status_line())
            await asyncio.sleep(min(interval, 10.0))


def _metrics(settings: Settings) -> Metrics | None:
    """None where nobody can ask: then nothing is counted."""
    if settings.http.listen is None:
        return None
    return Metrics(
        name=settings.daemon.name, version=pgrelay.__version__, webhooks=settings.http.metrics_webhooks
    )


def _both(
    one: Callable[[Observation], None], other: Callable[[Observation], None]
) -> Callable[[Observation], None]:
    def observe(observation: Observation) -> None:
        one(observation)
        other(observation)

    return observe
