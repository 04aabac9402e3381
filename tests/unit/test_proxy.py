"""Requests by way of an egress proxy: what it is asked for, what it is told, and what is not even asked of it."""

import asyncio
import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest

from pgrelay.addresses import Policy
from pgrelay.delivery import ErrorKind, Failure, Response
from pgrelay.transport import Proxy
from support.proxy import EgressProxy
from support.receiver import Receiver, self_signed
from support.sending import LOOPBACK, names, request, transport


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    return {
        name: self_signed(tmp_path_factory.mktemp("certificate"), name)
        for name in ("receiver.example", "other.example", "proxy.example")
    }


def server_of(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificates) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for certificate, _ in certificates.values():
        context.load_verify_locations(certificate)
    return context


@pytest.fixture(params=["http", "https"])
def scheme(request) -> str:
    """Of the proxy."""
    return request.param


async def test_the_proxy_is_asked_for_the_vetted_address_and_tls_goes_by_the_name(
    monkeypatch, certificates, trusting, scheme
):
    tls = server_of(certificates["proxy.example"]) if scheme == "https" else None
    with names(monkeypatch, lambda host: ["127.0.0.1"]) as looked_up:
        async with (
            Receiver(tls=server_of(certificates["receiver.example"])) as receiver,
            EgressProxy(tls=tls) as proxy,
        ):
            where = proxy.url(scheme, "proxy.example", "relay:p%40ss@")
            async with transport(tls=trusting, proxy=where) as sender:
                url = f"https://receiver.example:{receiver.port}/hook?key=t0psecret"
                for _ in range(3):
                    result = await sender.send(request(url, **{"X-Own": "t0psecret"}))
                    assert isinstance(result, Response), result
    assert proxy.asked == [f"CONNECT 127.0.0.1:{receiver.port}"]
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'relay:p@ss').decode()}\r\n" in proxy.heads[0]
    assert "User-Agent: pgrelay/test\r\n" in proxy.heads[0]
    assert "t0psecret" not in proxy.heads[0]
    assert [seen.target for seen in receiver.seen] == ["/hook?key=t0psecret"] * 3
    assert receiver.seen[0].header("Host") == f"receiver.example:{receiver.port}"
    assert receiver.seen[0].header("Proxy-Authorization") is None
    # one connection for all three, each name looked up once
    assert receiver.connections == 1 and sorted(looked_up) == ["proxy.example", "receiver.example"]


async def test_two_names_of_one_address_do_not_share_a_connection(monkeypatch, certificates, trusting):
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with (
            Receiver(tls=server_of(certificates["receiver.example"])) as receiver,
            EgressProxy() as proxy,
            transport(tls=trusting, proxy=proxy.url()) as sender,
        ):
            first = await sender.send(request(f"https://receiver.example:{receiver.port}/"))
            second = await sender.send(request(f"https://other.example:{receiver.port}/"))
    assert isinstance(first, Response)
    assert isinstance(second, Failure)
    assert second.kind is ErrorKind.TLS and "Hostname mismatch" in second.message
    assert len(proxy.asked) == 2 and len(receiver.seen) == 1


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://10.0.0.7/", "private 10.0.0.0/8"),
        ("https://0x7f.1/", "loopback 127.0.0.0/8"),
        ("https://[::ffff:169.254.169.254]/", "cloud metadata service"),
        ("https://half.example/", "half.example resolves to 10.0.0.7: private"),
        ("http://half.example/", "half.example resolves to 10.0.0.7: private"),
        ("http://receiver.example/", "network.allow_http is off"),
    ],
)
async def test_what_may_not_be_called_is_not_even_asked_of_the_proxy(monkeypatch, url, rule):
    policy = Policy(allow_http="half" in url)
    with names(monkeypatch, lambda host: ["93.184.215.14", "10.0.0.7"]):
        async with EgressProxy() as proxy, transport(policy, proxy=proxy.url()) as sender:
            result = await sender.send(request(url))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.BLOCKED_ADDRESS and rule in result.message
    assert proxy.heads == []


async def test_the_address_of_the_proxy_is_allowed_and_receivers_at_it_are_not(monkeypatch):
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with (
            EgressProxy(refuse="502 Bad Gateway") as proxy,
            transport(Policy(), proxy=proxy.url()) as sender,
        ):
            outside = await sender.send(request("https://93.184.215.14/"))
            inside = await sender.send(request(f"https://127.0.0.1:{proxy.port}/"))
    assert isinstance(outside, Failure) and isinstance(inside, Failure)
    assert proxy.asked == ["CONNECT 93.184.215.14:443"]
    assert (outside.kind, inside.kind) == (ErrorKind.CONNECT, ErrorKind.BLOCKED_ADDRESS)


async def test_a_request_over_http_goes_in_absolute_form_and_by_the_name(monkeypatch):
    with names(monkeypatch, lambda host: ["127.0.0.1"]) as looked_up:
        async with EgressProxy() as proxy, transport(proxy=proxy.url(credentials="relay:pass@")) as sender:
            result = await sender.send(request("http://receiver.example:8080/hook?a=b"))
    assert isinstance(result, Response)
    assert result.body == b"forwarded"
    assert proxy.asked == ["POST http://receiver.example:8080/hook?a=b"]
    assert "Proxy-Authorization: Basic " in proxy.heads[0]
    assert looked_up == ["receiver.example"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("403 Forbidden", "the proxy answered HTTP 403 when asked to connect to receiver.example"),
        ("407 Auth", "the proxy, which wants other credentials, answered HTTP 407 when asked to connect to receiver.example"),
    ],
)  # fmt: skip
async def test_a_proxy_that_refuses_is_a_connect_failure(monkeypatch, answer, said):
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with (
            EgressProxy(refuse=answer) as proxy,
            transport(proxy=proxy.url(credentials="relay:t0psecret@")) as sender,
        ):
            result = await sender.send(request("https://receiver.example/"))
    assert isinstance(result, Failure)
    assert (result.kind, result.message) == (ErrorKind.CONNECT, said)


