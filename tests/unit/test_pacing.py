"""When the daemon looks: no row may wait for a poll, whatever writers, the bell and other daemons do in between."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgrelay.pacing import Action, Mode, Pace

POLL = 60.0
FALLBACK = 0.1


def pace(now: float = 0.0) -> Pace:
    return Pace(now, poll_interval=POLL, fallback_poll_interval=FALLBACK)


def settled(now: float = 0.0) -> Pace:
    """One that hears, has rung, and sleeps."""
    made = pace(now)
    made.listening(True)
    while made.mode is not Mode.QUIET:
        match made.action():
            case Action.RING:
                made.rang(10)
            case Action.CHECK:
                made.horizon(10)
    made.looked(now, 0, announced=False)
    return made


# The simulated world -------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """A transaction of the application that has inserted; it reads the bell after that."""

    xid: int
    rings: bool | None = None


@dataclass
class Server:
    """What of Postgres matters here: transaction ids, snapshots, the bell, and rows nobody has expanded."""

    bell: bool = False
    next_xid: int = 10
    running: set[int] = field(default_factory=set)
    latest_completed: int = 9
    new_rows: set[int] = field(default_factory=set)
    #: Which daemon expands, if one does.
    expanding: str | None = None

    def begin(self) -> int:
        xid, self.next_xid = self.next_xid, self.next_xid + 1
        self.running.add(xid)
        return xid

    def end(self, xid: int) -> None:
        self.running.discard(xid)
        self.latest_completed = max(self.latest_completed, xid)

    def oldest_running(self) -> int:
        """The xmin of a snapshot: it knows nothing of transactions younger than the last that ended."""
        horizon = self.latest_completed + 1
        return min([xid for xid in self.running if xid < horizon], default=horizon)


class World:
    """Our daemon, as a generator that stops wherever the real one waits for the server; writers; another daemon.

    Nothing but a notification ends our daemon's sleep here: whoever relies on the poll fails.
    """

    def __init__(self) -> None:
        self.server = Server()
        self.pace = pace()
        self.now = 0.0
        self.notified = False
        self.asleep = False
        self.writers: list[Writer] = []
        #: Another daemon has turned the bell off and looks itself; or it died, and nobody knows yet.
        self.other_is_busy = False
        self.other_is_dead = False
        self.others_snapshot: set[int] | None = None
        self.daemon = self.run()

    def run(self) -> Iterator[None]:
        while True:
            announced, self.notified = self.notified, False
            yield from self.tend_bell()
            yield
            if self.server.expanding:
                self.pace.refused(announced)
            else:
                self.server.expanding = "ours"
                seen = set(self.server.new_rows)
                yield
                self.server.new_rows -= seen
                self.server.expanding = None
                yield
                self.pace.looked(self.now, len(seen), announced)
            delay = self.pace.delay()
            if delay >= POLL:
                self.asleep = True
                while not self.notified:
                    yield
                self.asleep = False
            self.now += delay

    def tend_bell(self) -> Iterator[None]:
        match self.pace.action():
            case Action.SILENCE:
                yield
                self.server.bell = False
            case Action.RING:
                yield
                xid = self.server.begin()
                yield
                self.server.bell = True
                yield
                self.server.end(xid)
                yield
                drawn = self.server.begin()
                yield
                self.server.end(drawn)
                yield
                self.pace.rang(drawn)
            case Action.CHECK:
                yield
                oldest = self.server.oldest_running()
                yield
                self.pace.horizon(oldest)
            case Action.NONE:
                yield

    def our_daemon_goes_on(self, steps: int) -> None:
        for _ in range(steps):
            next(self.daemon)

    def a_writer_inserts(self, _: int) -> None:
        self.writers.append(Writer(self.server.begin()))

    def a_writer_goes_on(self, number: int) -> None:
        """It reads the bell, and later it commits, or now and then rolls back."""
        if not self.writers:
            return self.a_writer_inserts(number)
        writer = self.writers[number % len(self.writers)]
        if writer.rings is None:
            writer.rings = self.server.bell
            return None
        self.writers.remove(writer)
        self.server.end(writer.xid)
        if number % 5:
            self.server.new_rows.add(writer.xid)
            self.notified = self.notified or writer.rings
        return None

    def another_daemon_expands(self, _: int) -> None:
        """It takes its snapshot now, and is done at some later time."""
        if self.others_snapshot is not None:
            self.server.new_rows -= self.others_snapshot
            self.server.expanding, self.others_snapshot = None, None
        elif self.server.expanding is None:
            self.server.expanding = "theirs"
            self.others_snapshot = set(self.server.new_rows)

    def another_daemon_is_busy_and_leaves(self, number: int) -> None:
        if self.other_is_dead:
            self.other_is_dead = False
            self.told_to_settle()
        elif not self.other_is_busy:
            self.server.bell, self.other_is_busy = False, True
        elif number % 2:
            self.other_is_busy, self.other_is_dead = False, True
        else:
            self.other_is_busy, self.server.bell = False, True
            self.told_to_settle()

    def told_to_settle(self) -> None:
        self.pace.unsettle()
        self.notified = True

    def notifications_come_or_stop(self, number: int) -> None:
        self.pace.listening(number % 4 != 0)
        self.notified = True  # the deliverer looks whenever this changes

    def step(self, byte: int) -> None:
        kind, number = byte & 15, byte >> 4
        match kind:
            case 0:
                self.notifications_come_or_stop(number)
            case 1:
                self.another_daemon_is_busy_and_leaves(number)
            case 2 | 3:
                self.another_daemon_expands(number)
            case 4 | 5:
                self.a_writer_inserts(number)
            case 6 | 7 | 8 | 9:
                self.a_writer_goes_on(number)
            case _:
                self.our_daemon_goes_on(1 if number < 12 else number)

    def waiting_for_the_poll(self) -> set[int]:
        """Committed rows that nobody will look at before the poll."""
        if self.notified or not self.asleep or self.other_is_busy or self.other_is_dead:
            return set()
        return self.server.new_rows - (self.others_snapshot or set())


@settings(max_examples=1000, deadline=None)
@given(st.binary(min_size=100, max_size=400))
def test_no_row_waits_for_the_poll_whatever_writers_and_other_daemons_do(schedule: bytes):
    world = World()
    world.pace.listening(True)
    for byte in schedule:
        world.step(byte)
        assert world.waiting_for_the_poll() == set()


def test_the_daemon_falls_asleep_once_every_writer_that_saw_the_bell_off_is_done():
    world = World()
    world.pace.listening(True)
    world.a_writer_inserts(0)
    world.a_writer_goes_on(0)
    world.our_daemon_goes_on(400)
    assert not world.asleep and world.pace.mode is Mode.SETTLING

    world.a_writer_goes_on(0)
    world.our_daemon_goes_on(40)
    assert world.asleep and world.server.bell


# The modes, one by one ------------------------------------------------------------------------------------------------


def test_a_new_daemon_turns_the_bell_off_and_polls_until_notifications_arrive():
    made = pace()
    assert made.mode is Mode.DEAF
    assert made.action() is Action.SILENCE
    assert made.action() is Action.NONE
    assert made.delay() == FALLBACK
    made.looked(0.0, 5, announced=False)
    assert made.delay() == FALLBACK

    made.listening(True)
    assert made.mode is Mode.SETTLING
    assert made.action() is Action.RING


def test_settling_waits_twice_as_long_each_time_but_a_quarter_second_at_most():
    made = pace()
    made.listening(True)
    waits = []
    for _ in range(12):
        made.looked(0.0, 0, announced=False)
        waits.append(made.delay())
    assert waits[:4] == [0.002, 0.004, 0.008, 0.016]
    assert waits[-1] == 0.25
    made.looked(0.0, 1, announced=False)
    assert made.delay() == 0.001


def test_after_the_horizon_there_is_one_more_look_at_once_and_then_sleep():
    made = pace()
    made.listening(True)
    made.action(), made.action()
    made.rang(50)
    made.horizon(49)
    assert made.mode is Mode.SETTLING
    made.horizon(50)
    assert made.mode is Mode.QUIET and made.delay() == 0.0
    made.looked(0.0, 3, announced=False)
    assert made.mode is Mode.QUIET and made.delay() == POLL


def test_a_look_that_another_daemon_prevented_does_not_count_as_the_last_one():
    made = pace()
    made.listening(True)
    made.action(), made.action()
    made.rang(50)
    made.horizon(50)
    waits = []
    for _ in range(10):
        made.refused(announced=False)
        waits.append(made.delay())
    assert waits[:3] == [0.001, 0.002, 0.004] and waits[-1] == 0.25
    made.looked(0.0, 0, announced=False)
    assert made.delay() == POLL


def test_many_deliveries_make_it_busy_and_few_make_it_settle_again():
    made = settled()
    made.looked(0.3, 200, announced=True)
    assert made.mode is Mode.BUSY
    assert made.action() is Action.SILENCE
    made.looked(0.4, 0, announced=False)
    assert made.delay() <= 0.008
    for moment in (0.5, 0.6, 0.8):
        made.looked(moment, 30, announced=False)
    assert made.mode is Mode.BUSY
    made.looked(2.0, 10, announced=False)
    assert made.mode is Mode.SETTLING
    assert made.action() is Action.RING


@pytest.mark.parametrize("rate", [160.0, 299.0])
def test_between_the_two_thresholds_the_mode_stays_as_it_is(rate: float):
    quiet, busy = settled(), settled()
    busy.looked(0.3, 1000, announced=True)
    for step in range(1, 10):
        for one in (quiet, busy):
            one.looked(0.3 + step, int(rate), announced=True)
    assert quiet.mode is Mode.QUIET
    assert busy.mode is Mode.BUSY


def test_events_that_nobody_announced_mean_that_the_bell_is_off():
    made = settled()
    made.looked(10.0, 1, announced=True)
    assert made.mode is Mode.QUIET
    made.looked(70.0, 1, announced=False)
    assert made.mode is Mode.SETTLING and made.action() is Action.RING


def test_an_announcement_is_remembered_over_a_look_that_was_prevented():
    made = settled()
    made.refused(announced=True)
    made.looked(10.0, 1, announced=False)
    assert made.mode is Mode.QUIET


def test_when_notifications_stop_it_turns_the_bell_off_and_polls():
    for made in (settled(), pace()):
        made.listening(True)
        made.listening(False)
        assert made.mode is Mode.DEAF
        assert made.action() is Action.SILENCE
        assert made.delay() == FALLBACK


def test_a_horizon_from_before_the_bell_was_turned_off_again_is_not_used():
    made = pace()
    made.listening(True)
    made.action()
    assert made.action() is Action.RING
    made.listening(False)
    made.listening(True)
    made.rang(50)
    assert made.action() is Action.SILENCE
    assert made.action() is Action.RING


def test_a_busy_daemon_is_not_unsettled_for_it_rings_by_itself_later():
    made = settled()
    made.looked(0.3, 1000, announced=True)
    made.unsettle()
    assert made.mode is Mode.BUSY
