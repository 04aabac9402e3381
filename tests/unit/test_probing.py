"""What single requests are read with: answers of all shapes, certificates of all bytes; and what is made of them."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.addresses import Policy
from pgrelay.delivery import ErrorKind, Failure
from pgrelay.doctor.diagnosis import diagnose
from pgrelay.doctor.finding import Level
from pgrelay.transport import Certificate, Probe, probe
from pgrelay.transport.answer import Answer, read_answer
from pgrelay.transport.certificate import read_certificate
from support.receiver import Receiver, self_signed
from support.sending import LOOPBACK, names, request


async def read(data: bytes, limit: int = 100) -> Answer:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_answer(reader, limit, lambda: None)


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        (b"Content-Length: 3\r\n\r\nabcdef", b"abc"),
        (b"\r\nall there is", b"all there is"),
        (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"Content-Length: 200\r\n\r\n" + b"x" * 200, b"x" * 100),
        (b"Transfer-Encoding: chunked\r\n\r\nc8\r\n" + b"x" * 200, b"x" * 100),
        (b"\r\n" + b"x" * 200, b"x" * 100),
    ],
)
async def test_a_body_is_read_to_its_end_or_to_the_limit(rest: bytes, body: bytes):
    assert (await read(b"HTTP/1.1 200 OK\r\n" + rest)).body == body


async def test_what_comes_before_the_answer_proper_is_passed_over():
    answer = await read(
        b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\nC: d\r\nc: e\r\n\r\n"
    )
    assert (answer.status, answer.headers, answer.body) == (204, {"C": "d", "c": "e"}, b"")


@given(st.binary(max_size=200))
def test_no_bytes_make_more_than_the_errors_that_are_promised(data: bytes):
    for begin in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with suppress(ValueError, asyncio.IncompleteReadError):
            asyncio.run(read(begin + data))


def test_a_certificate_says_whose_it_is_for_which_names_and_how_long(tmp_path: Path):
    pem, _ = self_signed(tmp_path, "receiver.example", days=10)
    certificate = read_certificate(ssl.PEM_cert_to_DER_cert(pem.read_text()))
    assert (certificate.subject, certificate.issuer) == ("CN=receiver.example", "CN=receiver.example")
    assert certificate.names == ("receiver.example",)
    assert timedelta(days=9) < certificate.ends - datetime.now(UTC) <= timedelta(days=10)
    assert certificate.starts <= datetime.now(UTC)


@given(st.data())
def test_a_damaged_certificate_is_a_value_error_or_is_read(certificate_der: bytes, data: st.DataObject):
    place = data.draw(st.integers(0, len(certificate_der) - 1))
    damaged = bytearray(certificate_der[: data.draw(st.integers(0, len(certificate_der)))])
    damaged[place : place + 1] = data.draw(st.binary(max_size=3))
    with suppress(ValueError):
        read_certificate(bytes(damaged))


@pytest.fixture(scope="module")
def certificate_der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    pem, _ = self_signed(tmp_path_factory.mktemp("certificate"), "receiver.example")
    return ssl.PEM_cert_to_DER_cert(pem.read_text())


async def test_the_next_address_is_tried_when_one_does_not_listen(monkeypatch: pytest.MonkeyPatch):
    async with Receiver() as receiver:
        with names(monkeypatch, lambda host: ["127.0.0.9", "127.0.0.1"]):
            found = await probe(request(f"http://two.example:{receiver.port}/"), LOOPBACK)
    assert (found.status, found.address, found.unreachable) == (
        200,
        "127.0.0.1",
        {"127.0.0.9": "Connection refused"},
    )


async def test_an_address_that_is_refused_is_not_connected_to(monkeypatch: pytest.MonkeyPatch):
    async with Receiver() as receiver:
        with names(monkeypatch, lambda host: ["127.0.0.1"]):
            found = await probe(request(f"https://inside.example:{receiver.port}/"), Policy())
    assert found.failure is not None and found.failure.kind is ErrorKind.BLOCKED_ADDRESS
    assert (found.addresses, receiver.connections) == ({"127.0.0.1": "loopback 127.0.0.0/8"}, 0)


def test_a_certificate_that_has_ended_is_the_receivers_to_renew():
    ended = datetime.now(UTC) - timedelta(days=3)
    found = Probe(
        addresses={"203.0.113.7": None},
        address="203.0.113.7",
        certificate=Certificate("CN=e.com", "CN=CA", ("e.com",), ended - timedelta(days=90), ended),
        seconds={"whole": 0.1},
        failure=Failure(
            ErrorKind.TLS, "no TLS with e.com: its certificate was not accepted: certificate has expired"
        ),
    )
    (told,) = [one for one in diagnose(found, request("https://e.com/"), 1) if one.subject == "certificate"]
    assert (told.level, told.mend) == (Level.ERROR, "The receiver must renew it.")
    assert "ended 3 d ago" in told.message
