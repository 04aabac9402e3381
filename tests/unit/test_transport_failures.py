"""What `Transport.send` makes of receivers that misbehave, are not there, or may not be called."""

import asyncio
import gzip
import socket
import ssl
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgrelay.addresses import Policy
from pgrelay.delivery import ErrorKind, Failure, Response
from pgrelay.transport import client
from pgrelay.transport.failures import MAX_HEAD, explain
from support.receiver import (
    Behaviour,
    Exchange,
    Receiver,
    drip,
    hang,
    head,
    raw,
    reset,
    self_signed,
    status,
    wrong_length,
)
from support.sending import meet, names, request, transport


async def failure(behaviour: Behaviour, *, seconds: float = 5.0) -> Failure:
    result = await meet(behaviour, seconds=seconds)
    assert isinstance(result, Failure)
    assert "t0psecret" not in result.message
    assert "127.0.0.1" in result.message
    assert len(result.message) < 200
    return result


# Connection


@pytest.fixture
def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


async def test_a_refused_connection_is_a_connect_failure(free_port):
    async with transport() as sender:
        result = await sender.send(request(f"http://127.0.0.1:{free_port}/"))
    assert isinstance(result, Failure)
    assert (result.kind, result.message) == (
        ErrorKind.CONNECT,
        "no connection to 127.0.0.1: Connection refused",
    )


