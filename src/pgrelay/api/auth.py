"""Who asks: the token of a request, and a brake on those who guess.

The brake counts failures per address, a minute at a time. Tokens cannot be guessed (256 random bits); what is spared is
the database. A token that was good within the last minutes is looked up all the same, so that one who fails behind a
shared proxy locks out nobody.
"""

from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from pgrelay.api.problems import Fault, Problem
from pgrelay.db.sessions import Sessions
from pgrelay.db.tokens import Access, digest

_FAILURES = 10
_PERIOD = 60.0
#: Addresses and tokens remembered; the oldest are forgotten first.
_REMEMBERED = 10_000
_LONGEST = 512


class Brake:
    """Failed logins of each address within a period."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._good: OrderedDict[bytes, float] = OrderedDict()

    def wait(self, address: str, token_digest: bytes) -> float:
        """Seconds until this address may try such a token again; 0 when it may now."""
        now = self._clock()
        if now - self._good.get(token_digest, -_PERIOD * 10) < _PERIOD * 5:
            return 0.0
        since, count = self._failures.get(address, (now, 0))
        return max(0.0, since + _PERIOD - now) if count >= _FAILURES else 0.0

    def failed(self, address: str) -> None:
        now = self._clock()
        since, count = self._failures.pop(address, (now, 0))
        self._failures[address] = (since, count + 1) if now - since < _PERIOD else (now, 1)
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, token_digest: bytes) -> None:
        self._good.pop(token_digest, None)
        self._good[token_digest] = self._clock()
        while len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)


async def authenticated(
    sessions: Sessions, brake: Brake, authorization: str | None, address: str, refused: Callable[[str], None]
) -> Access:
    """Whose token the header Authorization carries. Raises Problem: 401, or 429 for one who failed too often.

    `refused` is told the address of each token that is not good.
    """
    if authorization is None:
        raise _unauthorized("a token is needed: Authorization: Bearer pgrelay_…", "")
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token.strip()) <= _LONGEST:
        raise _unauthorized("the header Authorization must be: Bearer pgrelay_…", ', error="invalid_request"')
    token_digest = digest(token.strip())
    wait = brake.wait(address, token_digest)
    if wait:
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-failures",
            "too many tokens from this address were not good",
            headers={"Retry-After": str(int(wait) + 1)},
        )
    access = await sessions.whose(token_digest)
    if access is None:
        brake.failed(address)
        refused(address)
        raise _unauthorized("the token is unknown, revoked or expired", ', error="invalid_token"')
    brake.succeeded(token_digest)
    return access


def _unauthorized(detail: str, error: str) -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        detail,
        faults=[Fault(detail, header="Authorization")],
        headers={"WWW-Authenticate": f'Bearer realm="pgrelay"{error}'},
    )
