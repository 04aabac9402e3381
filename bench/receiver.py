"""A receiver that writes down when each request was complete; a process of its own, started as `receiver.py PORT`.

POST /ok is answered at once, POST /silent never. GET /arrivals gives what came as JSON: [path, idempotency key,
nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share]. GET /forget empties it.
"""

import asyncio
import gc
import json
import re
import sys
import time
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_KEY = re.compile(rb"\r\nx-webhook-idempotency-key: *([^\r]*)", re.I)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

arrivals: list[tuple[str, str, int]] = []


class Receiver(asyncio.Protocol):
    """As much HTTP/1.1 as clients on the same machine need."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            method, path, _ = head.split(b" ", 2)
            self._answer(method.decode(), path.decode(), head, now)

    def _answer(self, method: str, path: str, head: bytes, now: int) -> None:
        if method == "GET":
            body = json.dumps(arrivals if path == "/arrivals" else None).encode()
            if path == "/forget":
                arrivals.clear()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        key = _KEY.search(head)
        arrivals.append((path, key[1].decode() if key else "", now))
        if path != "/silent":
            self.transport.write(_OK)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", port, backlog=1024)
    gc.freeze()
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(int(sys.argv[1])))
    else:
        uvloop.run(main(int(sys.argv[1])))
