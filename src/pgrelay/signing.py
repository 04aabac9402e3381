"""Secrets, the two signatures of a request, and their verification by a receiver.

Pure: the caller passes the clock and the random bytes. Times are whole or fractional seconds since the epoch.

Two schemes go with every request, both HMAC-SHA256:

* classic, `X-Webhook-Signature: sha256=<hex>`, over the raw body, keyed with the whole secret string;
* standard, `webhook-signature: v1,<base64>`, over `<webhook-id>.<webhook-timestamp>.<body>`, keyed with the
  bytes that the base64 after `whsec_` stands for (Standard Webhooks 1.0.0). Several may stand in one header,
  separated by spaces, which is how a secret is rotated without a gap.

A secret that is not `whsec_` + base64 of 24 to 64 bytes has no key that a Standard Webhooks library would
agree on, so it serves the classic scheme alone: better no signature than one that no receiver can verify.
"""

import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pgrelay.errors import PgrelayError

SECRET_PREFIX = "whsec_"
#: Length in bytes of the key inside a secret, as the Standard Webhooks specification sets it.
SHORTEST_KEY, LONGEST_KEY = 24, 64

CLASSIC_HEADER = "X-Webhook-Signature"
ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
STANDARD_HEADER = "webhook-signature"

#: How far the sender's clock may be from the receiver's, either way; the published libraries have the same.
TOLERANCE_SECONDS = 300.0

# Digits of a timestamp that is worth reading: 12 reach the year 33658, and int() stays cheap.
_LONGEST_TIMESTAMP = 12


class Scheme(StrEnum):
    """Which of the two signatures."""

    CLASSIC = "classic"
    STANDARD = "standard"


class WrongSignature(PgrelayError):
    """A request that must not be believed. `message` says why, and never holds the expected signature."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a request's signature is worth: true when it was made with the secret, and in time."""

    scheme: Scheme | None
    #: Why it was refused; empty when it was not.
    reason: str = ""

    def __bool__(self) -> bool:
        return self.scheme is not None


def generate_secret(random_bytes: bytes) -> str:
    """A secret that serves both schemes, from 24 to 64 bytes of the caller's best randomness."""
    if not SHORTEST_KEY <= len(random_bytes) <= LONGEST_KEY:
        raise ValueError(f"a secret takes {SHORTEST_KEY} to {LONGEST_KEY} bytes, not {len(random_bytes)}")
    return SECRET_PREFIX + _base64(random_bytes)


def is_standard(secret: str) -> bool:
    """Whether the secret can key the Standard Webhooks signature, and not the classic one alone."""
    return _standard_key(secret) is not None


def classic_signature(secret: str, body: bytes) -> str:
    """The value of X-Webhook-Signature."""
    return "sha256=" + _Key(secret.encode()).digest(b"", body).hex()


