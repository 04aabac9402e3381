"""How single values are written: durations, sizes, numbers, networks, words.

Pure, text to value and back: parse_x(show_x(value)) is value. A parse function raises ValueError with the end
of a sentence that begins with the text ("... is not a duration: ..."). Durations are seconds as float, sizes
bytes as int. Nothing is read the YAML 1.1 way: `12:30` is no number, `010` is not eight, `yes` is not true.
"""

import ipaddress
import json
import re
from decimal import Decimal
from urllib.parse import urlsplit

from pgrelay.sealing import read_keys

DURATION_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
SIZE_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}

#: Fifteen digits: more than any range allows, and exact as a float.
_WHOLE = r"(?:0|[1-9][0-9]{0,14})"
_INTEGER = re.compile(rf"-?{_WHOLE}")
_NUMBER = re.compile(rf"-?{_WHOLE}(?:\.[0-9]{{1,30}})?")
_DURATION = re.compile(rf"({_WHOLE}(?:\.[0-9]{{1,30}})?) ?(ms|s|m|h|d)?")
_GROWTH = re.compile(r"exponential +(\S+) +to +(\S+)|exponential +(\S+?)\.\.(\S+)")
_SIZE = re.compile(rf"({_WHOLE}) ?(B|KiB|MiB|GiB)?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
#: Text that YAML gives back unchanged without quotes, and that no YAML reads as something else.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_NOT_PLAIN = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def parse_duration(text: str) -> float:
    """Seconds."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(
            "is not a duration: write seconds, or a number with ms, s, m, h or d, like 90s or 5m"
        )
    number, unit = float(found[1]), found[2] or "s"
    # Division, because 100 / 1000 is the float 0.1 and 100 * 0.001 is not.
    return number / 1000 if unit == "ms" else number * DURATION_UNITS[unit]


def show_duration(seconds: float) -> str:
    """The shortest exact way to write it, in the largest unit that divides it."""
    for unit, factor in DURATION_UNITS.items():
        if seconds and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    milliseconds = round(seconds * 1000)
    if milliseconds and milliseconds / 1000 == seconds:
        return f"{milliseconds}ms"
    return show_number(seconds) + "s"


def parse_growth(text: str) -> tuple[float, ...] | None:
    """What `exponential 10s to 6h` stands for: each wait twice the one before, 6 h at last. None for other text."""
    if not text.startswith("exponential"):
        return None
    found = _GROWTH.fullmatch(text)
    if found is None:
        raise ValueError("is not a growing schedule: write it like exponential 10s to 6h")
    wait, longest = (_part(part) for part in found.groups() if part is not None)
    if not 0 < wait <= longest:
        raise ValueError("does not grow: the first wait must be more than 0s, and the last no shorter")
    waits = []
    while wait < longest:
        waits.append(wait)
        wait *= 2
    return (*waits, longest)


def _part(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as fault:
        raise ValueError(f"has a wait that is none: {text!r} {fault}") from None


def parse_size(text: str) -> int:
    """Bytes."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError("is not a size: write bytes, or a whole number with KiB, MiB or GiB, like 16KiB")
    return int(found[1]) * SIZE_UNITS.get(found[2] or "B", 1)


def show_size(size: int) -> str:
    """The shortest exact way to write it, in the largest unit that divides it."""
    for unit, factor in SIZE_UNITS.items():
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueError("is not a whole number: write digits alone, like 200")
    return int(text)


def parse_number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError("is not a number: write digits, like 0.25")
    return float(text)


def show_number(number: float) -> str:
    # repr() is the shortest text that reads back as the same float; Decimal writes it without an exponent.
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def parse_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text == "true"


def show_boolean(value: bool) -> str:
    return "true" if value else "false"


def parse_network(text: str) -> str:
    """A network in its usual spelling; a single address is a network of one."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        network = None
    # An interface ("%eth0") belongs to a machine, and no network has one.
    if network is None or "%" in text:
        raise ValueError("is not a network: write it like 10.1.0.0/16 or fd00:12::/32")
    if ipaddress.ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"is not a network, it names an address within {network}")
    return str(network)


def parse_listen(text: str) -> str:
    """HOST:PORT with an address, so that what is bound never depends on a name; IPv6 in brackets."""
    host, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        colon = ""
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or bracketed != (":" in host) or not port.isdecimal() or not 0 <= int(port) <= 65_535:
        raise ValueError("is not an address and a port: write them like 127.0.0.1:8060 or [::1]:8060")
    return text


def parse_word(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise ValueError("is not a name: use up to 63 letters, digits, dots, hyphens and underscores")
    return text


def parse_header_value(text: str) -> str:
    if _HEADER_VALUE.fullmatch(text) is None:
        raise ValueError("cannot stand in a header: use ASCII characters, and no spaces around them")
    return text


def parse_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not a whole path: write it from the root on, like /etc/pgrelay/ca.pem")
    return text


def parse_proxy(text: str) -> str:
    """The URL of a proxy; it may hold credentials, so no message repeats it."""
    form = "is not the URL of a proxy: write http://proxy.example.com:3128, or https://user:password@…"
    try:
        url = urlsplit(text)
        port = url.port  # a ValueError for what is none
    except ValueError:
        raise ValueError(form) from None
    usable = (
        url.scheme in ("http", "https")
        and url.hostname
        and port != 0
        and text.isascii()
        and text.isprintable()
    )
    if not usable or " " in text or url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(form)
    return text


def parse_keys(text: str) -> str:
    """The text itself, with one space between keys."""
    read_keys(text)
    return " ".join(text.replace(",", " ").split())


def parse_text(text: str) -> str:
    return text


def show_text(text: str) -> str:
    """As YAML: plain where that is safe, else in double quotes."""
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _NOT_PLAIN
    return text if plain else json.dumps(text)
