"""Which kind of failure an exception stands for, and the sentence that people read.

By class alone: texts of errors change with every release, and may hold the URL or what the receiver wrote.
The sentence names the host, never path, query or headers.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from http import HTTPStatus

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from pgrelay.delivery import ErrorKind, Failure

#: The share of a request's time within which its connection must stand. Who is not reached by then would not
#: answer in what is left; and so "not reached" and "did not answer" can be told apart.
CONNECT_SHARE = 0.95
#: Characters of all headers of an answer together, for they are recorded. aiohttp takes 128 headers at most,
#: and 8,190 bytes in each.
MAX_HEAD = 65_536


class Refused(Exception):
    """What a name resolves to may not be called. No OSError, so that it passes through aiohttp unchanged."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class TooLarge(Exception):
    """The headers of an answer hold more than MAX_HEAD characters."""


#: What comes out of a request, whatever the receiver did. A ValueError is about what we would write: aiohttp
#: refuses a line break in a header, for one.
EXPECTED = (aiohttp.ClientError, OSError, ValueError, Refused, TooLarge)


def explain(error: Exception, host: str, seconds: float) -> tuple[ErrorKind, str]:
    """What went wrong with a request to `host` that had `seconds`, given one of the EXPECTED errors."""
    causes = list(_causes(error))
    tls = next((cause for cause in reversed(causes) if isinstance(cause, ssl.SSLError)), None)
    malformed = next(
        (type(cause) for cause in reversed(causes) if isinstance(cause, HttpProcessingError)), None
    )
    match error:
        case Refused(failure=failure):
            return failure.kind, failure.message
        case aiohttp.ConnectionTimeoutError():
            return ErrorKind.TIMEOUT, f"{host} was not reached within {seconds * CONNECT_SHARE:g} s"
        case TimeoutError():
            return ErrorKind.TIMEOUT, f"{host} did not answer in full within {seconds:g} s"
        case aiohttp.ClientConnectorDNSError(os_error=fault) | (socket.gaierror() as fault):
            return ErrorKind.DNS, f"{host} does not resolve: {fault.strerror or type(fault).__name__}"
        case aiohttp.ClientHttpProxyError(status=status):
            wants = (
                ", which wants other credentials,"
                if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
                else ""
            )
            return (
                ErrorKind.CONNECT,
                f"the proxy{wants} answered HTTP {status} when asked to connect to {host}",
            )
        case _ if tls is not None:
            return ErrorKind.TLS, f"no TLS with {host}: {_tls_text(tls)}"
        case aiohttp.ClientConnectorError(os_error=fault):
            return ErrorKind.CONNECT, f"no connection to {host}: {_system_text(fault)}"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ErrorKind.INVALID_URL, f"the URL at {host} cannot be called"
        case TooLarge():
            return ErrorKind.TOO_LARGE, f"{host} answered with more than {MAX_HEAD} characters of headers"
        case aiohttp.ClientResponseError() if malformed is LineTooLong:
            return ErrorKind.TOO_LARGE, f"{host} answered with a header that is too long"
        case aiohttp.ClientResponseError():
            return ErrorKind.PROTOCOL, f"{host} answered with something else than HTTP ({_name(malformed)})"
        case aiohttp.ClientPayloadError():
            return ErrorKind.PROTOCOL, f"{host} sent a broken or incomplete body ({_name(malformed)})"
        case aiohttp.ServerDisconnectedError():
            return ErrorKind.PROTOCOL, f"{host} closed the connection without an answer"
        case OSError() | aiohttp.ClientConnectionError():
            return ErrorKind.CONNECT, f"{host} broke off the connection: {_system_text(error)}"
    return ErrorKind.PROTOCOL, f"the request to {host} cannot be written: {type(error).__name__}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def _name(malformed: type[BaseException] | None) -> str:
    return "no reason given" if malformed is None else malformed.__name__


def _tls_text(error: ssl.SSLError) -> str:
    """Such as "self-signed certificate" or "WRONG_VERSION_NUMBER"."""
    # Both attributes are set by OpenSSL alone, not by who raises such an error in Python.
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"its certificate was not accepted: {refused}"
    return getattr(error, "reason", None) or type(error).__name__


def _system_text(error: Exception) -> str:
    """Such as "Connection refused"."""
    number = error.errno if isinstance(error, OSError) else None
    return type(error).__name__ if number is None else os.strerror(number)
