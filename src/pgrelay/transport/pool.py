"""Connections that are kept for the next request to the same place, and how long."""

import asyncio
from collections.abc import Hashable
from time import monotonic

from pgrelay.transport.connection import Connection
from pgrelay.transport.failures import Refused

#: How long an idle connection is kept.
KEEPALIVE_SECONDS = 4.0


class Pool:
    """`take` one, or open a new one and `add` it; it comes back by itself, and is closed when it was idle for long."""

    def __init__(self) -> None:
        self._idle: dict[Hashable, list[Connection]] = {}
        self._places: dict[Connection, Hashable] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._retired = False

    def take(self, place: Hashable) -> Connection | None:
        """The one that was used last, if any is fit for another request."""
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            if connection.is_open and monotonic() - connection.idle_since <= KEEPALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def add(self, connection: Connection, place: Hashable) -> None:
        """It leads to that place, and is in use."""
        self._places[connection] = place

    def put(self, connection: Connection) -> None:
        """It may be used again."""
        place = self._places.get(connection)
        if place is None or self._retired:
            connection.close()
            return
        connection.idle_since = monotonic()
        self._idle.setdefault(place, []).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._close_old)

    def lost(self, connection: Connection) -> None:
        """It is closed."""
        self._places.pop(connection, None)

    def retire(self) -> None:
        """Keep nothing any more: close what is idle, and the others as they come back."""
        self._retired = True
        self._close_old(at_once=True)

    def close(self, fault: Refused) -> None:
        """Close all at once; requests under way end with this fault."""
        self.retire()
        for connection in list(self._places):
            connection.give_up(fault)

    def _close_old(self, *, at_once: bool = False) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        horizon, oldest = monotonic() - KEEPALIVE_SECONDS, None
        for place, idle in list(self._idle.items()):
            # the oldest come first
            while idle and (at_once or idle[0].idle_since <= horizon or not idle[0].is_open):
                idle.pop(0).close()
            if not idle:
                del self._idle[place]
            elif oldest is None or idle[0].idle_since < oldest:
                oldest = idle[0].idle_since
        if oldest is not None:
            self._sweep = asyncio.get_running_loop().call_later(max(0.0, oldest - horizon), self._close_old)
