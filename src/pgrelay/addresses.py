"""Which URLs, and which of the addresses that a name resolves to, may be called.

Pure policy: `transport` resolves names, and binds connections to the addresses approved here. A tenant
chooses the URL, so without this the daemon would fetch the inside of its own network for whoever asks.

An address is refused unless it is global unicast: the table below follows the special-purpose registries of
IANA (IPv4 and IPv6), and adds the metadata services of clouds and everything outside 2000::/3. One refused
address in an answer refuses all of it: public and private addresses in one answer are an attack or a mistake.
IPv6 forms that carry an IPv4 address to which the traffic goes (mapped, NAT64) are judged by that address.
Networks that the operator allows win over the table.

A URL is read strictly (ASCII, no backslash, no credentials, no unusual spelling of an IPv4 address), so that
no other parser can see another host in it than was judged.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pgrelay.delivery import ErrorKind, Failure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Networks never called unless allowed, each with what it is. The first that holds an address is the reason.
REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("169.254.169.254/32", "cloud metadata service"),
        ("169.254.170.2/32", "cloud metadata service"),
        ("100.100.100.200/32", "cloud metadata service"),
        ("168.63.129.16/32", "cloud metadata service"),
        ("0.0.0.0/32", "unspecified"),
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("fd00:ec2::254/128", "cloud metadata service"),
        ("fd20:ce::254/128", "cloud metadata service"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "dummy prefix"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "benchmarking"),
        ("2001:10::/28", "ORCHID"),
        ("2001:20::/28", "ORCHIDv2"),
        ("2001::/23", "IETF protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("::/3", "not global unicast"),
        ("4000::/2", "not global unicast"),
        ("8000::/1", "not global unicast"),
    )
)

_NAT64 = IPv6Network("64:ff9b::/96")

_REFUSED_RANGES = {
    version: tuple(
        (int(network[0]), int(network[-1]), f"{what} {network}")
        for network, what in REFUSED
        if network.version == version
    )
    for version in (4, 6)
}

# RFC 3986, appendix B, without the parts that do not matter here.
_URL = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):)?(?://(?P<authority>[^/?#]*))?.*")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]+))?")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
_LONGEST_HOST = 253
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows beyond global unicast addresses over https."""

    allowed_networks: tuple[Network, ...] = ()
    allow_http: bool = False

    @classmethod
    def of(cls, allowed_networks: Iterable[str], *, allow_http: bool = False) -> "Policy":
        """From networks as the configuration writes them; ValueError for what is none, or has host bits."""
        return cls(tuple(ip_network(network) for network in allowed_networks), allow_http)


def check_url(url: str, policy: Policy) -> Failure | None:
    """Why the URL may not be called, as far as it tells by itself; None if its host may be tried.

    Kinds: `invalid_url` for what is no usable URL, `blocked_address` for what policy forbids. Messages name
    the host at most, never the URL, which may hold secrets.
    """
    try:
        scheme, host = _scheme_and_host(url)
        address = _literal_address(host)
    except ValueError as fault:
        return Failure(ErrorKind.INVALID_URL, f"the URL {fault}")
    if scheme == "http" and not policy.allow_http:
        return _blocked(f"{host} would be called over http, in the clear: network.allow_http is off")
    if address is None:
        return None
    rule = refusal(address, policy)
    if rule is not None:
        return _blocked(f"{host} is refused: {rule}")
    if address.version == 4 and str(address) != host:
        return Failure(ErrorKind.INVALID_URL, f"the URL spells its IPv4 address oddly: write {address}")
    return None


def check_addresses(host: str, addresses: Iterable[str], policy: Policy) -> Failure | None:
    """Why none of the addresses that `host` resolved to may be called; None if all of them may.

    One refused address refuses the answer. An answer without any address is a failure of kind `dns`.
    """
    seen = False
    for text in addresses:
        seen = True
        try:
            address = ip_address(text)
        except ValueError:
            return _blocked(f"{host} resolves to {text!r}, which is no address")
        rule = refusal(address, policy)
        if rule is not None:
            return _blocked(f"{host} resolves to {text}: {rule}")
    return None if seen else Failure(ErrorKind.DNS, f"{host} has no address")


def refusal(address: Address, policy: Policy) -> str | None:
    """The rule that forbids calling the address, such as "loopback 127.0.0.0/8"; None if none does."""
    called = _called(address)
    if any(called in network for network in policy.allowed_networks):
        return None
    number = int(called)
    for first, last, rule in _REFUSED_RANGES[called.version]:
        if first <= number <= last:
            return rule
    return None


def _scheme_and_host(url: str) -> tuple[str, str]:
    """Both as written, the scheme in lower case. ValueError says what is wrong with the URL."""
    if not url.isascii():
        raise ValueError("holds characters outside ASCII: write the host as xn--…, percent-encode the rest")
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("holds a space, a backslash or a control character")
    parts = _URL.fullmatch(url)
    if parts is None or not parts["scheme"] or not parts["authority"]:
        raise ValueError("has no scheme or no host: https://host/path is wanted")
    if parts["scheme"].lower() not in {"https", "http"}:
        raise ValueError(f"has the scheme {parts['scheme'][:20]}, not https")
    if "@" in parts["authority"]:
        raise ValueError("holds credentials: send them in a header")
    host_and_port = _AUTHORITY.fullmatch(parts["authority"])
    if host_and_port is None:
        raise ValueError("has a malformed host or port")
    host, port = host_and_port.groups()
    if port is not None and not (len(port) <= len(str(_HIGHEST_PORT)) and 1 <= int(port) <= _HIGHEST_PORT):
        raise ValueError(f"has a port outside 1 to {_HIGHEST_PORT}")
    return parts["scheme"].lower(), host


def _literal_address(host: str) -> Address | None:
    """The address that the host is, in whatever spelling; None for a name; ValueError for neither."""
    if host.startswith("["):
        try:  # a zone names an interface of this machine; what is reached through it is judged without
            return IPv6Address(host[1:-1].partition("%")[0])
        except ValueError:
            raise ValueError("has a malformed IPv6 address") from None
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):  # no top-level domain is a number, so resolvers read an IPv4 address
        address = _spelled_address(labels)
        if address is None:
            raise ValueError("has a malformed IPv4 address")
        return address
    if len(host) > _LONGEST_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("has a malformed host")
    return None


def _called(address: Address) -> Address:
    """The address that the traffic goes to: the IPv4 address inside, and without zone."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    number = int(address)
    return IPv4Address(number & 0xFFFF_FFFF) if IPv6Address(number) in _NAT64 else IPv6Address(number)


def _spelled_address(labels: list[str]) -> IPv4Address | None:
    """As inet_aton reads it: up to four numbers, decimal, octal or hexadecimal, the last filling the rest."""
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) and len(label) <= 16 for label in labels):
        return None
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:  # 08 is no octal number
        return None
    *leading, last = numbers
    if any(number > 255 for number in leading) or last >= 256 ** (5 - len(numbers)):
        return None
    return IPv4Address(sum(number << 8 * (3 - place) for place, number in enumerate(leading)) + last)


def _number(label: str) -> int:
    if label[:2] in {"0x", "0X"}:
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _blocked(message: str) -> Failure:
    return Failure(ErrorKind.BLOCKED_ADDRESS, message)


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach an address ("HOST:PORT"). A name other than localhost is taken for public."""
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