def standard_signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature for webhook-signature. ValueError for a secret that serves the classic scheme only."""
    key = _standard_key(secret)
    if key is None:
        raise ValueError(
            f"the secret is not {SECRET_PREFIX} and base64 of {SHORTEST_KEY} to {LONGEST_KEY} bytes: "
            f"it can key {CLASSIC_HEADER} only"
        )
    return "v1," + _base64(_Key(key).digest(f"{message_id}.{timestamp}.".encode(), body))


class Signer:
    """Signs the requests of one webhook; holds the keys prepared, for the sake of the hot path.

    With a `previous_secret`, as during a rotation, the standard header carries a signature of each, the new
    one first. The classic header has room for one, and that is the new secret's.
    """

    __slots__ = ("_classic", "_standard")

    def __init__(self, secret: str, previous_secret: str | None = None) -> None:
        self._classic = _Key(secret.encode())
        secrets = [secret] if previous_secret is None else [secret, previous_secret]
        self._standard = [_Key(key) for key in map(_standard_key, secrets) if key is not None]

    def sign(self, message_id: str, timestamp: int, body: bytes) -> tuple[str, str | None]:
        """Values of X-Webhook-Signature and of webhook-signature; the latter None if no secret can key it."""
        classic = "sha256=" + self._classic.digest(b"", body).hex()
        if not self._standard:
            return classic, None
        head = f"{message_id}.{timestamp}.".encode()
        return classic, " ".join(["v1," + _base64(key.digest(head, body)) for key in self._standard])


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    now: float,
    tolerance: float = TOLERANCE_SECONDS,
    require: Scheme | None = None,
) -> Scheme:
    """The scheme by which the request is genuine; raises WrongSignature, saying why, if it is not.

    `body` is the raw body as received, `now` the receiver's clock. See `examine` for what is accepted.
    """
    found = examine(body, headers, secret, now=now, tolerance=tolerance, require=require)
    if found.scheme is None:
        raise WrongSignature(found.reason)
    return found.scheme


def examine(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    now: float,
    tolerance: float = TOLERANCE_SECONDS,
    require: Scheme | None = None,
) -> Verification:
    """What `verify` finds, as a value, for those who want to show it.

    Where the standard header is present (and the secret can key it), it alone decides: falling back to the
    classic signature, which covers no timestamp, would let an old request pass. Who must be safe from replays
    altogether says `require=Scheme.STANDARD`, for whoever replays a request can also strip headers from it.
    """
    received = _of_interest(headers)
    key = _standard_key(secret)
    if require is Scheme.STANDARD and key is None:
        return _refused(f"the secret cannot key {STANDARD_HEADER}: it is no {SECRET_PREFIX} secret")
    has_standard = STANDARD_HEADER in received or require is Scheme.STANDARD
    if has_standard and key is not None and require is not Scheme.CLASSIC:
        return _examine_standard(body, received, key, now, tolerance)
    return _examine_classic(body, received, secret)


def _examine_classic(body: bytes, received: Mapping[str, str], secret: str) -> Verification:
    signature = received.get(CLASSIC_HEADER.lower())
    if signature is None:
        return _refused(f"no {CLASSIC_HEADER} among the headers, and no {STANDARD_HEADER} to judge instead")
    if not signature.startswith("sha256="):
        return _refused(f"{CLASSIC_HEADER} does not begin with sha256=")
    if not _same(signature, classic_signature(secret, body)):
        return _refused(f"{CLASSIC_HEADER} is not of this body and secret")
    return Verification(Scheme.CLASSIC)


def _examine_standard(
    body: bytes, received: Mapping[str, str], key: bytes, now: float, tolerance: float
) -> Verification:
    absent = [name for name in (STANDARD_HEADER, ID_HEADER, TIMESTAMP_HEADER) if not received.get(name)]
    if absent:
        return _refused(f"no {' and no '.join(absent)} among the headers")
    message_id, timestamp = received[ID_HEADER], received[TIMESTAMP_HEADER]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        return _refused(f"{TIMESTAMP_HEADER} is not a whole number of seconds")
    head = f"{message_id}.{timestamp}.".encode(errors="backslashreplace")
    expected = "v1," + _base64(_Key(key).digest(head, body))
    # All are compared before any counts, so that the time taken does not tell which one it was.
    matches = [_same(signature, expected) for signature in received[STANDARD_HEADER].split()]
    if not any(matches):
        return _refused(f"{STANDARD_HEADER} holds no v1 signature of this body, id, timestamp and secret")
    # The signature first: "genuine but late" and "forged" are different news to whoever reads the reason.
    late = now - int(timestamp)
    if not abs(late) <= tolerance:
        word = "old" if late > 0 else "ahead of this clock"
        return _refused(f"genuine, but {abs(late):.0f} s {word}; {tolerance:.0f} s are tolerated")
    return Verification(Scheme.STANDARD)


def _refused(reason: str) -> Verification:
    return Verification(None, reason)


_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


class _Key:
    """An HMAC-SHA256 key with both its pads already hashed (RFC 2104, section 4).

    Copying two SHA-256 states makes a signature of 1 KB cost 2 us, where hmac.digest() costs 5 us and a
    copied hmac object 7 us (CPython 3.11, OpenSSL 3). The states are copied and never updated, so one key may
    serve any number of callers.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = hashlib.sha256().block_size
        padded = (hashlib.sha256(key).digest() if len(key) > block else key).ljust(block, b"\0")
        self._inner = hashlib.sha256(padded.translate(_INNER_PAD))
        self._outer = hashlib.sha256(padded.translate(_OUTER_PAD))

    def digest(self, head: bytes, body: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(head + body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def _standard_key(secret: str) -> bytes | None:
    if not secret.startswith(SECRET_PREFIX):
        return None
    try:
        key = binascii.a2b_base64(secret[len(SECRET_PREFIX) :], strict_mode=True)
    except ValueError:  # not base64 (binascii.Error), or not ASCII
        return None
    return key if SHORTEST_KEY <= len(key) <= LONGEST_KEY else None


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _same(left: str, right: str) -> bool:
    # As bytes: compare_digest takes no text outside ASCII, and a forged header may hold anything.
    return hmac.compare_digest(left.encode(errors="backslashreplace"), right.encode())


def _of_interest(headers: Mapping[str, str]) -> dict[str, str]:
    """Our headers among the received, by lower-case name. Of a name sent twice, the first counts."""
    names = {CLASSIC_HEADER.lower(), ID_HEADER, TIMESTAMP_HEADER, STANDARD_HEADER}
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() in names:
            found.setdefault(name.lower(), value.strip())
    return found
