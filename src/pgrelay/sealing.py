"""Secrets at rest: sealed with a key that the database never sees.

Pure: the caller passes the random bytes. A sealed value is `sealed:<id of the key>:<base64url>`, the latter of a nonce
and what AES-256-GCM makes of the text. The webhook's id, and what the value is for, are authenticated with it, so that
who can write the table cannot move a secret to another webhook, or into a header that is sent out.

Several keys make a ring: the first seals, all open. So keys are rotated: put a new one in front, and take the old one
away when nothing is sealed with it any more.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pgrelay.errors import ConfigError, PgrelayError
from pgrelay.signing import generate_secret

PREFIX = "sealed:"
KEY_BYTES = 32
_NONCE_BYTES = 12
_SECRET_BYTES = 32

#: So many random bytes, as from os.urandom.
Random = Callable[[int], bytes]


class Unopened(PgrelayError):
    """A sealed value that these keys do not open. `message` says why, and holds nothing of it."""


class Kept(NamedTuple):
    """What of a webhook is secret, as it stands in the table: sealed or not."""

    secret_key: str | None
    previous_secret_key: str | None
    headers: Mapping[str, str] | None


def read_keys(text: str) -> tuple[bytes, ...]:
    """Keys from base64 of 32 bytes each, separated by spaces or commas. ValueError is the end of a sentence."""
    keys = []
    for word in text.replace(",", " ").split():
        try:
            key = base64.b64decode(word.translate({45: 43, 95: 47}), validate=True)
        except binascii.Error:
            raise ValueError("is not base64: make a key with pgrelay secrets key") from None
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"encodes {len(key)} bytes instead of {KEY_BYTES}: make a key with pgrelay secrets key"
            )
        keys.append(key)
    if not keys:
        raise ValueError("holds no key: make one with pgrelay secrets key")
    return tuple(keys)


def key_ids(text: str) -> tuple[str, ...]:
    """The ids of the keys of a configuration, which may be none; the first seals."""
    return tuple(_key_id(key) for key in read_keys(text)) if text else ()


def write_key(random_bytes: bytes) -> str:
    """A key as `read_keys` reads it."""
    return base64.b64encode(random_bytes).decode()


class Keyring:
    """Keys by their ids; false without any. ConfigError if there are some and the package for them is missing."""

    def __init__(self, text: str = "") -> None:
        keys = read_keys(text) if text else ()
        if keys:
            try:
                from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            except ImportError:
                raise ConfigError(
                    "secrets.key is set, but the Python package cryptography is not installed",
                    "Install it: pip install 'pgrelay[encryption]'",
                ) from None
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the keys; the first seals."""
        return tuple(self._ciphers)

    def seal(self, kept: Kept, webhook_id: int, random: Random) -> Kept:
        """All of it sealed with the first key, and a secret made if there is none. Raises Unopened."""
        opened = self.open(kept, webhook_id)
        first, cipher = next(iter(self._ciphers.items()))

        def one(text: str, purpose: str) -> str:
            nonce = random(_NONCE_BYTES)
            sealed = nonce + cipher.encrypt(nonce, text.encode(), _bound_to(webhook_id, purpose))
            return f"{PREFIX}{first}:{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}"

        secret = opened.secret_key or generate_secret(random(_SECRET_BYTES))
        return _each(Kept(secret, opened.previous_secret_key, opened.headers), one)

    def open(self, kept: Kept, webhook_id: int) -> Kept:
        """All of it in the clear; what is not sealed stays as it is. Raises Unopened."""

        def one(text: str, purpose: str) -> str:
            return self._open(text, _bound_to(webhook_id, purpose)) if text.startswith(PREFIX) else text

        return _each(kept, one)

    def _open(self, text: str, bound_to: bytes) -> str:
        key_id, _, encoded = text.removeprefix(PREFIX).partition(":")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            having = (
                f"the keys here are {', '.join(self._ciphers)}" if self._ciphers else "there is no key here"
            )
            raise Unopened(
                f"sealed with key {key_id[:8]!r}; {having}", "Give it in PGRELAY_SECRETS_KEY (secrets.key)."
            )
        from cryptography.exceptions import InvalidTag

        try:
            sealed = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to).decode()
        except (InvalidTag, ValueError):
            raise Unopened(
                f"sealed with key {key_id}, but for another webhook or purpose, or damaged",
                "Give the webhook a new secret (pgrelay webhooks rotate-secret), or set the header anew.",
            ) from None


def _each(kept: Kept, one: Callable[[str, str], str]) -> Kept:
    """Every value by way of `one`, which is told what it is for."""
    return Kept(
        None if kept.secret_key is None else one(kept.secret_key, "secret"),
        None if kept.previous_secret_key is None else one(kept.previous_secret_key, "secret"),
        None
        if kept.headers is None
        else {name: one(value, f"header {name.lower()}") for name, value in kept.headers.items()},
    )


def _bound_to(webhook_id: int, purpose: str) -> bytes:
    return f"pgrelay webhook {webhook_id} {purpose}".encode()


def _key_id(key: bytes) -> str:
    """Tells keys apart, and nothing of them."""
    return hashlib.sha256(b"pgrelay key id " + key).hexdigest()[:8]
