"""What TLS goes by: which files make a context, and what is said of those that cannot."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pgrelay.delivery import ErrorKind, Failure, Response
from pgrelay.errors import ConfigError
from pgrelay.transport import load_tls
from support.receiver import Receiver, self_signed
from support.sending import LOOPBACK, names, request, transport


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Certificate and key of receiver.example."""
    certificate, key = self_signed(tmp_path_factory.mktemp("receiver"), "receiver.example")
    return str(certificate), str(key)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Certificate and key of the sender."""
    certificate, key = self_signed(tmp_path_factory.mktemp("sender"), "sender.example")
    return str(certificate), str(key)


def refusal(*paths: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_tls(*paths)
    return caught.value.message


async def answer_over_tls(monkeypatch, receivers, tls, *, asks_for: str | None = None) -> Response | Failure:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=asks_for)
    server.load_cert_chain(*receivers)
    if asks_for is not None:
        server.verify_mode = ssl.CERT_REQUIRED
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with Receiver(tls=server) as receiver, transport(tls=tls.context) as sender:
            return await sender.send(request(f"https://receiver.example:{receiver.port}/hook"))


async def test_a_receiver_whose_issuer_is_in_the_bundle_is_trusted_and_otherwise_not(monkeypatch, receivers):
    trusting = await answer_over_tls(monkeypatch, receivers, load_tls(receivers[0]))
    assert isinstance(trusting, Response)
    doubting = await answer_over_tls(monkeypatch, receivers, load_tls())
    assert isinstance(doubting, Failure)
    assert doubting.kind is ErrorKind.TLS


def test_a_bundle_is_added_to_what_the_system_trusts(receivers):
    system = load_tls().context.cert_store_stats()["x509"]
    assert load_tls(receivers[0]).context.cert_store_stats()["x509"] == system + 1
    assert load_tls(receivers[0]).context.verify_mode is ssl.CERT_REQUIRED
    assert load_tls(receivers[0]).context.check_hostname


async def test_a_receiver_that_asks_for_a_certificate_gets_ours(monkeypatch, receivers, ours):
    shown = await answer_over_tls(monkeypatch, receivers, load_tls(receivers[0], *ours), asks_for=ours[0])
    assert isinstance(shown, Response)


@pytest.fixture
def both(ours, tmp_path) -> Path:
    """Our key and certificate in one file."""
    path = tmp_path / "both.pem"
    path.write_bytes(Path(ours[1]).read_bytes() + Path(ours[0]).read_bytes())
    return path


async def test_certificate_and_key_may_stand_in_one_file(monkeypatch, receivers, ours, both):
    tls = load_tls(receivers[0], str(both))
    assert isinstance(await answer_over_tls(monkeypatch, receivers, tls, asks_for=ours[0]), Response)


def test_what_was_made_of_files_with_the_same_content_is_equal_and_of_renewed_ones_not(
    receivers, ours, tmp_path
):
    copied = tmp_path / "ca.pem"
    copied.write_bytes(Path(receivers[0]).read_bytes())
    assert load_tls(str(copied)) == load_tls(receivers[0])
    assert load_tls(str(copied)) != load_tls()
    copied.write_bytes(Path(ours[0]).read_bytes())
    assert load_tls(str(copied)) != load_tls(receivers[0])


def test_a_file_that_is_not_what_its_key_says_is_named_with_the_key(receivers, ours, tmp_path):
    absent, other = tmp_path / "absent.pem", tmp_path / "other.pem"
    other.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    assert refusal(str(absent)) == f"network.ca_file: {absent} cannot be read: No such file or directory"
    assert refusal(str(tmp_path)) == f"network.ca_file: {tmp_path} cannot be read: Is a directory"
    assert refusal(ours[1]) == f"network.ca_file: {ours[1]} holds no certificate in PEM"
    assert refusal(str(other)).startswith(f"network.ca_file: {other} is no bundle of certificates in PEM (")
    assert (
        refusal("", ours[1], ours[1]) == f"network.client_certificate: {ours[1]} holds no certificate in PEM"
    )
    assert refusal("", ours[0], ours[0]) == f"network.client_key: {ours[0]} holds no private key in PEM"
    assert refusal("", str(other), ours[1]).startswith(f"network.client_certificate: {other} cannot be used")
    assert "name it in network.client_key" in refusal("", ours[0])
    assert (
        refusal("", "", ours[1])
        == f"network.client_key: {ours[1]} is given without network.client_certificate"
    )


def test_a_key_of_another_certificate_is_refused(receivers, ours):
    assert refusal("", ours[0], receivers[1]) == (
        f"network.client_key: {receivers[1]} does not hold the key of the certificate"
    )


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(ours, tmp_path):
    locked = tmp_path / "locked.pem"
    command = [
        "openssl",
        "pkey",
        "-in",
        ours[1],
        "-aes256",
        "-passout",
        "pass:t0psecret",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert refusal("", ours[0], str(locked)).startswith(
        f"network.client_key: {locked} holds a private key with a passphrase"
    )


@pytest.mark.parametrize("days", [2, 30_000], ids=["in this half of the century", "after 2049"])
def test_the_end_of_our_certificate_is_known(tmp_path, days):
    certificate, key = self_signed(tmp_path, "sender.example", days)
    ends = load_tls("", str(certificate), str(key)).ends
    assert ends is not None
    assert abs((ends - datetime.now(UTC)).total_seconds() - days * 86_400) < 3_600
    assert load_tls(str(certificate)).ends is None


async def test_a_renewed_certificate_counts_from_the_next_connection_on(monkeypatch, receivers, ours):
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours[0])
    server.load_cert_chain(*receivers)
    server.verify_mode = ssl.CERT_REQUIRED
    before, after = load_tls(receivers[0]), load_tls(receivers[0], *ours)
    with names(monkeypatch, lambda host: ["127.0.0.1"]):
        async with Receiver(tls=server) as receiver, transport(tls=before.context) as sender:
            url = f"https://receiver.example:{receiver.port}/hook"
            assert isinstance(await sender.send(request(url)), Failure)
            sender.adopt(LOOPBACK, tls=after.context)
            assert isinstance(await sender.send(request(url)), Response)
            sender.adopt(LOOPBACK, tls=after.context)
            await sender.send(request(url))
    assert len({seen.connection for seen in receiver.seen}) == 1
