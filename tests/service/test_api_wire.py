"""The API as bytes come to it: what is no HTTP is answered like everything else that is wrong, and quietly."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from support.api import Api, serving_api
from support.database import Database

_LONG = b"x" * 9_000


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with serving_api(database.dsn) as made:
        yield made


async def sent(api: Api, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what comes back before the connection ends."""
    where = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (b"GARBAGE\r\n\r\n", 400, "Invalid method"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "HTTPS traffic"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\n", 400, "Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + _LONG + b"\r\n\r\n", 431, "8190 bytes"),
        (b"GET /" + _LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "8190 bytes"),
    ],
)
async def test_what_is_no_http_is_a_problem_that_repeats_nothing_of_it(
    api: Api, caplog: pytest.LogCaptureFixture, raw: bytes, status: int, said: str
):
    answered, headers, body = await sent(api, raw)
    assert (answered, headers["Content-Type"]) == (status, "application/problem+json; charset=utf-8")
    assert (headers["X-Content-Type-Options"], headers["Server"]) == ("nosniff", "pgrelay")
    problem = json.loads(body)
    assert problem["status"] == status and said in problem["detail"]
    assert "GARBAGE" not in problem["detail"] and "xxxx" not in problem["detail"]
    assert not caplog.records and not api.observed


async def test_a_method_or_a_file_that_is_not_there_is_a_problem_beside_the_api_too(api: Api):
    for method, path, status in (("POST", "/healthz", 405), ("DELETE", "/", 405), ("GET", "/static/x", 404)):
        async with api.session.request(method, f"{api.url}{path}") as answer:
            assert (answer.status, answer.content_type) == (status, "application/problem+json"), path
            assert (answer.headers["Server"], (await answer.json())["status"]) == ("pgrelay", status)
