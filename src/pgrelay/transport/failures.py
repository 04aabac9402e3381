"""Which kind of failure stands for what went wrong with a request, and the sentence that people read.

Decided where the fault is met, by class alone: texts of errors change with every release, and may hold the URL or what
the receiver wrote. The sentence names the host, never path, query or headers.
"""

import os
import socket
import ssl
from http import HTTPStatus

from pgrelay.delivery import ErrorKind, Failure

#: The share of a request's time within which its connection must stand. Who is not reached by then would not
#: answer in what is left; and so "not reached" and "did not answer" can be told apart.
CONNECT_SHARE = 0.95
#: Characters of all headers of an answer together, for they are recorded.
MAX_HEAD = 65_536
#: Headers of an answer, and bytes in the name or the value of one.
MAX_HEADERS, MAX_HEADER = 128, 8_190


class Refused(Exception):
    """A request that came to nothing, for a reason that is known: the name may not be called, no answer came."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure
        #: The connection ended, and not a byte of an answer had come.
        self.unanswered = False

    @classmethod
    def of(cls, kind: ErrorKind, message: str) -> "Refused":
        """With that reason."""
        return cls(Failure(kind, message))


def not_reached(host: str, seconds: float) -> Refused:
    """No connection in time."""
    return Refused.of(ErrorKind.TIMEOUT, f"{host} was not reached within {seconds:g} s")


def not_answered(host: str, seconds: float) -> Refused:
    """A connection, and no complete answer in time."""
    return Refused.of(ErrorKind.TIMEOUT, f"{host} did not answer in full within {seconds:g} s")


def refused_by_proxy(host: str, status: int) -> Refused:
    """The proxy opens no tunnel."""
    wants = ", which wants other credentials," if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else ""
    return Refused.of(
        ErrorKind.CONNECT, f"the proxy{wants} answered HTTP {status} when asked to connect to {host}"
    )


def too_large(host: str) -> Refused:
    """More headers than anybody wants to keep."""
    return Refused.of(ErrorKind.TOO_LARGE, f"{host} answered with more than {MAX_HEAD} characters of headers")


def no_http(host: str, reason: str) -> Refused:
    """An answer in another language."""
    return Refused.of(ErrorKind.PROTOCOL, f"{host} answered with something else than HTTP ({reason})")


def broken_body(host: str, reason: str) -> Refused:
    """A head whose body does not hold what it promises."""
    return Refused.of(ErrorKind.PROTOCOL, f"{host} sent a broken or incomplete body ({reason})")


def no_answer(host: str) -> Refused:
    """Hung up."""
    return Refused.of(ErrorKind.PROTOCOL, f"{host} closed the connection without an answer")


def not_connected(error: OSError, host: str) -> Refused:
    """No connection, or no TLS over it. ssl.SSLError and socket.gaierror are OSErrors."""
    kind, message = explain(error, host)
    if kind is ErrorKind.CONNECT:
        message = f"no connection to {host}: {system_text(error)}"
    return Refused.of(kind, message)


def broken_off(error: Exception, host: str) -> Refused:
    """The connection ended before an answer had come."""
    return Refused.of(*explain(error, host))


def explain(error: Exception, host: str) -> tuple[ErrorKind, str]:
    """What went wrong in talking to `host`, given what came out of the system's or OpenSSL's hands."""
    match error:
        case Refused(failure=failure):
            return failure.kind, failure.message
        case socket.gaierror():
            return ErrorKind.DNS, f"{host} does not resolve: {error.strerror or type(error).__name__}"
        case ssl.SSLError():
            return ErrorKind.TLS, f"no TLS with {host}: {_tls_text(error)}"
        case OSError():
            return ErrorKind.CONNECT, f"{host} broke off the connection: {system_text(error)}"
    return ErrorKind.PROTOCOL, f"the request to {host} cannot be written: {type(error).__name__}"


def _tls_text(error: ssl.SSLError) -> str:
    """Such as "self-signed certificate" or "WRONG_VERSION_NUMBER"."""
    # Both attributes are set by OpenSSL alone, not by who raises such an error in Python.
    refused = getattr(error, "verify_message", None)
    if refused:
        return f"its certificate was not accepted: {refused}"
    return getattr(error, "reason", None) or type(error).__name__


def system_text(error: OSError) -> str:
    """Such as "Connection refused", without the address that asyncio puts into what an error says."""
    return type(error).__name__ if error.errno is None else os.strerror(error.errno)
