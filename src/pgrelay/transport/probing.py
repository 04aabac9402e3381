"""One request taken apart: name, connection, TLS and answer one after the other, each timed, each kept.

For people who ask why an endpoint does not answer; deliveries go through `client`. The same rules bind both: the URL
and all addresses of its name are vetted before anything is connected, and the connection goes to an address that was
vetted. What differs: addresses are tried in turn rather than side by side, and the connection is used once.

By way of a proxy the steps are the proxy's, so there the request goes through `client`, and only the whole is measured.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from time import monotonic

from yarl import URL

from pgrelay.addresses import Policy, check_addresses, check_url, refusal
from pgrelay.delivery import ErrorKind, Failure, Request
from pgrelay.transport.answer import read_answer
from pgrelay.transport.certificate import Certificate, read_certificate
from pgrelay.transport.client import Transport
from pgrelay.transport.failures import MAX_HEAD, Refused, explain, system_text
from pgrelay.transport.proxy import Proxy
from pgrelay.transport.resolver import look_up

#: Seconds for another look at a certificate that was not accepted.
_LOOK_SECONDS = 5.0


@dataclass(slots=True)
class Probe:
    """What one request met, as far as it came; what it did not reach is None, or missing."""

    #: Why the URL itself may not be called.
    refused: Failure | None = None
    #: All addresses of the name, each with the rule that forbids calling it.
    addresses: dict[str, str | None] = field(default_factory=dict)
    #: Addresses that could not be connected to, each with why.
    unreachable: dict[str, str] = field(default_factory=dict)
    #: Which one was called.
    address: str | None = None
    tls_version: str | None = None
    certificate: Certificate | None = None
    #: Whether the certificate was accepted.
    verified: bool = False
    #: Seconds of each step: dns, connect, tls, first_byte (from the request sent to the head of the answer), and whole.
    seconds: dict[str, float] = field(default_factory=dict)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: The first part of the answer.
    body: bytes = b""
    #: When the head of the answer was there, by our clock.
    answered_at: datetime | None = None
    #: Why there is no answer.
    failure: Failure | None = None
    by_proxy: bool = False


async def probe(
    request: Request,
    policy: Policy,
    *,
    tls: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
    max_response_bytes: int = 65_536,
) -> Probe:
    """Make the request, once, whatever comes of it. Nothing that a receiver does raises."""
    found, began = Probe(by_proxy=proxy is not None), monotonic()
    found.refused = found.failure = check_url(request.url, policy)
    if found.refused is None and proxy is not None:
        await _send_by_proxy(found, request, policy, tls, proxy, max_response_bytes)
    elif found.refused is None:
        context = tls or ssl.create_default_context()
        steps = _Steps(found, request, policy, context, max_response_bytes)
        await steps.take()
        found.seconds["whole"] = monotonic() - began
        if found.failure is not None and found.failure.kind is ErrorKind.TLS and not found.verified:
            await steps.look_at_certificate()
    found.seconds.setdefault("whole", monotonic() - began)
    return found


async def _send_by_proxy(
    found: Probe,
    request: Request,
    policy: Policy,
    tls: ssl.SSLContext | None,
    proxy: Proxy,
    max_response_bytes: int,
) -> None:
    transport = Transport(policy, max_response_bytes, tls=tls, proxy=proxy)
    await transport.start()
    try:
        result = await transport.send(request)
    finally:
        await transport.close()
    if isinstance(result, Failure):
        found.failure = result
        return
    found.answered_at = datetime.now(UTC)
    found.status, found.headers, found.body = result.status, dict(result.headers), result.body
    found.verified = request.url.lower().startswith("https:")


class _Steps:
    """The steps of one request, in their order; each fills in what it found."""

    def __init__(
        self, found: Probe, request: Request, policy: Policy, tls: ssl.SSLContext, max_response_bytes: int
    ) -> None:
        self._found = found
        self._request = request
        self._policy = policy
        self._tls = tls
        self._max_response_bytes = max_response_bytes
        self._url = URL(request.url, encoded=True)
        self._host = self._url.host or ""
        self._port = self._url.port or 443
        #: Beginning of the step that is under way, and what it is.
        self._began = monotonic()
        self._step = "dns"

    async def take(self) -> None:
        seconds = self._request.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._resolve()
                connected = await self._connect()
                await self._exchange(*await self._secure(connected))
        except TimeoutError:
            self._fail(ErrorKind.TIMEOUT, f"{self._host} {_LATE[self._step]} within {seconds:g} s")
        except (OSError, Refused) as error:
            self._fail(*explain(error, self._host))
        except asyncio.IncompleteReadError as error:
            some = "in the middle of its answer" if error.partial else "without an answer"
            self._fail(ErrorKind.PROTOCOL, f"{self._host} closed the connection {some}")
        except (ValueError, asyncio.LimitOverrunError):
            self._fail(ErrorKind.PROTOCOL, f"{self._host} answered with something else than HTTP/1.1")

    def _fail(self, kind: ErrorKind, message: str) -> None:
        self._found.failure = Failure(kind, message)
        self._found.seconds.setdefault(self._step, monotonic() - self._began)

    def _next(self, step: str) -> None:
        now = monotonic()
        self._found.seconds[self._step] = now - self._began
        self._began, self._step = now, step

    async def _resolve(self) -> None:
        try:
            addresses = [str(ip_address(self._host))]
        except ValueError:
            addresses = list(await look_up(self._host, self._port, socket.AF_UNSPEC))
        self._found.addresses = {
            address: refusal(ip_address(address.partition("%")[0]), self._policy) for address in addresses
        }
        refused = check_addresses(self._host, addresses, self._policy)
        if refused is not None:
            raise Refused(refused)
        self._next("connect")

    async def _connect(self) -> socket.socket:
        """To the first address that lets us."""
        loop, last = asyncio.get_running_loop(), ""
        for address in self._found.addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, (address, self._port))
            except OSError as error:
                connection.close()
                last = self._found.unreachable[address] = system_text(error)
            except BaseException:
                connection.close()
                raise
            else:
                self._found.address = address
                self._next("tls" if self._url.scheme == "https" else "first_byte")
                return connection
        raise Refused(Failure(ErrorKind.CONNECT, f"no connection to {self._host}: {last}"))

    async def _secure(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._url.scheme == "http":
            return await asyncio.open_connection(sock=connection, limit=MAX_HEAD)
        reader, writer = await asyncio.open_connection(
            sock=connection, limit=MAX_HEAD, ssl=self._tls, server_hostname=self._host
        )
        self._note_certificate(writer)
        self._found.verified = True
        self._next("first_byte")
        return reader, writer

    def _note_certificate(self, writer: asyncio.StreamWriter) -> None:
        spoken: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self._found.tls_version = spoken.version()
        der = spoken.getpeercert(binary_form=True)
        if der:
            self._found.certificate = read_certificate(der)

    async def look_at_certificate(self) -> None:
        """Of a receiver whose certificate was not accepted: over a connection that carries nothing."""
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                _, writer = await asyncio.open_connection(
                    self._found.address, self._port, ssl=trusting, server_hostname=self._host
                )
                self._note_certificate(writer)
                writer.transport.abort()
        except (OSError, ValueError):  # then it is no certificate that is wrong
            return

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(self._head() + self._request.body)
            await writer.drain()
            answer = await read_answer(reader, self._max_response_bytes, self._answered)
            self._found.status, self._found.headers, self._found.body = answer
            self._next("end")
        finally:
            writer.transport.abort()

    def _answered(self) -> None:
        self._found.answered_at = datetime.now(UTC)
        self._next("body")

    def _head(self) -> bytes:
        given = {
            "Host": self._url.host_port_subcomponent or self._host,
            **self._request.headers,
            "Content-Length": str(len(self._request.body)),
            "Connection": "close",
        }
        names = {name.lower() for name in given}
        for name, usual in (("Accept", "*/*"), ("Accept-Encoding", "identity")):
            if name.lower() not in names:
                given[name] = usual
        lines = [
            f"POST {self._url.raw_path_qs} HTTP/1.1",
            *(f"{name}: {text}" for name, text in given.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


#: What was not done in time, by step.
_LATE = {
    "dns": "was not resolved",
    "connect": "was not reached",
    "tls": "did not finish TLS",
    "first_byte": "did not begin to answer",
    "body": "did not answer in full",
}
