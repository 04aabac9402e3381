"""One connection: a request out, an answer in, one after the other, for as long as both sides keep it open.

An answer is parsed as it arrives (llhttp, by way of httptools). Its head is bounded, its body is kept up to a limit
and cut there, informational answers are passed over. Whoever asked waits for the future that `ask` gives, which comes
to an Answer or to Refused. Nothing here decides what an answer means.
"""

import asyncio
import zlib
from time import monotonic
from typing import NamedTuple, Protocol, cast

import httptools

from pgrelay.transport.decoding import Decoder
from pgrelay.transport.failures import (
    MAX_HEAD,
    MAX_HEADER,
    MAX_HEADERS,
    Refused,
    broken_body,
    broken_off,
    no_answer,
    no_http,
    not_answered,
    too_large,
)

#: Name and value of each header, as received.
RawHeaders = tuple[tuple[bytes, bytes], ...]

_SWITCHING_PROTOCOLS = 101
#: So many bytes on the wire for each of a body, at most: a chunk of one byte takes six. What goes on without saying
#: anything (extensions of chunks, compressed nothing) would be read for as long as the request may take.
_BULK = 16


class Answer(NamedTuple):
    """A complete answer; of its body, as much as was asked for."""

    status: int
    headers: RawHeaders
    body: bytes


class Keeper(Protocol):
    """Whoever keeps connections."""

    def put(self, connection: "Connection") -> None:
        """It is idle, and fit for another request."""

    def lost(self, connection: "Connection") -> None:
        """It is closed."""