async def test_an_interface_that_this_machine_does_not_have_is_a_connect_failure():
    async with transport() as sender:
        result = await sender.send(request("http://[2606:4700::1111%25nowhere]/"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.CONNECT and "No such device" in result.message


async def test_a_reset_before_the_answer_is_a_connect_failure():
    result = await failure(reset())
    assert result.kind is ErrorKind.CONNECT
    assert "Connection reset by peer" in result.message


async def test_a_receiver_that_accepts_no_connection_is_a_timeout_that_says_so(monkeypatch):
    monkeypatch.setattr(client, "CONNECT_SHARE", 0.02)
    with socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.connect(full.getsockname())  # fills the backlog: from here on SYNs are dropped
        async with transport() as sender:
            result = await sender.send(request(f"http://127.0.0.1:{full.getsockname()[1]}/", timeout=10.0))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TIMEOUT
    assert "was not reached" in result.message


# Time


@pytest.mark.parametrize(
    "behaviour",
    [
        hang(),
        drip(b"HTTP/1.1 200 OK\r\n", b"X-More: 1\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(head(200, {"Content-Length": "1000"})),
        drip(head(200, {"Transfer-Encoding": "chunked"}), b"1\r\nx\r\n"),
        hang(head(200, {"Content-Encoding": "gzip"})),
    ],
    ids=["silence", "head", "informational", "body", "chunks", "no body"],
)
async def test_one_time_limit_covers_the_whole_exchange(behaviour):
    result = await failure(behaviour, seconds=0.2)
    assert result.kind is ErrorKind.TIMEOUT
    assert "did not answer in full within 0.2 s" in result.message
    assert 0.2 <= result.duration < 3.0


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_is_no_leave_to_wait_for_ever(seconds):
    async with Receiver() as receiver, transport() as sender:
        receiver.otherwise(hang())
        result = await sender.send(request(receiver.url(), timeout=seconds))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TIMEOUT


# Names and addresses


async def test_an_unknown_name_is_a_dns_failure(monkeypatch):
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with names(monkeypatch, unknown):
        async with transport() as sender:
            result = await sender.send(request("http://receiver.example/hook"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.DNS
    assert result.message == "receiver.example does not resolve: Name or service not known"


async def test_a_name_without_an_address_is_a_dns_failure(monkeypatch):
    with names(monkeypatch, lambda host: []):
        async with transport() as sender:
            result = await sender.send(request("http://receiver.example/hook"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.DNS


async def test_lookups_that_hang_time_out_and_hold_up_neither_other_names_nor_the_end(monkeypatch):
    answered = threading.Event()

    def slowly(host: str) -> list[str]:
        if host.startswith("slow"):
            answered.wait(30)
        return ["127.0.0.1"]

    try:
        with names(monkeypatch, slowly):
            async with Receiver() as receiver, transport() as sender:
                hanging = [
                    asyncio.create_task(sender.send(request(f"http://slow{number}.example/", timeout=0.3)))
                    for number in range(40)
                ]
                fine = await sender.send(request(f"http://fine.example:{receiver.port}/"))
                results = await asyncio.gather(*hanging)
    finally:
        answered.set()
    assert isinstance(fine, Response)
    assert {result.kind for result in results if isinstance(result, Failure)} == {ErrorKind.TIMEOUT}


@pytest.mark.parametrize(
    "answer",
    [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::ffff:127.0.0.1"], ["fd00::1", "93.184.215.14"]],
)
async def test_one_forbidden_address_in_the_answer_refuses_the_name_and_nothing_is_called(
    monkeypatch, answer
):
    async with Receiver() as receiver:
        with names(monkeypatch, lambda host: answer):
            async with transport(Policy(allow_http=True)) as sender:
                result = await sender.send(request(f"http://receiver.example:{receiver.port}/"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.BLOCKED_ADDRESS
    assert "receiver.example resolves to" in result.message
    assert receiver.connections == 0


async def test_many_requests_that_wait_for_one_refused_name_are_all_refused(monkeypatch):
    with names(monkeypatch, lambda host: ["10.0.0.1"]) as looked_up:
        async with transport(Policy(allow_http=True)) as sender:
            results = await asyncio.gather(
                *[sender.send(request("http://receiver.example/")) for _ in range(20)]
            )
    assert {result.kind for result in results if isinstance(result, Failure)} == {ErrorKind.BLOCKED_ADDRESS}
    assert looked_up == ["receiver.example"]


async def test_the_address_that_was_judged_is_the_one_that_is_called(monkeypatch):
    # The second answer is what an attacker would want called; nobody asks for it.
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    with names(monkeypatch, lambda host: answers.pop(0)) as looked_up:
        async with Receiver() as receiver, transport() as sender:
            result = await sender.send(request(f"http://receiver.example:{receiver.port}/hook"))
    assert isinstance(result, Response)
    assert result.remote_address == "127.0.0.1"
    assert receiver.seen[0].header("Host") == f"receiver.example:{receiver.port}"
    assert looked_up == ["receiver.example"]


async def test_if_one_address_does_not_answer_the_next_is_tried(monkeypatch):
    with names(monkeypatch, lambda host: ["127.0.0.2", "127.0.0.1"]):
        async with Receiver() as receiver, transport() as sender:
            result = await sender.send(request(f"http://receiver.example:{receiver.port}/hook"))
    assert isinstance(result, Response)
    assert result.remote_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:{port}/", ErrorKind.BLOCKED_ADDRESS),
        ("http://[::1]:{port}/", ErrorKind.BLOCKED_ADDRESS),
        ("http://2130706433:{port}/", ErrorKind.BLOCKED_ADDRESS),
        ("http://user:t0psecret@receiver.example/", ErrorKind.INVALID_URL),
        ("ftp://receiver.example/", ErrorKind.INVALID_URL),
        ("receiver.example/hook", ErrorKind.INVALID_URL),
        ("", ErrorKind.INVALID_URL),
    ],
)
async def test_a_url_that_may_not_be_called_is_not_even_looked_up(monkeypatch, url, kind):
    async with Receiver() as receiver:
        with names(monkeypatch, lambda host: ["127.0.0.1"]) as looked_up:
            async with transport(Policy(allow_http=True)) as sender:
                for _ in range(2):
                    result = await sender.send(request(url.format(port=receiver.port)))
                    assert isinstance(result, Failure)
                    assert result.kind is kind
                    assert "t0psecret" not in result.message
    assert (looked_up, receiver.connections) == ([], 0)


async def test_http_is_refused_unless_it_is_allowed():
    async with Receiver() as receiver, transport(Policy.of(["127.0.0.0/8"])) as sender:
        result = await sender.send(request(receiver.url()))
    assert isinstance(result, Failure)
    assert (result.kind, receiver.connections) == (ErrorKind.BLOCKED_ADDRESS, 0)


async def test_verdicts_are_forgotten_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(client, "_MAX_REMEMBERED", 10)
    async with Receiver() as receiver, transport() as sender:
        for number in range(25):
            await sender.send(request(receiver.url(f"/{number}"), timeout=5.0 + number))
        assert len(sender._targets) <= 10
    assert len(receiver.seen) == 25


# Tls


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("certificate"), "receiver.example")


@pytest.fixture
def server_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0])


async def test_https_with_a_trusted_certificate_works_and_keeps_its_connection(
    monkeypatch, server_side, trusting
):
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with Receiver(tls=server_side) as receiver, transport(tls=trusting) as sender:
            for _ in range(3):
                result = await sender.send(request(f"https://receiver.example:{receiver.port}/hook"))
                assert isinstance(result, Response)
                assert result.remote_address == "127.0.0.1"
    assert receiver.connections == 1


async def test_a_certificate_of_nobody_known_is_a_tls_failure(server_side):
    async with Receiver(tls=server_side) as receiver, transport() as sender:
        result = await sender.send(request(receiver.url()))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TLS
    assert "its certificate was not accepted: self-signed certificate" in result.message
    assert receiver.seen == []


async def test_a_certificate_for_another_name_is_a_tls_failure(monkeypatch, server_side, trusting):
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with Receiver(tls=server_side) as receiver, transport(tls=trusting) as sender:
            result = await sender.send(request(f"https://impostor.example:{receiver.port}/"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TLS
    assert "Hostname mismatch" in result.message


async def test_plain_http_where_tls_is_expected_is_a_tls_failure():
    async def talk_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk_plainly, "127.0.0.1", 0) as server, transport() as sender:
        port = server.sockets[0].getsockname()[1]
        result = await sender.send(request(f"https://127.0.0.1:{port}/"))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TLS


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_receiver_that_wants_a_client_certificate_is_a_tls_failure(
    monkeypatch, server_side, trusting, version
):
    # TLS 1.3 finds the certificate missing only after the handshake, when the request is on its way.
    server_side.maximum_version = version
    server_side.verify_mode = ssl.CERT_REQUIRED

    def serve(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        with server_side.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as connection:
            with pytest.raises(ssl.SSLError):
                connection.do_handshake()
            # Closed with the request unread, it would send a reset that may overtake the alert.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    with names(monkeypatch, lambda host: ["127.0.0.1"]), socket.create_server(("127.0.0.1", 0)) as listening:
        served = asyncio.create_task(asyncio.to_thread(serve, listening))
        async with transport(tls=trusting) as sender:
            result = await sender.send(request(f"https://receiver.example:{listening.getsockname()[1]}/"))
        await served
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TLS
    assert "no TLS with receiver.example: " in result.message


def test_an_alert_that_comes_after_the_handshake_is_a_tls_failure():
    kind, message = explain(ssl.SSLError(1, "t0psecret"), "receiver.example")
    assert (kind, message) == (ErrorKind.TLS, "no TLS with receiver.example: SSLError")


async def test_a_handshake_that_never_ends_is_a_timeout_that_says_so(monkeypatch):
    monkeypatch.setattr(client, "CONNECT_SHARE", 0.02)
    async with Receiver() as receiver, transport() as sender:
        result = await sender.send(request(f"https://127.0.0.1:{receiver.port}/", timeout=10.0))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TIMEOUT
    assert "was not reached" in result.message


# Http


@pytest.mark.parametrize(
    "behaviour",
    [
        raw(b""),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"HTTP/1.1 abc OK\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n"),
        raw(head(200, {f"X-{number}": "1" for number in range(200)})),
        raw(b"HTTP/1.1 200 OK\r\nX-Half: "),
        wrong_length(),
        raw(head(200, {"Transfer-Encoding": "chunked"}) + b"zz\r\nx\r\n"),
        raw(head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nabc"),
        status(200, b"this is no gzip", {"Content-Encoding": "gzip"}),
    ],
    ids=[
        "bare close",
        "another protocol",
        "no status",
        "no header",
        "no length",
        "too many headers",
        "half a head",
        "half a body",
        "bad chunk",
        "half a chunk",
        "bad compression",
    ],
)
async def test_what_is_not_a_complete_answer_in_http_is_a_protocol_failure(behaviour):
    assert (await failure(behaviour)).kind is ErrorKind.PROTOCOL


async def test_a_reset_within_the_body_is_a_protocol_failure_from_a_known_address():
    async def behave(exchange: Exchange) -> None:
        await exchange.write(head(200, {"Content-Length": "1000"}) + b"x" * 10)
        # Only when the first part is on its way: a reset throws away what has not been read.
        await asyncio.sleep(0.05)
        exchange.reset()

    result = await failure(behave)
    assert (result.kind, result.remote_address) == (ErrorKind.PROTOCOL, "127.0.0.1")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "x" * 10_000},
        {"X" * 10_000: "1"},
        {f"X-{n}": "x" * 8000 for n in range(MAX_HEAD // 8000 + 1)},
    ],
    ids=["value", "name", "sum"],
)
async def test_headers_that_are_too_large_are_a_failure_of_their_own(headers):
    assert (await failure(raw(head(200, headers)))).kind is ErrorKind.TOO_LARGE


async def test_a_status_line_without_end_is_too_large():
    assert (await failure(drip(b"HTTP/1.1 200 ", b"x" * 1000, pause=0.0))).kind is ErrorKind.TOO_LARGE


pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 503 No\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: deflate\r\n",
        b"Content-Encoding: br\r\n",
        b"Connection: close\r\n",
        b"Location: http://[\r\n",
        b"Set-Cookie: a=b\r\n",
        b"\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        gzip.compress(b"abc"),
        b"\x15\x03\x01\x00\x02\x02\x46",
    ]
)


@settings(max_examples=150)
@given(st.lists(pieces | st.binary(max_size=20), max_size=12))
def test_whatever_bytes_a_receiver_answers_send_returns(answer):
    async def exchange() -> None:
        async with Receiver() as receiver, transport() as sender:
            receiver.otherwise(raw(b"".join(answer)))
            result = await sender.send(request(receiver.url(), timeout=2.0))
            assert isinstance(result, Response | Failure)
            if isinstance(result, Failure):
                assert result.kind in (ErrorKind.PROTOCOL, ErrorKind.TOO_LARGE, ErrorKind.CONNECT)

    asyncio.run(exchange())
