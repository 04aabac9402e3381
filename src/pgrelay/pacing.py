"""When the daemon looks for new events: on a notification while it is quiet, by short polls while it is busy.

Pure: no clock, no I/O; moments are monotonic seconds and passed in. A NOTIFY costs every writer a database-wide
lock at commit, so captures notify only while somebody sleeps (the sequence pgrelay.wake, the "bell"):

    QUIET     bell on; sleep until a notification, at most poll_interval (five times that, where somebody else looks)
    BUSY      bell off; poll after 1, 2, 4 … 8 ms
    SETTLING  bell on again, but a writer that saw it off may still be open: poll after 1, 2, 4 … 250 ms until every
              transaction has ended that could have seen it off, then look once more, then QUIET
    DEAF      no notifications to be had; bell off; poll every fallback_poll_interval

No wake-up is lost: a writer that saw the bell off had inserted before it looked, so it had its transaction id before
the bell was on again, so its id is below one that is drawn after that (the horizon); SETTLING outlasts it. The bell
is one for all daemons. Whoever is BUSY or DEAF has turned it off, and does the looking; when that one leaves, it or
whoever finds it dead says so, and the others settle anew.
"""

from enum import Enum, auto

#: New deliveries a second above which NOTIFY costs the writers more than polling costs us, and below which it does not.
BUSY_ABOVE = 300.0
QUIET_BELOW = 150.0
_WINDOW = 0.25
_FIRST_POLL = 0.001
_BUSY_POLL = 0.008
_SETTLING_POLL = 0.25
#: Polls missed while somebody else looks whether there are new events.
_WATCHED = 5


class Mode(Enum):
    QUIET = auto()
    BUSY = auto()
    SETTLING = auto()
    DEAF = auto()


class Action(Enum):
    """What the caller must do before it looks again."""

    NONE = auto()
    #: Turn the bell on, then draw a transaction id, in a transaction of its own, and hand it to rang().
    RING = auto()
    #: Turn the bell off.
    SILENCE = auto()
    #: Read which transactions are open and hand the oldest to horizon().
    CHECK = auto()


class Pace:
    """The state machine. Begins unsettled: nobody knows how the bell was left."""

    def __init__(
        self, now: float, *, poll_interval: float, fallback_poll_interval: float, watched: bool = False
    ) -> None:
        self.poll_interval = poll_interval
        self._quiet_poll = poll_interval * (_WATCHED if watched else 1)
        self.fallback_poll_interval = fallback_poll_interval
        self.mode = Mode.DEAF
        self._delay = _FIRST_POLL
        self._horizon: int | None = None
        #: RING was asked for, and nothing has happened since that would make its horizon void.
        self._ringing = False
        self._pending: Action = Action.SILENCE
        self._window_start = now
        self._window_count = 0
        self._rate = 0.0
        #: Since the last look that was one.
        self._announced = False
        self._fruitless = 0.0

    def listening(self, hears: bool) -> None:
        """Notifications arrive now, or do not."""
        if hears and self.mode is Mode.DEAF:
            self._settle()
        elif not hears and self.mode is not Mode.DEAF:
            self.mode = Mode.DEAF
            self._ringing = False
            self._pending = Action.SILENCE

    def unsettle(self) -> None:
        """The bell may be off though nobody is busy: another daemon left or died, or the database crashed."""
        if self.mode in (Mode.QUIET, Mode.SETTLING):
            self._settle()

    def action(self) -> Action:
        """What to do before the next look; asking takes it."""
        pending, self._pending = self._pending, Action.NONE
        if pending is Action.NONE and self.mode is Mode.SETTLING:
            self._ringing = self._horizon is None
            return Action.RING if self._ringing else Action.CHECK
        return pending

    def rang(self, horizon: int) -> None:
        """The bell is on; no transaction at or above `horizon` saw it off."""
        if self._ringing:
            self._horizon = horizon

    def horizon(self, oldest_running: int) -> None:
        """`oldest_running`: every transaction below it has ended. Past the horizon, one more look and then sleep."""
        if self.mode is Mode.SETTLING and self._horizon is not None and oldest_running >= self._horizon:
            self.mode = Mode.QUIET
            self._delay = 0.0

    def refused(self, announced: bool) -> None:
        """A look that was none: another daemon was looking, and perhaps from a moment before."""
        self._announced = self._announced or announced
        self._fruitless = min(max(_FIRST_POLL, self._fruitless * 2), _SETTLING_POLL)

    def looked(self, now: float, found: int, announced: bool) -> None:
        """A look found so many new deliveries; `announced`: a notification had led to it."""
        announced = announced or self._announced
        self._announced, self._fruitless = False, 0.0
        self._window_count += found
        elapsed = now - self._window_start
        if elapsed >= _WINDOW:
            self._rate = self._window_count / elapsed
            self._window_start, self._window_count = now, 0
        if self.mode is Mode.DEAF:
            return
        if self.mode is not Mode.BUSY and self._rate > BUSY_ABOVE:
            self.mode = Mode.BUSY
            self._pending = Action.SILENCE
            self._delay = _FIRST_POLL
        elif self.mode is Mode.BUSY and self._rate < QUIET_BELOW:
            self._settle()
        elif self.mode is Mode.QUIET and found and not announced and self._delay > 0.0:
            # nobody rang for them: the bell is off, and whoever turned it off did not look
            self._settle()
        elif self.mode is Mode.QUIET:
            self._delay = self._quiet_poll
        else:
            self._delay = _FIRST_POLL if found else self._delay * 2

    def delay(self) -> float:
        """Seconds to wait for a notification before looking anyway."""
        match self.mode:
            case Mode.DEAF:
                usual = self.fallback_poll_interval
            case Mode.BUSY:
                usual = min(self._delay, _BUSY_POLL)
            case Mode.SETTLING:
                usual = min(self._delay, _SETTLING_POLL)
            case Mode.QUIET:
                usual = min(self._delay, self._quiet_poll)
        return min(usual or self.poll_interval, self._fruitless) if self._fruitless else usual

    def _settle(self) -> None:
        self.mode = Mode.SETTLING
        self._horizon = None
        self._ringing = False
        self._delay = _FIRST_POLL
