"""What a certificate says of itself, trusted or not.

The standard library decodes a peer's certificate only once it is verified, and the interesting ones are not. So the few
fields that people ask for are read from its DER (X.690, RFC 5280 section 4.1), with nothing believed: a certificate
that is none is a ValueError, whatever its bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_EXPLICIT_0, _EXPLICIT_3, _OID, _UTC_TIME = 0xA0, 0xA3, 0x06, 0x17
_BMP_STRING = 0x1E
#: Of SubjectAltName: a DNS name, an address.
_DNS, _ADDRESS = 0x82, 0x87
_ALTERNATIVE_NAMES = bytes((0x55, 0x1D, 0x11))
_ATTRIBUTES = {
    bytes((0x55, 0x04, number)): name for number, name in ((3, "CN"), (10, "O"), (11, "OU"), (6, "C"))
}


@dataclass(frozen=True, slots=True)
class Certificate:
    """Subject and issuer as `CN=…, O=…`; the names that it is for; from when to when it is valid."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    starts: datetime
    ends: datetime


def read_certificate(der: bytes) -> Certificate:
    """ValueError for what is no X.509 certificate."""
    try:
        return _read(der)
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError("no certificate in DER") from error


def _read(der: bytes) -> Certificate:
    _, whole = next(_values(der))
    _, signed = next(_values(whole))
    fields = list(_values(signed))
    if fields[0][0] == _EXPLICIT_0:  # the version, which only those of version 1 lack
        del fields[0]
    # serial number, signature algorithm, issuer, validity, subject, public key, extensions
    issuer, validity, subject = (content for _, content in fields[2:5])
    starts, ends = (_moment(kind, content) for kind, content in _values(validity))
    extensions = next((content for kind, content in fields[6:] if kind == _EXPLICIT_3), b"")
    return Certificate(_name(subject), _name(issuer), tuple(_alternative_names(extensions)), starts, ends)


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of what stands in `data`, one after the other."""
    at = 0
    while at < len(data):
        kind, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        if at + length > len(data):
            raise IndexError
        yield kind, data[at : at + length]
        at += length


def _name(content: bytes) -> str:
    parts = []
    for _, several in _values(content):
        for _, pair in _values(several):
            (_, attribute), (kind, text) = _values(pair)
            if attribute in _ATTRIBUTES:
                encoding = "utf-16-be" if kind == _BMP_STRING else "utf-8"
                parts.append(f"{_ATTRIBUTES[attribute]}={text.decode(encoding, 'replace')}")
    return ", ".join(parts) or "(no name)"


def _moment(kind: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if kind == _UTC_TIME:  # two digits of the year, which are of 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _alternative_names(extensions: bytes) -> Iterator[str]:
    for _, sequence in _values(extensions):
        for _, extension in _values(sequence):
            parts = list(_values(extension))
            if parts[0] == (_OID, _ALTERNATIVE_NAMES):
                _, names = next(_values(parts[-1][1]))
                for kind, content in _values(names):
                    if kind == _DNS:
                        yield content.decode("ascii")
                    elif kind == _ADDRESS:
                        yield str(ip_address(content))
