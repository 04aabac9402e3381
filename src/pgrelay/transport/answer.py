"""An HTTP/1.1 answer read from a stream, by hand and step by step, so that each step can be timed.

For single requests on connections of their own (see `probing`); deliveries have `connection`. Raises ValueError for
what is no HTTP, asyncio.IncompleteReadError for what ends too early.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

_NO_BODY = frozenset({204, 304})


class Answer(NamedTuple):
    status: int
    #: In the order received; of a name that came twice, both values with a comma between.
    headers: dict[str, str]
    body: bytes


async def read_answer(reader: asyncio.StreamReader, limit: int, on_head: Callable[[], None]) -> Answer:
    """The answer, with `limit` bytes of its body at most; `on_head` is called when its head is there."""
    status = 100
    while 100 <= status < 200:  # 100 Continue, 103 Early Hints: the answer proper is to come
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
    on_head()
    known = {name.lower(): value for name, value in headers.items()}
    if status in _NO_BODY:
        return Answer(status, headers, b"")
    if known.get("transfer-encoding", "").lower().endswith("chunked"):
        return Answer(status, headers, await _chunks(reader, limit))
    if "content-length" not in known:
        return Answer(status, headers, await _up_to(reader, limit))
    length = int(known["content-length"])
    if length < 0:
        raise ValueError("a negative length")
    return Answer(status, headers, await reader.readexactly(min(length, limit)))


def _head(text: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = text.decode("utf-8", "replace").removesuffix("\r\n\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no HTTP/1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a header without a colon")
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(rest[:3]), headers


async def _chunks(reader: asyncio.StreamReader, limit: int) -> bytes:
    found = b""
    while len(found) < limit:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size <= 0:
            break
        found += await reader.readexactly(min(size, limit - len(found)))
        if len(found) < limit:
            await reader.readexactly(2)
    return found


async def _up_to(reader: asyncio.StreamReader, limit: int) -> bytes:
    """To the end of the stream."""
    parts, left = [], limit
    while left > 0 and (part := await reader.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
