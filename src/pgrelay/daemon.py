"""The daemon, one process: waits for the database, runs the engine, owns signals, reload and what is served."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable

import pgrelay
from pgrelay import policies
from pgrelay.api.app import SERVICES, api_app, make_app
from pgrelay.api.server import serving
from pgrelay.config.settings import Settings, changed_keys, reloaded
from pgrelay.db.contact import Contact
from pgrelay.db.store import Store
from pgrelay.engine import Engine, Stores
from pgrelay.errors import ConfigError, PgrelayError
from pgrelay.logs import configure, is_told, log_observation, set_level
from pgrelay.metrics.counted import Metrics
from pgrelay.observation import (
    ConfigRejected,
    ConfigReloaded,
    HttpServing,
    Observation,
)
from pgrelay.sealing import Keyring
from pgrelay.supervisor import parent_gone
from pgrelay.systemd import Notifier
from pgrelay.transport import Proxy, Transport


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
        self._transport: Transport | None = None
        self._tls = policies.tls(settings.network)
        self._keys = Keyring(settings.secrets.key)
        self._engine: Engine | None = None
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
            if self._engine is not None and self._transport is not None:
                self._engine.adopt(self._settings)
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
            # objects of start-up live as long as the process: do not look at them again in every collection
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            await self._run(stack, encoding)
        if self._fatal is not None:
            raise self._fatal

    async def _run(self, stack: contextlib.AsyncExitStack, encoding: str) -> None:
        on_round_trip = None if self._metrics is None else self._metrics.round_trip
        stores = Stores(
            *[
                Store(
                    await stack.enter_async_context(self._contact.link(purpose)),
                    encoding,
                    self._keys,
                    on_round_trip=on_round_trip,
                )
                for purpose in ("claim", "record", "upkeep", "heartbeat", "metrics")
            ]
        )
        transport = self._transport = Transport(
            policies.addresses(self._settings),
            self._settings.delivery.max_response_bytes,
            tls=self._tls.context,
            proxy=Proxy.of(self._settings.network.proxy),
        )
        await transport.start()
        stack.push_async_callback(transport.close)
        self._engine = Engine(
            self._settings,
            stores,
            transport,
            self._contact,
            self._keys,
            metrics=self._metrics,
            notifier=self._notifier,
            observe=self._observe,
            tells=self._tells,
            fail=self._fail,
        )
        await self._contact.until_possible(self._engine.sign_on)
        if not self._stopping.is_set():
            await self._engine.run(self._stopping, lambda: self._stop_reason or "")

    async def _serve_http(self, stack: contextlib.AsyncExitStack) -> None:
        """Answer from now on, where http.listen says so: also that the database is still waited for."""
        listen = self._settings.http.listen
        if listen is not None and self._metrics is not None:
            from pgrelay.doctor.trial import (
                try_out,  # they cost memory, as templates do, where nothing is served
            )
            from pgrelay.page.site import add_page

            api = api_app(
                lambda: self._contact.open_admitted("api"),
                self._observe,
                self._keys,
                lambda webhook: try_out(self._settings, webhook),
            )
            app = make_app(unready=self._unready, render_metrics=self._metrics.render, api=api)
            add_page(app, api[SERVICES])
            self._observe(HttpServing(await stack.enter_async_context(serving(app, listen))))

    def _unready(self) -> str | None:
        """Why nothing is delivered now, None if nothing stands in the way."""
        if self._stopping.is_set():
            return f"stopping: {self._stop_reason}"
        if self._engine is None or self._waiting_for:
            return self._waiting_for or "starting"
        if not self._engine.holds_lease:
            return "the lease is not held: no heartbeat has reached the database for most of daemon.lease"
        return None

    def _fail(self, error: PgrelayError) -> None:
        """Stop in good order; it is raised at the end."""
        self._fatal = self._fatal or error
        self.stop(error.message)

    def _wait_for(self, reason: str) -> None:
        self._waiting_for = reason
        if reason:
            self._notifier.status(reason)
            self._notifier.extend_timeout(30.0)


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
