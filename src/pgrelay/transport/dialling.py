"""How a connection comes to stand: TCP to one of several addresses, and TLS over it."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

import aiohappyeyeballs

from pgrelay.transport.failures import not_connected
from pgrelay.transport.resolver import Addresses

#: Seconds until the next address is tried beside the one before (RFC 8305, section 5).
_NEXT_ADDRESS = 0.25
#: Seconds that the other side has to say goodbye in TLS.
_TLS_GOODBYE = 2.0

SomeProtocol = TypeVar("SomeProtocol", bound=asyncio.Protocol)


async def dial(
    protocol: Callable[[], SomeProtocol],
    host: str,
    addresses: Addresses,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> SomeProtocol:
    """Connect to the first of the addresses that lets us; `host` is what messages call it. Raises Refused."""
    connected: socket.socket | None = None
    try:
        infos = [_address_info(address, family, port) for address, family in addresses.items()]
        connected = await aiohappyeyeballs.start_connection(
            infos, happy_eyeballs_delay=_NEXT_ADDRESS, interleave=1
        )
        _, made = await asyncio.get_running_loop().create_connection(
            protocol,
            sock=connected,
            ssl=tls,
            server_hostname=server_name if tls is not None else None,
            ssl_shutdown_timeout=_TLS_GOODBYE if tls is not None else None,
        )
    except BaseException as error:
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.close()
        if isinstance(error, OSError):
            raise not_connected(error, host) from error
        raise
    return made


def family_of(host: str) -> int:
    """Of a literal address; 0 for a name."""
    try:
        return socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    except ValueError:
        return 0


def _address_info(
    address: str, family: int, port: int
) -> tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    if family == socket.AF_INET6:
        host, _, zone = address.partition("%")
        scope = _interface(zone)
        return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, scope))
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


def _interface(zone: str) -> int:
    """The number of an interface of this machine, by name or number; 0 for none. OSError for one that is not there."""
    if not zone or (zone.isascii() and zone.isdigit()):
        return int(zone or 0)
    try:
        return socket.if_nametoindex(zone)
    except OSError:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO)) from None
