"""Tells the database what attempts say about webhooks, and the deliverer what follows for them.

Batches by itself, like the recorder: what ended while the last report was on its way is the next report. What nothing
follows from at once is told once a second: each report leaves a dead row in a table that every claim reads, and while
somebody holds an old snapshot nothing takes it away.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from pgrelay.circuit import CircuitLimits, Report, Reports, WebhookState
from pgrelay.delivery import Outcome
from pgrelay.errors import DatabaseUnavailable
from pgrelay.observation import CircuitClosed, CircuitOpened, Observation, WebhookDisabled, WebhookHeld

#: How often to look which webhooks other daemons know to be failing.
_LOOK_EVERY = 1.0
_AFTER_FAILURE = 1.0
_REPORT_EVERY = 1.0
#: An end that seems to have moved by less is the same one, seen a little later.
_SAME_HOLD = 0.5


class HealthVerbs(Protocol):
    """The SQL verbs of webhooks' health; see db/store.py."""

    async def note_results(self, reports: Sequence[Report], limits: CircuitLimits) -> list[WebhookState]: ...
    async def failing_webhooks(self) -> dict[int, float | None]: ...


class Watchman:
    """`note` every recorded outcome; `run` until cancelled.

    `heed` is told of what changes for a webhook; `holds_any` says whether anything is leased, to which that may matter.
    """

    def __init__(
        self,
        verbs: HealthVerbs,
        limits: CircuitLimits,
        *,
        heed: Callable[[WebhookState], Awaitable[None]],
        holds_any: Callable[[], bool],
        name_of: Callable[[int], str],
        observe: Callable[[Observation], None],
    ) -> None:
        self._verbs = verbs
        self.limits = limits
        self._heed = heed
        self._holds_any = holds_any
        self._name_of = name_of
        self._observe = observe
        self._reports = Reports()
        self._arrived = asyncio.Event()
        self._active = True
        #: What is held back, as far as is known, and until when; monotonic.
        self._held: dict[int, float] = {}

    def note(self, outcome: Outcome) -> None:
        """An attempt has ended."""
        self._reports.add(outcome)
        if self._reports or not self._active:
            self._active = True
            self._arrived.set()

    def stir(self) -> None:
        """Something is leased: what others say of webhooks may matter to it."""
        if not self._active:
            self._active = True
            self._arrived.set()

    async def run(self) -> None:
        """Report until cancelled."""
        loop = asyncio.get_running_loop()
        next_look = next_report = 0.0
        while True:
            try:
                concerned = self._active or self._reports.failing or self._holds_any()
                if concerned and loop.time() >= next_look:
                    self._active = False
                    await self._look()
                    next_look = loop.time() + _LOOK_EVERY
                with contextlib.suppress(TimeoutError):
                    # an idle daemon need not wake up for this
                    waits = self._active or self._reports.failing or bool(self._reports)
                    async with asyncio.timeout(_LOOK_EVERY if waits else None):
                        await self._arrived.wait()
                    self._arrived.clear()
                urgent = self._reports.urge(self.limits.open_after, self._held)
                if urgent or (self._reports and loop.time() >= next_report):
                    next_report = loop.time() + _REPORT_EVERY
                    await self._report()
            except DatabaseUnavailable:
                await asyncio.sleep(_AFTER_FAILURE)

    async def _look(self) -> None:
        """Learn who is failing, and what other daemons hold back.

        Who is not failing any more (it succeeded elsewhere, or a person said so) is let go.
        """
        failing = await self._verbs.failing_webhooks()
        now = asyncio.get_running_loop().time()
        before, self._reports.failing = self._reports.failing, frozenset(failing)
        for webhook_id in before - self._reports.failing:
            await self._heed(WebhookState(webhook_id, "closed", None))
        held = {
            webhook_id: now + seconds for webhook_id, seconds in failing.items() if seconds and seconds > 0
        }
        known, self._held = self._held, held
        for webhook_id, until in held.items():
            if until > known.get(webhook_id, 0.0) + _SAME_HOLD:
                await self._heed(WebhookState(webhook_id, "held", until - now))

    async def tell_the_rest(self) -> None:
        """What came while the daemon stopped, when nobody runs this any more."""
        if self._reports:
            await self._report()

    async def _report(self) -> None:
        taken = self._reports.take()
        try:
            states = await self._verbs.note_results(taken, self.limits)
        except BaseException:  # cancelled, too: the daemon stops
            self._reports.take_back(taken)
            raise
        for state in states:
            observation = self._told(state)
            if observation is not None:
                self._observe(observation)
            if state.held_for is not None:
                self._held[state.webhook_id] = asyncio.get_running_loop().time() + state.held_for
            await self._heed(state)

    def _told(self, state: WebhookState) -> Observation | None:
        name = self._name_of(state.webhook_id)
        match state.state:
            case "opened":
                return CircuitOpened(state.webhook_id, name, state.held_for or 0.0)
            case "held":
                return WebhookHeld(state.webhook_id, name, state.held_for or 0.0)
            case "closed":
                return CircuitClosed(state.webhook_id, name)
            case "disabled":
                return WebhookDisabled(state.webhook_id, name)
        return None
