"""Sending single requests through a Transport, and names that resolve as a test says."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from pgrelay.addresses import Policy
from pgrelay.delivery import Failure, Request, Response
from pgrelay.transport import Proxy, Transport
from support.receiver import Behaviour, Receiver

LOOPBACK = Policy.of(["127.0.0.0/8"], allow_http=True)
LIMIT = 1000
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "pgrelay/test",
    "X-Webhook-Event": "callback.created",
}


@asynccontextmanager
async def transport(
    policy: Policy = LOOPBACK, limit: int = LIMIT, tls: ssl.SSLContext | None = None, proxy: str = ""
) -> AsyncIterator[Transport]:
    made = Transport(policy, limit, tls=tls, proxy=Proxy.of(proxy))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def request(url: str, body: bytes = b'{"event": "x"}', timeout: float = 5.0, **headers: str) -> Request:
    return Request(url, {**HEADERS, **headers}, body, timeout)


async def meet(behaviour: Behaviour, *, seconds: float = 5.0, limit: int = LIMIT) -> Response | Failure:
    """What one request to a receiver that behaves like this comes to. Its connection ends."""
    async with Receiver() as receiver:
        receiver.otherwise(behaviour)
        async with transport(limit=limit) as sender:
            result = await sender.send(
                request(receiver.url("/hook/t0psecret?key=t0psecret"), timeout=seconds)
            )
        await receiver.wait_until_closed()
        assert len(receiver.seen) == 1
    return result


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], list[str]]) -> Iterator[list[str]]:
    """Makes names ending in .example resolve as `answer` says; yields the names that were looked up."""
    looked_up: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(host, str) and host.endswith(".example")):
            return real(host, port, *args, **kwargs)
        looked_up.append(host)
        found = []
        for address in answer(host):
            if ":" in address:
                found.append((socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)))
            else:
                found.append((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield looked_up
