"""When the next request to a webhook with a rate limit may begin, so that no second sees more than allowed.

Pure: the caller passes the clock. What counts is what the receiver counts, by its own clock, as requests arrive. A
request arrives when it has been sent, not when it began (a new connection may take long), so it is counted from the
moment it was sent, and one that is not sent yet as if it were sent now. Requests are spread over the second, but
for a small burst.
"""

from collections import deque
from collections.abc import Iterable
from math import floor

#: Added to each window: requests need not take equally long to arrive.
_MARGIN = 0.03
#: The part of a second's requests that may go out at once.
_BURST = 0.1


class Request:
    """One request under way or in the last window."""

    __slots__ = ("sent_at",)

    def __init__(self) -> None:
        #: None: not sent yet.
        self.sent_at: float | None = None


class RateLimit:
    """At most `rate` requests in any second; below 1, one in any 1/`rate` seconds. Moments are monotonic seconds."""

    def __init__(self, rate: float, began: float, unsent: Iterable[Request] = ()) -> None:
        """`began`: requests of somebody else, as many as may be, may have been sent until then.

        `unsent` are those that began under the limit before this one, and may still be sent at any moment.
        """
        self.rate = rate
        self._most = max(1, floor(rate))
        self._window = max(1.0, 1.0 / rate) + _MARGIN
        self._interval = self._window / self._most
        self._burst = max(1, floor(self._most * _BURST))
        #: Full burst again when this moment has come; see GCRA.
        self._paced_until = began
        self._closed_until = began + self._window
        self._recent: deque[Request] = deque(unsent)

    @property
    def unsent(self) -> list[Request]:
        """What has begun and is not sent yet."""
        return [request for request in self._recent if request.sent_at is None]

    def wait(self, now: float) -> float:
        """Seconds until a request may begin; 0 or less: now. While others are unsent, there may be more to wait."""
        self._forget(now)
        waits = [self._closed_until - now, self._paced_until - (self._burst - 1) * self._interval - now]
        if len(self._recent) >= self._most:
            waits.append(self._oldest_ends(now))
        return max(waits)

    def begin(self, now: float) -> Request:
        """A request begins. Tell it `sent_at` when it was sent, or when it ended unsent."""
        self._paced_until = max(self._paced_until, now) + self._interval
        request = Request()
        self._recent.append(request)
        return request

    def withdraw(self, request: Request) -> None:
        """A request that began will not be sent after all: it counts for nothing."""
        if request in self._recent:
            self._recent.remove(request)
            self._paced_until -= self._interval

    def _oldest_ends(self, now: float) -> float:
        """When there is room for one more; a request that is not sent yet may still be sent at any moment."""
        sent = sorted(request.sent_at for request in self._recent if request.sent_at is not None)
        unsent = len(self._recent) - len(sent)
        too_many = len(self._recent) - self._most + 1
        if unsent >= self._most or too_many > len(sent):
            return self._interval
        return sent[too_many - 1] + self._window - now

    def _forget(self, now: float) -> None:
        ended = now - self._window
        if any(request.sent_at is not None and request.sent_at <= ended for request in self._recent):
            self._recent = deque(
                request for request in self._recent if request.sent_at is None or request.sent_at > ended
            )
