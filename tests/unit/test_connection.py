"""What a connection makes of the bytes it gets, wherever they are cut, and when it is used again."""

import asyncio
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.delivery import ErrorKind
from pgrelay.transport import pool
from pgrelay.transport.connection import Answer, Connection
from pgrelay.transport.failures import MAX_HEADERS, Refused
from pgrelay.transport.pool import Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire(asyncio.Transport):
    """The other end: keeps what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed, self.unsent = b"", False, 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Keeper:
    """Counts how often it came back."""

    def __init__(self) -> None:
        self.came_back = self.went = 0

    def put(self, connection: Connection) -> None:
        self.came_back += 1

    def lost(self, connection: Connection) -> None:
        self.went += 1


class Talk:
    """A connection that stands, both its ends, and the answer to one request."""

    def __init__(self, limit: int = 1000) -> None:
        self.wire, self.keeper = Wire(), Keeper()
        self.connection = Connection("receiver.example", self.keeper)
        self.connection.connection_made(self.wire)
        self.answered = self.connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"body", limit)

    def answer(self) -> Answer:
        return self.answered.result()

    def fault(self) -> ErrorKind:
        return cast(Refused, self.answered.exception()).failure.kind


BODY = b"thank you " * 20
ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + BODY,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n" + BODY + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "deflate": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n%s"
    % (len(zlib.compress(BODY)), zlib.compress(BODY)),
    "bare deflate": b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n%s"
    % (len(zlib.compress(BODY, wbits=-15)), zlib.compress(BODY, wbits=-15)),
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    % (len(zlib.compress(BODY, wbits=31)), zlib.compress(BODY, wbits=31)),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + BODY,
}  # fmt: skip


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_the_same_wherever_it_is_cut_into_packets(data: bytes):
    for size in (1, 2, 3, 7, 50, len(data)):
        talk = Talk()
        for start in range(0, len(data), size):
            assert talk.keeper.came_back == 0
            talk.connection.data_received(data[start : start + size])
        assert (talk.answer().status, talk.answer().body) == (200, BODY)
        assert (talk.keeper.came_back, talk.wire.closed) == (1, False)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=10), st.booleans())
def test_whatever_arrives_there_is_one_end_and_no_exception(packets: list[bytes], lost: bool):
    async def arrive() -> None:
        talk = Talk()
        for packet in (b"HTTP/1.1 200 OK\r\n", *packets):
            if not talk.wire.closed:
                talk.connection.data_received(packet)
        if not talk.wire.closed:
            talk.connection.eof_received()
        talk.connection.connection_lost(ConnectionResetError() if lost else None)
        assert talk.answered.done() and talk.keeper.went == 1
        talk.answered.exception()

    asyncio.run(arrive())


async def test_a_second_answer_that_nobody_asked_for_ends_the_connection():
    talk = Talk()
    talk.connection.data_received(OK + b"HTTP/1.1 200")
    assert talk.answer() == Answer(200, ((b"Content-Length", b"2"),), b"ok")
    assert (talk.keeper.came_back, talk.wire.closed) == (0, True)


async def test_the_status_is_that_of_the_answer_and_not_of_what_comes_after_it():
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno" + OK)
    assert (talk.answer().status, talk.answer().body) == (500, b"no")
    assert talk.wire.closed


@pytest.mark.parametrize("size", [1, 1000])
async def test_what_follows_a_compressed_body_is_left_unread(size: int):
    talk = Talk()
    whole = zlib.compress(BODY, wbits=31)
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + whole + b"y" * 100
    for start in range(0, len(data), size):
        if not talk.wire.closed:
            talk.connection.data_received(data[start : start + size])
    if size == 1:
        assert talk.answer().body == BODY and talk.wire.closed
    else:
        talk.connection.data_received(b"y")
        assert talk.answer().body == BODY and talk.wire.closed


async def test_words_while_it_is_idle_end_the_connection():
    talk = Talk()
    talk.connection.data_received(OK)
    assert talk.keeper.came_back == 1
    talk.connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert talk.wire.closed and not talk.connection.is_open


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1001,
    ],
    ids=["close", "1.0", "switched", "cut"],
)
async def test_it_is_not_used_again_when_the_receiver_says_so_or_more_would_come(data: bytes):
    talk = Talk()
    talk.connection.data_received(data)
    assert talk.answered.done() and talk.answered.exception() is None
    assert (talk.keeper.came_back, talk.wire.closed) == (0, True)


async def test_an_answer_before_the_request_is_written_is_an_answer_and_the_end_of_the_connection():
    talk = Talk()
    talk.wire.unsent = 1
    talk.connection.data_received(OK)
    assert talk.answer().status == 200
    assert (talk.keeper.came_back, talk.wire.closed) == (0, True)


@pytest.mark.parametrize(
    ("begin", "more", "kind"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, ErrorKind.TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"y" * 4000, ErrorKind.PROTOCOL),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n",
            b"\0\0\0\xff\xff" * 1000,  # blocks of no bytes
            ErrorKind.PROTOCOL,
        ),
    ],
    ids=["informational", "extension", "compressed nothing"],
)
async def test_what_goes_on_and_says_nothing_is_ended_long_before_its_time(
    begin: bytes, more: bytes, kind: ErrorKind
):
    talk = Talk()
    talk.connection.data_received(begin + more)
    for _ in range(1000):
        if talk.wire.closed:
            break
        talk.connection.data_received(more)
    assert talk.fault() is kind


async def test_a_body_in_chunks_of_a_byte_is_no_nonsense():
    talk = Talk(limit=100_000)
    talk.connection.data_received(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(50_000):
        talk.connection.data_received(b"1\r\nx\r\n")
    talk.connection.data_received(b"0\r\n\r\n")
    assert talk.answer().body == b"x" * 50_000


async def test_a_body_without_a_length_ends_with_its_connection():
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nall of")
    talk.connection.data_received(b" it")
    assert not talk.answered.done()
    talk.connection.eof_received()
    assert talk.answer().body == b"all of it"
    assert talk.wire.closed


async def test_more_headers_than_anybody_needs_are_no_answer():
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n")
    assert talk.fault() is ErrorKind.PROTOCOL and talk.wire.closed


async def test_half_a_compressed_body_is_broken():
    talk = Talk()
    half = zlib.compress(BODY, wbits=31)[:-8]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(half)
    talk.connection.data_received(head + half)
    assert talk.fault() is ErrorKind.PROTOCOL and talk.wire.closed


async def test_an_empty_body_needs_no_compression():
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n")
    assert talk.answer().body == b""


# The pool


def standing(kept: Pool, place: str) -> Connection:
    connection = Connection("receiver.example", kept)
    connection.connection_made(Wire())
    kept.add(connection, place)
    return connection


async def test_the_one_used_last_is_used_first_and_only_for_its_own_place():
    kept = Pool()
    one, two = standing(kept, "here"), standing(kept, "here")
    kept.put(one)
    kept.put(two)
    assert kept.take("there") is None
    assert kept.take("here") is two
    assert kept.take("here") is one
    assert kept.take("here") is None
    kept.close(Refused.of(ErrorKind.SHUTDOWN, "the end"))


async def test_one_that_was_idle_for_too_long_is_closed_instead_of_used(monkeypatch):
    kept = Pool()
    connection = standing(kept, "here")
    kept.put(connection)
    monkeypatch.setattr(pool, "KEEPALIVE_SECONDS", -1.0)
    assert kept.take("here") is None
    assert not connection.is_open
    kept.close(Refused.of(ErrorKind.SHUTDOWN, "the end"))


async def test_what_comes_back_to_a_retired_pool_is_closed():
    kept = Pool()
    idle, busy = standing(kept, "here"), standing(kept, "here")
    kept.put(idle)
    kept.retire()
    assert not idle.is_open and busy.is_open
    kept.put(busy)
    assert not busy.is_open


async def test_a_lost_connection_is_not_remembered():
    kept = Pool()
    connection = standing(kept, "here")
    connection.connection_lost(None)
    kept.put(connection)
    assert kept.take("here") is None and not kept._places


class Clock:
    """What a connection's alarms are set by; goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.alarms = 1000.0, list[tuple[float, Callable[[], None]]]()
        monkeypatch.setattr("pgrelay.transport.connection.monotonic", lambda: self.now)
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._call_later)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> SimpleNamespace:
        alarm = self.now + seconds, callback
        self.alarms.append(alarm)
        return SimpleNamespace(cancel=lambda: self.alarms.remove(alarm))

    def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [alarm for alarm in self.alarms if alarm[0] <= until]:
            alarm = min(due)
            self.alarms.remove(alarm)
            self.now = alarm[0]
            alarm[1]()
        self.now = until


