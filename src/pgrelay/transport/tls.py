"""What TLS goes by: whom we trust, and the certificate that we show to receivers who ask for one.

The system's trust store always counts; `network.ca_file` adds to it. Files are read when the daemon starts and again
at every reload, so that a renewed certificate is taken up without a restart. What is wrong with a file is a
ConfigError that names the key and the file, never a failed attempt.
"""

import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from pgrelay.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tls:
    """A context and what it was made of: equal when the files held the same."""

    context: ssl.SSLContext = field(compare=False, repr=False)
    #: SHA-256 of the files; empty without any.
    digest: str = ""


def load_tls(ca_file: str = "", client_certificate: str = "", client_key: str = "") -> Tls:
    """From absolute paths; empty ones mean none. The key may stand in the file of the certificate.

    Raises ConfigError.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    digest = hashlib.sha256()
    if ca_file:
        digest.update(b"ca" + _read("ca_file", ca_file, b"-----BEGIN CERTIFICATE-----", "no certificate"))
        try:
            context.load_verify_locations(cafile=ca_file)
        except (ssl.SSLError, OSError) as error:
            raise _wrong(
                "ca_file", ca_file, f"is no bundle of certificates in PEM ({_reason(error)})"
            ) from error
    if client_key and not client_certificate:
        raise _wrong("client_key", client_key, "is given without network.client_certificate")
    if client_certificate:
        digest.update(b"certificate" + _read_identity(client_certificate, client_key))
        _load_identity(context, client_certificate, client_key)
    return Tls(context, digest.hexdigest() if ca_file or client_certificate else "")


def _read_identity(client_certificate: str, client_key: str) -> bytes:
    """The contents of both files, which look like what they should be."""
    certificate = _read(
        "client_certificate", client_certificate, b"-----BEGIN CERTIFICATE-----", "no certificate"
    )
    if client_key:
        return certificate + _read("client_key", client_key, b"PRIVATE KEY-----", "no private key")
    if b"PRIVATE KEY-----" not in certificate:
        raise _wrong(
            "client_certificate", client_certificate, "holds no private key; name it in network.client_key"
        )
    return certificate


def _load_identity(context: ssl.SSLContext, client_certificate: str, client_key: str) -> None:
    # OpenSSL would ask for a passphrase on the terminal.
    asked = False

    def no_passphrase() -> str:
        nonlocal asked
        asked = True
        return ""

    holder = ("client_key", client_key) if client_key else ("client_certificate", client_certificate)
    try:
        context.load_cert_chain(client_certificate, client_key or None, password=no_passphrase)
    except (ssl.SSLError, OSError) as error:
        if asked:
            problem = (
                "holds a private key with a passphrase: keep it without, as a credential or with mode 0600"
            )
            raise _wrong(*holder, problem) from error
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise _wrong(*holder, "does not hold the key of the certificate") from error
        raise _wrong(
            "client_certificate", client_certificate, f"cannot be used with its key ({_reason(error)})"
        ) from error


def _read(key: str, path: str, needle: bytes, otherwise: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _wrong(key, path, f"cannot be read: {error.strerror}") from error
    if needle not in content:
        raise _wrong(key, path, f"holds {otherwise} in PEM")
    return content


def _reason(error: Exception) -> str:
    """OpenSSL's word for it, such as "BAD_BASE64_DECODE"."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__


def _wrong(key: str, path: str, problem: str) -> ConfigError:
    return ConfigError(f"network.{key}: {path} {problem}")