async def test_a_proxy_that_is_not_there_or_not_trusted_is_named_as_the_one_at_fault(
    monkeypatch, certificates
):
    async with EgressProxy(tls=server_of(certificates["proxy.example"])) as proxy:
        async with transport(proxy=proxy.url("https")) as sender:
            untrusted = await sender.send(request("https://127.0.0.1/"))
        port = proxy.port
    async with transport(proxy=f"http://127.0.0.2:{port}") as sender:
        absent = await sender.send(request("https://127.0.0.1/"))
    with names(monkeypatch, lambda host: [] if host == "proxy.example" else ["127.0.0.1"]):
        async with transport(proxy=f"http://proxy.example:{port}") as sender:
            unknown = await sender.send(request("https://receiver.example/"))
    assert isinstance(untrusted, Failure) and isinstance(absent, Failure) and isinstance(unknown, Failure)
    assert (untrusted.kind, "no TLS with the proxy: " in untrusted.message) == (ErrorKind.TLS, True)
    assert (absent.kind, "no connection to the proxy: " in absent.message) == (ErrorKind.CONNECT, True)
    assert (unknown.kind, unknown.message) == (ErrorKind.DNS, "the proxy's name has no address")


async def test_a_name_that_does_not_resolve_here_is_a_dns_failure(monkeypatch):
    def unknown(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with names(monkeypatch, unknown):
        async with EgressProxy() as proxy, transport(proxy=proxy.url()) as sender:
            result = await sender.send(request("https://receiver.example/"))
    assert isinstance(result, Failure)
    assert (result.kind, result.message) == (
        ErrorKind.DNS,
        "receiver.example does not resolve: Name or service not known",
    )


async def test_a_lookup_that_hangs_uses_up_the_time_of_the_request_and_no_more(monkeypatch):
    answered = threading.Event()

    def hanging(host: str) -> list[str]:
        answered.wait(20)
        return ["127.0.0.1"]

    with names(monkeypatch, hanging):
        async with EgressProxy() as proxy, transport(proxy=proxy.url()) as sender:
            result = await sender.send(request("https://receiver.example/", timeout=0.2))
            answered.set()
    assert isinstance(result, Failure)
    assert (result.kind, result.message) == (
        ErrorKind.TIMEOUT,
        "receiver.example was not reached within 0.19 s",
    )
    assert result.duration < 5.0


async def test_another_proxy_or_none_counts_from_the_next_request_on(monkeypatch):
    async with (
        Receiver() as receiver,
        EgressProxy() as one,
        EgressProxy() as other,
        transport(proxy=one.url()) as sender,
    ):
        for proxy in (one.url(), other.url(), ""):
            sender.adopt(LOOPBACK, proxy=Proxy.of(proxy))
            assert isinstance(await sender.send(request(receiver.url())), Response)
    assert (len(one.asked), len(other.asked), len(receiver.seen)) == (1, 1, 1)


async def test_of_several_addresses_one_is_asked_for_and_ipv4_before_ipv6(monkeypatch):
    found = ["2606:2800:21f::1", "93.184.215.14", "93.184.215.15"]
    async with (
        EgressProxy(refuse="502 Bad Gateway") as proxy,
        transport(Policy(), proxy=proxy.url()) as sender,
    ):
        with names(monkeypatch, lambda host: found) as looked_up:
            for _ in range(5):
                await sender.send(request("https://receiver.example/"))
            assert set(proxy.asked) <= {"CONNECT 93.184.215.14:443", "CONNECT 93.184.215.15:443"}
            assert looked_up == ["receiver.example"]
            found[:] = found[:1]
            await sender.send(request("https://six.example:8443/a?b"))
    assert proxy.asked[5:] == ["CONNECT [2606:2800:21f::1]:8443"]
    assert "Host: six.example:8443\r\n" in proxy.heads[5]


async def test_a_proxy_that_answers_no_http_or_speaks_first_or_hangs_up_is_the_one_at_fault():
    for answer in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nhello", b""):

        async def answers(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer
        ) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(answers, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with transport(Policy(), proxy=f"http://127.0.0.1:{port}") as sender:
                result = await sender.send(request("https://93.184.215.14/"))
        assert isinstance(result, Failure)
        assert result.kind is ErrorKind.PROTOCOL and "the proxy" in result.message


async def test_a_proxy_of_the_environment_is_ignored_for_https_too(monkeypatch, certificates, trusting):
    async with (
        EgressProxy() as proxy,
        Receiver(tls=server_of(certificates["receiver.example"])) as receiver,
        transport(tls=trusting) as sender,
    ):
        for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        with names(monkeypatch, lambda host: ["127.0.0.1"]):
            result = await sender.send(request(f"https://receiver.example:{receiver.port}/"))
    assert isinstance(result, Response)
    assert proxy.heads == []


def test_credentials_of_a_proxy_are_in_no_text_of_it():
    proxy = Proxy.of("https://relay:t0psecret@proxy.example:3128")
    assert "t0psecret" not in repr(proxy) and "t0psecret" not in str(proxy)
    assert Proxy.of("") is None