async def test_an_answer_that_does_not_come_in_time_is_waited_for_in_vain(monkeypatch: pytest.MonkeyPatch):
    clock, talk = Clock(monkeypatch), Talk()
    talk.connection.allow(4.0, 5.0)
    clock.go_on(3.9)
    assert not talk.answered.done()
    clock.go_on(0.1)
    assert talk.fault() is ErrorKind.TIMEOUT and talk.wire.closed
    assert "5 s" in str(talk.answered.exception())


@given(
    requests=st.lists(
        st.tuples(st.integers(1, 200), st.integers(1, 200), st.integers(0, 100)), min_size=1, max_size=8
    )
)
def test_each_request_has_its_own_time_whatever_the_one_before_had(requests: list[tuple[int, int, int]]):
    async def ask() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            clock, talk = Clock(monkeypatch), Talk()
            for number, (allowed, taken, pause) in enumerate(requests):
                if number:
                    talk.answered = talk.connection.ask(b"POST / HTTP/1.1\r\n\r\n", b"", 1000)
                talk.connection.allow(float(allowed), float(allowed))
                assert len(clock.alarms) == 1
                clock.go_on(float(taken))
                if taken >= allowed:
                    assert talk.fault() is ErrorKind.TIMEOUT
                    break
                talk.connection.data_received(OK)
                assert talk.answer().status == 200
                clock.go_on(float(pause))
                assert not talk.wire.closed
            talk.connection.connection_lost(None)
            assert not clock.alarms

    asyncio.run(ask())
