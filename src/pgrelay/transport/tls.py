"""What TLS goes by: whom we trust, and the certificate that we show to receivers who ask for one.

The system's trust store always counts; `network.ca_file` adds to it. Files are read when the daemon starts and again
at every reload, so that a renewed certificate is taken up without a restart. What is wrong with a file is a
ConfigError that names the key and the file, never a failed attempt.
"""

import hashlib
import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pgrelay.errors import ConfigError

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Tls:
    """A context and what it was made of: equal when the files held the same."""

    context: ssl.SSLContext = field(compare=False, repr=False)
    #: SHA-256 of the files; empty without any.
    digest: str = ""
    #: When the client certificate ends, if there is one and it says so.
    ends: datetime | None = field(default=None, compare=False)


def load_tls(ca_file: str = "", client_certificate: str = "", client_key: str = "") -> Tls:
    """From absolute paths; empty ones mean none. The key may stand in the file of the certificate.

    Raises ConfigError.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    digest, ends = hashlib.sha256(), None
    if ca_file:
        digest.update(b"ca" + _read("ca_file", ca_file, _BEGIN, "no certificate"))
        try:
            context.load_verify_locations(cafile=ca_file)
        except (ssl.SSLError, OSError) as error:
            raise _wrong(
                "ca_file", ca_file, f"is no bundle of certificates in PEM ({_reason(error)})"
            ) from error
    if client_key and not client_certificate:
        raise _wrong("client_key", client_key, "is given without network.client_certificate")
    if client_certificate:
        content = _read_identity(client_certificate, client_key)
        digest.update(b"certificate" + content)
        ends = _end_of(content)
        _load_identity(context, client_certificate, client_key)
    return Tls(context, digest.hexdigest() if ca_file or client_certificate else "", ends)


def _read_identity(client_certificate: str, client_key: str) -> bytes:
    """The contents of both files, which look like what they should be."""
    certificate = _read("client_certificate", client_certificate, _BEGIN, "no certificate")
    if client_key:
        return certificate + _read("client_key", client_key, b"PRIVATE KEY-----", "no private key")
    if b"PRIVATE KEY-----" not in certificate:
        raise _wrong(
            "client_certificate", client_certificate, "holds no private key; name it in network.client_key"
        )
    return certificate


# Of X.509: Validity, a sequence of two times, each a UTCTime or a GeneralizedTime in UTC (RFC 5280, section 4.1.2.5).
_TIME = rb"(?:\x17\x0d([0-9]{12})Z|\x18\x0f([0-9]{14})Z)"
_VALIDITY = re.compile(rb"\x30[\x1e\x20\x22]" + _TIME + _TIME)


def _end_of(pem: bytes) -> datetime | None:
    """When the first certificate ends. The standard library reads certificates of others only, not our own."""
    first = pem[pem.index(_BEGIN) :].partition(_END)[0] + _END
    try:
        found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(first.decode("ascii")))
        if found is None:
            return None
        text = (found[4] or (b"19" if found[3] >= b"50" else b"20") + found[3]).decode()
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # what is no certificate is told when it is loaded
        return None


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
