"""Secrets at rest: what is sealed opens in its own place alone, with keys that are rotated."""

import base64
import builtins
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.errors import ConfigError
from pgrelay.sealing import Kept, Keyring, Unopened, key_ids, read_keys, write_key
from pgrelay.signing import is_standard

OLD, NEW = write_key(b"o" * 32), write_key(b"n" * 32)
KEPT = Kept("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None, {"Authorization": "Bearer 1", "X-Tenant": "1"})
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: not text.startswith("sealed:")
)


def texts_of(kept: Kept) -> list[str]:
    return [kept.secret_key or "", kept.previous_secret_key or "", *(kept.headers or {}).values()]


@given(texts, texts | st.none(), st.dictionaries(texts, texts) | st.none(), st.integers(1))
def test_what_was_sealed_opens_to_what_it_was(secret, previous, headers, webhook_id):
    kept = Kept(secret, previous, headers)
    ring = Keyring(NEW)
    sealed = ring.seal(kept, webhook_id, os.urandom)
    assert ring.open(sealed, webhook_id) == kept
    assert all(text.startswith("sealed:") for text in texts_of(sealed) if text)


def test_sealed_text_holds_nothing_readable_and_is_never_the_same_twice():
    one, other = (Keyring(NEW).seal(KEPT, 1, os.urandom) for _ in range(2))
    assert one.secret_key != other.secret_key
    for text in texts_of(one)[0:1] + texts_of(one)[2:]:
        name, key_id, encoded = text.split(":")
        assert (name, key_id) == ("sealed", key_ids(NEW)[0])
        raw = base64.urlsafe_b64decode(encoded + "==")
        assert b"whsec_" not in raw and b"Bearer" not in raw


def test_what_is_in_the_clear_is_left_as_it_is():
    assert Keyring().open(KEPT, 1) == KEPT
    assert Keyring(NEW).open(KEPT, 1) == KEPT


def test_a_secret_that_is_not_there_yet_is_made():
    made = Keyring(NEW).open(Keyring(NEW).seal(Kept(None, None, None), 7, os.urandom), 7)
    assert made.secret_key is not None and is_standard(made.secret_key)


def test_a_sealed_value_opens_for_its_own_webhook_and_purpose_alone():
    ring = Keyring(NEW)
    sealed = ring.seal(KEPT, 1, os.urandom)
    with pytest.raises(Unopened, match="for another webhook or purpose, or damaged"):
        ring.open(sealed, 2)
    # who can write the table, and has no key, cannot have the secret sent out as a header
    with pytest.raises(Unopened):
        ring.open(Kept(None, None, {"X-Stolen": sealed.secret_key or ""}), 1)
    with pytest.raises(Unopened):
        ring.open(Kept(None, None, {"X-Tenant": (sealed.headers or {})["Authorization"]}), 1)
    # during a rotation by SQL the secret becomes the previous one
    assert ring.open(Kept(None, sealed.secret_key, None), 1).previous_secret_key == KEPT.secret_key
    assert ring.open(Kept(None, None, {"authorization": (sealed.headers or {})["Authorization"]}), 1)


@pytest.mark.parametrize(
    "damage", ["sealed:", "sealed:x", "sealed:{id}:", "sealed:{id}:!!", "sealed:{id}:AAAA", "{all}AA"]
)
def test_a_damaged_value_is_refused_and_not_repeated(damage):
    ring = Keyring(NEW)
    sealed = ring.seal(KEPT, 1, os.urandom).secret_key or ""
    text = damage.format(id=ring.ids[0], all=sealed)
    with pytest.raises(Unopened) as caught:
        ring.open(Kept(text, None, None), 1)
    assert sealed not in str(caught.value)


def test_the_first_key_seals_and_all_open_so_that_keys_can_be_rotated():
    sealed = Keyring(OLD).seal(KEPT, 1, os.urandom)
    both = Keyring(f"{NEW} {OLD}")
    assert both.open(sealed, 1) == KEPT
    renewed = both.seal(sealed, 1, os.urandom)
    assert Keyring(NEW).open(renewed, 1) == KEPT
    with pytest.raises(
        Unopened, match=f"sealed with key '{key_ids(OLD)[0]}'; the keys here are {key_ids(NEW)[0]}"
    ):
        Keyring(NEW).open(sealed, 1)
    with pytest.raises(Unopened, match="there is no key here"):
        Keyring().open(sealed, 1)


def test_keys_are_base64_of_32_bytes_in_either_alphabet():
    raw = b"\xfb\xff" * 16
    assert (
        read_keys(base64.b64encode(raw).decode())
        == read_keys(base64.urlsafe_b64encode(raw).decode())
        == (raw,)
    )
    assert read_keys(f"{OLD}, {NEW}") == (b"o" * 32, b"n" * 32)
    for text, problem in {
        "": "holds no key",
        ",": "holds no key",
        "hush!": "is not base64",
        base64.b64encode(b"short").decode(): "encodes 5 bytes instead of 32",
    }.items():
        with pytest.raises(ValueError, match=problem) as caught:
            read_keys(text)
        assert "hush" not in str(caught.value)


def test_a_key_without_the_package_is_an_error_that_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert not Keyring()
    with pytest.raises(ConfigError) as caught:
        Keyring(NEW)
    assert "pgrelay[encryption]" in caught.value.remedy