class Connection(asyncio.Protocol):
    """`ask`, wait, `ask` again. Goes back to its keeper after each answer, unless it cannot be used again."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_answered",
        "_body",
        "_bulk",
        "_deadline",
        "_decoder",
        "_ended",
        "_framed",
        "_head_size",
        "_headers",
        "_host",
        "_in_body",
        "_keeper",
        "_left",
        "_parser",
        "_reusable",
        "_seconds",
        "_status",
        "_transport",
        "_unasked",
        "idle_since",
        "remote_address",
    )

    def __init__(self, host: str, keeper: Keeper) -> None:
        self._host = host
        self._keeper = keeper
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[Answer] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._left = 0
        self._head_size = self._status = self._bulk = 0
        self._in_body = self._framed = self._ended = self._reusable = self._unasked = False
        self._decoder: Decoder | None = None
        #: When the answer must be there, and when somebody looks whether it is; monotonic.
        self._deadline = self._alarm_at = 0.0
        self._seconds = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        #: Monotonic seconds since when nobody uses it.
        self.idle_since = 0.0
        #: Whom it leads to, by address.
        self.remote_address: str | None = None

    # What its owner does with it ------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """A request may go out on it, as far as anybody knows."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, head: bytes, body: bytes, limit: int) -> asyncio.Future[Answer]:
        """Write a request; of the answer's body, `limit` bytes are kept. Only while no other is under way."""
        transport = self._transport
        assert self._answered is None
        self._headers, self._body, self._left = [], [], limit
        self._head_size, self._bulk = 0, MAX_HEAD + _BULK * limit
        self._in_body = self._framed = self._ended = self._reusable = False
        self._decoder = None
        answered = self._answered = asyncio.get_running_loop().create_future()
        if transport is None:  # it ended before anybody could use it
            self._hung_up(None)
        else:
            transport.write(head + body)
        return answered

    def give_up(self, fault: Refused | None = None) -> None:
        """Close it without another word; whoever waits for an answer gets `fault`, if there is one."""
        answered, self._answered = self._answered, None
        if answered is not None and not answered.done() and fault is not None:
            answered.set_exception(fault)
        if self._transport is not None:
            self._transport.abort()

    def allow(self, left: float, seconds: float) -> None:
        """The answer has so long to arrive, of `seconds` that all of the request may take.

        The alarm of an earlier request is left standing, and set anew when it goes off: one in a while for each
        connection costs less than one for each request.
        """
        if self._answered is None:
            return
        self._deadline, self._seconds = monotonic() + left, seconds
        if self._alarm is None or self._alarm_at > self._deadline:
            self._set_alarm(left)

    def _set_alarm(self, left: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(left, self._look_at_the_clock)
        self._alarm_at = self._deadline

    def _look_at_the_clock(self) -> None:
        self._alarm = None
        if self._answered is None:
            return
        left = self._deadline - monotonic()
        if left > 0:
            self._set_alarm(left)
        else:
            self.give_up(not_answered(self._host, self._seconds))

    def close(self) -> None:
        """Close it in good order."""
        # once: a second close() makes the abort() of an asyncio of Python 3.11.2 fail
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    # What the event loop says ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        peer = transport.get_extra_info("peername")
        self.remote_address = peer[0] if peer else None

    def data_received(self, data: bytes) -> None:
        if self._answered is None:
            self.give_up()  # nobody asked: a goodbye, or an answer that belongs to no request
            return
        if self._in_body:
            self._bulk -= len(data)
        else:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reusable = False  # what follows is no HTTP
            self._ended = True
        except httptools.HttpParserError as error:
            if not self._ended:
                reason = type(error).__name__
                self.give_up(
                    broken_body(self._host, reason) if self._in_body else no_http(self._host, reason)
                )
                return
        if self._ended:
            self._finish()
        elif not self._in_body and self._head_size > MAX_HEAD:
            self.give_up(too_large(self._host))
        elif self._bulk < 0:
            self.give_up(broken_body(self._host, "there is next to nothing in it, and no end"))

    def eof_received(self) -> bool:
        self._hung_up(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up(exc)
        self._transport = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._keeper.lost(self)

    def _hung_up(self, error: Exception | None) -> None:
        if self._answered is None:
            return
        if self._in_body:
            if error is None and not self._framed:
                self._finish_body()
                self._finish()  # a body that ends with its connection
            else:
                self.give_up(broken_body(self._host, "the connection ended within it"))
        elif self._head_size and error is None:
            self.give_up(no_http(self._host, "it ends within its head"))
        else:
            fault = no_answer(self._host) if error is None else broken_off(error, self._host)
            fault.unanswered = not self._head_size
            self.give_up(fault)

    def _finish(self) -> None:
        answered, self._answered = self._answered, None
        transport = self._transport
        if answered is None or transport is None:
            return
        if not answered.done():
            answered.set_result(Answer(self._status, tuple(self._headers), b"".join(self._body)))
        if not self._reusable or self._unasked or transport.get_write_buffer_size():
            # what is not read to its end would be taken for the next answer
            transport.abort()
        else:
            self._keeper.put(self)

    # What the parser says -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ended:
            self._unasked = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ended:
            return
        self._headers.append((name, value))
        if len(name) > MAX_HEADER or len(value) > MAX_HEADER:
            self._fail(too_large(self._host))
        elif len(self._headers) > MAX_HEADERS:
            self._fail(no_http(self._host, f"more than {MAX_HEADERS} headers"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._ended or (status < 200 and status != _SWITCHING_PROTOCOLS):
            return
        # kept, for the parser may have read the head of something that nobody asked for by the time this one is given
        self._in_body, self._status = True, status
        for name, value in self._headers:
            match name.lower():
                case b"content-length":
                    self._framed = True
                case b"transfer-encoding":
                    self._framed = self._framed or value.lower().endswith(b"chunked")
                case b"content-encoding":
                    self._decoder = Decoder.of(value)

    def on_body(self, body: bytes) -> None:
        if self._ended:
            return
        if self._decoder is not None:
            if self._decoder.has_ended:
                self._ended = True  # what follows means nothing, and may follow for ever
                return
            try:
                body = self._decoder.decode(body, self._left + 1)
            except zlib.error:
                self._fail(broken_body(self._host, "it is not compressed as its head says"))
                return
        if len(body) > self._left:
            body, self._ended = body[: self._left], True  # cut, and so not to be used again
        self._left -= len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._ended:
            return
        if not self._in_body:  # it was an informational one: the answer proper is to come
            self._headers = []
            return
        self._reusable = self._parser.should_keep_alive()
        self._finish_body()

    def _finish_body(self) -> None:
        self._ended = True
        if self._decoder is not None and not self._decoder.at_end:
            self._fail(broken_body(self._host, "it is not compressed as its head says"))

    def _fail(self, fault: Refused) -> None:
        self._ended, self._reusable = True, False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(fault)
