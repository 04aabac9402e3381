"""When the daemon looks for new events: on a notification while it is quiet, by short polls while it is busy.

Pure: no clock, no I/O; moments are monotonic seconds and passed in. A NOTIFY costs every writer a database-wide lock at
commit, so captures notify only while somebody sleeps (the sequence pgrelay.wake, the "bell"):

    QUIET     bell on; sleep until a notification, at most poll_interval
    BUSY      bell off; poll after 1, 2, 4 … 8 ms
    SETTLING  bell on again, but a writer that saw it off may still be open: poll after 1, 2, 4 … 250 ms until every
              transaction has ended that could have seen it off, then look once more, then QUIET
    DEAF      no notifications to be had; bell off; poll every fallback_poll_interval

No wake-up is lost: a writer that saw the bell off had inserted before it looked, so it had its transaction id before the
bell was rung, so its id is below the horizon taken after that; SETTLING outlasts it.
"""

from enum import Enum, auto

BUSY_ABOVE = 300.0
QUIET_BELOW = 150.0
_WINDOW = 0.25
_FIRST_POLL = 0.001
_BUSY_POLL = 0.008
_SETTLING_POLL = 0.25


class Mode(Enum):
    QUIET = auto()
    BUSY = auto()
    SETTLING = auto()
    DEAF = auto()


class Action(Enum):
    """What the caller must do before it looks again."""

    NONE = auto()
    #: Turn the bell on, then take the horizon and hand it to rang().
    RING = auto()
    #: Turn the bell off.
    SILENCE = auto()
    #: Read which transactions are open and hand the oldest to horizon().
    CHECK = auto()


class Pace:
    """The state machine. Begins unsettled: nobody knows how the bell was left."""

    def __init__(self, now: float, *, poll_interval: float, fallback_poll_interval: float) -> None:
        self.poll_interval = poll_interval
        self.fallback_poll_interval = fallback_poll_interval
        self.mode = Mode.DEAF
        self._delay = _FIRST_POLL
        self._horizon: int | None = None
        self._pending: Action = Action.SILENCE
        self._window_start = now
        self._window_count = 0
        self._rate = 0.0

    def listening(self, hears: bool) -> None:
        """Notifications arrive now, or do not."""
        if hears and self.mode is Mode.DEAF:
            self._settle()
        elif not hears and self.mode is not Mode.DEAF:
            self.mode = Mode.DEAF
            self._pending = Action.SILENCE

    def action(self) -> Action:
        """What to do before the next look; asking takes it."""
        pending, self._pending = self._pending, Action.NONE
        if pending is Action.NONE and self.mode is Mode.SETTLING:
            return Action.RING if self._horizon is None else Action.CHECK
        return pending

    def rang(self, horizon: int) -> None:
        """The bell is on; no transaction at or above `horizon` saw it off."""
        self._horizon = horizon

    def horizon(self, oldest_running: int) -> None:
        """`oldest_running`: every transaction below it has ended. Past the horizon, one more look and then sleep."""
        if self.mode is Mode.SETTLING and self._horizon is not None and oldest_running >= self._horizon:
            self.mode = Mode.QUIET
            self._delay = 0.0

    def looked(self, now: float, found: int, notified: bool) -> None:
        """A look found so many new deliveries; `notified`: a notification had led to it."""
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
        elif self.mode is Mode.QUIET and found and not notified and self._delay > 0.0:
            # events nobody announced: another daemon left the bell off, or died while busy
            self._settle()
        elif self.mode is Mode.QUIET:
            self._delay = self.poll_interval
        else:
            self._delay = _FIRST_POLL if found else self._delay * 2

    def delay(self) -> float:
        """Seconds to wait for a notification before looking anyway."""
        match self.mode:
            case Mode.DEAF:
                return self.fallback_poll_interval
            case Mode.BUSY:
                return min(self._delay, _BUSY_POLL)
            case Mode.SETTLING:
                return min(self._delay, _SETTLING_POLL)
            case Mode.QUIET:
                return min(self._delay, self.poll_interval)

    def _settle(self) -> None:
        self.mode = Mode.SETTLING
        self._horizon = None
        self._delay = _FIRST_POLL
