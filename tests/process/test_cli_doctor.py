"""`webhooks test --explain`: one request taken apart, against receivers that are well, and ill in every way."""

import json
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from pgrelay.signing import CLASSIC_HEADER, Scheme, examine
from support.command import Command, Done
from support.factories import SECRET
from support.receiver import Receiver, Seen, hang, ok, redirect, reset, self_signed, slow, status
from support.sending import names
from support.threaded import receiving

OPEN = (
    ("#allow_http: false", "allow_http: true"),
    ("#allowed_networks: []", "allowed_networks: [127.0.0.0/8]"),
)


@pytest.fixture
def pgrelay(app, tmp_path) -> Command:
    command = Command(tmp_path, app.dsn)
    command.configure(*OPEN)
    return command


def add(pgrelay: Command, url: str, *words: str) -> str:
    done = pgrelay("webhooks", "add", "--company", "1", "--name", "CRM", "--url", url, "--event", "*",
                   "--secret", SECRET, "--json", *words)  # fmt: skip
    assert done.code == 0, done.err
    return str(done.data["id"])


def explain(pgrelay: Command, url: str, *words: str) -> Done:
    return pgrelay("webhooks", "test", add(pgrelay, url, *words), "--explain", "--json")


def finding(done: Done, subject: str) -> dict[str, str]:
    found: list[dict[str, str]] = [row for row in done.data["findings"] if row["subject"] == subject]
    assert len(found) == 1, (subject, done.data["findings"])
    return found[0]


def test_a_good_receiver_is_explained_step_by_step_and_gets_what_a_daemon_would_send(pgrelay, app):
    with receiving(Receiver()) as receiver:
        webhook = add(pgrelay, receiver.url("/hook"), "--header", "X-Key=hush-hush")
        done = pgrelay("webhooks", "test", webhook, "--explain")
    assert done.code == 0, done.out
    assert "from this process and past the queue" in done.err
    for words in (
        "may be called",
        "127.0.0.1 may be called, and was",
        "first byte",
        "HTTP 200: ok",
        "signature: of",
    ):
        assert words in done.out
    assert SECRET not in done.out + done.err and "hush-hush" not in done.out
    (seen,) = receiver.seen
    assert (seen.method, seen.target, seen.header("X-Key")) == ("POST", "/hook", "hush-hush")
    assert (seen.header("X-Webhook-Event"), seen.header("X-Webhook-Delivery-Attempt")) == (
        "webhook.test",
        "1",
    )
    assert set(json.loads(seen.body)) == {"test", "message", "webhook_name", "timestamp"}
    # what is said of the signatures is what was sent
    assert f"{CLASSIC_HEADER}: {seen.header(CLASSIC_HEADER)}" in done.out
    assert f"webhook-signature: {seen.header('webhook-signature')}" in done.out
    assert verified(seen, SECRET)
    with app.connect() as db:
        assert db.execute("select count(*) from pgrelay.deliveries").fetchone() == (0,)


def verified(seen: Seen, secret: str) -> bool:
    now = datetime.now(UTC).timestamp()
    return all(
        bool(examine(seen.body, dict(seen.headers), secret, now=now, require=scheme))
        for scheme in (Scheme.CLASSIC, Scheme.STANDARD)
    )


def test_times_are_split_and_a_slow_answer_is_called_slow(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(slow(0.6))
        done = explain(pgrelay, receiver.url(), "--timeout", "1")
    seconds = done.data["seconds"]
    assert list(seconds) == ["dns", "connect", "first_byte", "body", "whole"]
    assert seconds["first_byte"] > 0.5 > seconds["connect"]
    assert (done.code, finding(done, "time")["level"]) == (0, "warning")


def test_an_answer_that_does_not_come_is_a_timeout(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(hang())
        done = explain(pgrelay, receiver.url(), "--timeout", "1")
    assert (done.code, done.data["error_kind"]) == (1, "timeout")
    assert "did not begin to answer within 1 s" in done.data["error_message"]
    assert "timeout=SECONDS" in finding(done, "request")["mend"]


def test_a_redirect_is_not_followed_and_its_target_is_named(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.on("/old", redirect("https://e.com/new?key=t0psecret", 308))
        done = explain(pgrelay, receiver.url("/old"))
    assert (done.code, len(receiver.seen)) == (1, 1)
    assert "https://e.com/new?key=***" in finding(done, "redirect")["message"]
    assert "webhooks set 1 url=" in finding(done, "redirect")["mend"]


@pytest.mark.parametrize(
    ("code", "mend"), [(401, "compare the signature below"), (405, "does not take POST"), (503, "own log")]
)
def test_an_answer_that_is_no_success_says_what_to_do(pgrelay, code, mend):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(status(code, f"no: {SECRET}".encode()))
        done = explain(pgrelay, receiver.url())
    assert (done.code, done.data["status_code"], done.data["error_kind"]) == (1, code, None)
    assert mend in finding(done, "answer")["mend"]
    assert SECRET not in done.out


@pytest.mark.parametrize(
    ("seconds", "level", "word"),
    [(2, "ok", "agrees"), (-120, "warning", "behind"), (4000, "error", "ahead of")],
)
def test_the_clocks_are_compared_by_the_date_of_the_answer(pgrelay, seconds, level, word):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    with receiving(Receiver()) as receiver:
        receiver.otherwise(status(200, headers={"Date": date}))
        done = explain(pgrelay, receiver.url())
    assert (finding(done, "clock")["level"], word in finding(done, "clock")["message"]) == (level, True)
    assert done.data["clock_skew_seconds"] == pytest.approx(seconds, abs=20)
    assert done.code == 0  # it was answered, whatever the clock


def test_without_a_date_nothing_is_said_of_clocks(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(status(200, headers={"Date": "yesterday"}))
        done = explain(pgrelay, receiver.url())
    assert (finding(done, "clock")["level"], done.data["clock_skew_seconds"]) == ("info", None)


def test_a_redirect_without_a_host_is_named_in_full(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.on("/old", redirect("/new"))
        done = explain(pgrelay, receiver.url("/old"))
    assert f"webhooks set 1 url={receiver.url('/new')}" in finding(done, "redirect")["mend"]


def test_who_hangs_up_is_not_taken_for_one_who_does_not_listen(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(reset())
        done = explain(pgrelay, receiver.url())
    assert (done.code, done.data["error_kind"], done.data["address"]) == (1, "connect", "127.0.0.1")
    assert "It hung up on us" in finding(done, "request")["mend"]


def test_during_an_overlap_both_secrets_sign_as_a_daemon_does_it(pgrelay):
    with receiving(Receiver()) as receiver:
        webhook = add(pgrelay, receiver.url())
        new = pgrelay("webhooks", "rotate-secret", webhook, "--json").data["secret_key"]
        assert "two, for the old secret signs too" in pgrelay("webhooks", "test", webhook, "--explain").out
    (seen,) = receiver.seen
    now = datetime.now(UTC).timestamp()
    for secret in (SECRET, new):
        assert examine(seen.body, dict(seen.headers), secret, now=now, require=Scheme.STANDARD)


def test_by_way_of_a_proxy_only_the_whole_is_measured_and_that_is_said(pgrelay):
    with receiving(Receiver()) as proxy:  # which answers for everybody
        pgrelay.configure(('#proxy: ""', f"proxy: {proxy.url().rstrip('/')}"))
        done = explain(pgrelay, "http://127.0.0.2:9/hook")
    assert (done.code, done.data["by_proxy"], list(done.data["seconds"])) == (0, True, ["whole"])
    assert "are not measured" in finding(done, "proxy")["message"]
    assert proxy.seen[0].target == "http://127.0.0.2:9/hook"


def test_nobody_listening_is_a_refused_connection(pgrelay):
    with receiving(Receiver()) as receiver:
        url = receiver.url()
    done = explain(pgrelay, url)
    assert (done.code, done.data["error_kind"]) == (1, "connect")
    assert finding(done, "address")["message"] == "127.0.0.1 may be called, but: Connection refused"


def test_a_name_that_does_not_resolve_is_said_so(pgrelay):
    done = explain(pgrelay, "https://nowhere.invalid/hook")
    assert (done.code, done.data["error_kind"], done.data["addresses"]) == (1, "dns", [])
    assert "getent hosts" in finding(done, "request")["mend"]


def test_each_address_is_judged_and_one_refused_refuses_all(pgrelay, monkeypatch):
    with names(monkeypatch, lambda host: ["127.0.0.1", "10.1.2.3"]):
        done = explain(pgrelay, "https://inside.example/hook")
    assert done.data["addresses"] == [
        {"address": "127.0.0.1", "refused": None},
        {"address": "10.1.2.3", "refused": "private 10.0.0.0/8"},
    ]
    assert (done.code, done.data["error_kind"], done.data["address"]) == (1, "blocked_address", None)


def test_a_url_that_may_not_be_called_is_refused_before_anything_is_looked_up(pgrelay):
    for url, rule in (
        ("http://169.254.169.254/latest", "cloud metadata service"),
        ("https://10.0.0.1/", "private 10.0.0.0/8"),
    ):
        done = explain(pgrelay, url)
        assert (done.code, done.data["error_kind"], done.data["addresses"]) == (1, "blocked_address", [])
        assert rule in finding(done, "url")["message"]
        assert "network.allowed_networks" in finding(done, "url")["mend"]


# TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def over_tls(tmp_path) -> Callable[..., tuple[Receiver, Path]]:
    """A receiver that shows a certificate for this name, and the certificate."""

    def make(name: str, days: int = 2) -> tuple[Receiver, Path]:
        folder = tmp_path / name
        folder.mkdir()
        certificate, key = self_signed(folder, name, days)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        return Receiver(tls=context), certificate

    return make


def test_a_certificate_of_a_trusted_authority_is_read_and_its_end_foreseen(pgrelay, over_tls):
    receiver, certificate = over_tls("127.0.0.1", days=40)
    pgrelay.configure(('#ca_file: ""', f"ca_file: {certificate}"))
    with receiving(receiver):
        done = explain(pgrelay, receiver.url())
    assert (done.code, done.data["certificate_verified"], done.data["tls_version"]) == (0, True, "TLSv1.3")
    assert (done.data["certificate"]["subject"], done.data["certificate"]["names"]) == (
        "CN=127.0.0.1",
        ["127.0.0.1"],
    )
    # by the second in which it was made, and that of the look at it
    assert re.search("ends in (39|40) d", finding(done, "certificate")["message"])
    assert "tls" in done.data["seconds"]


def test_a_certificate_that_ends_soon_is_a_warning(pgrelay, over_tls):
    receiver, certificate = over_tls("127.0.0.1")
    pgrelay.configure(('#ca_file: ""', f"ca_file: {certificate}"))
    with receiving(receiver):
        assert finding(explain(pgrelay, receiver.url()), "certificate")["level"] == "warning"


def test_a_certificate_of_nobody_we_trust_is_shown_and_nothing_is_sent(pgrelay, over_tls):
    receiver, _ = over_tls("127.0.0.1")
    with receiving(receiver):
        done = explain(pgrelay, receiver.url())
    assert (done.code, done.data["error_kind"], receiver.seen) == (1, "tls", [])
    assert "not accepted: CN=127.0.0.1, issued by CN=127.0.0.1" in finding(done, "certificate")["message"]
    assert "network.ca_file" in finding(done, "certificate")["mend"]


def test_a_certificate_for_another_name_says_for_which(pgrelay, over_tls):
    receiver, certificate = over_tls("other.example")
    pgrelay.configure(('#ca_file: ""', f"ca_file: {certificate}"))
    with receiving(receiver):
        done = explain(pgrelay, receiver.url())
    assert "for other.example" in finding(done, "certificate")["message"]
    assert "a name that its certificate is for" in finding(done, "certificate")["mend"]


def test_what_speaks_no_tls_on_that_port_is_said_so(pgrelay):
    with receiving(Receiver()) as receiver:
        done = explain(pgrelay, receiver.url().replace("http:", "https:"), "--timeout", "1")
    assert (done.code, done.data["error_kind"]) == (1, "timeout")
    assert "did not finish TLS within 1 s" in done.data["error_message"]


def test_a_receiver_that_asks_for_a_certificate_gets_ours_or_the_lack_of_it_is_said(
    pgrelay, over_tls, tmp_path
):
    receiver, certificate = over_tls("127.0.0.1")
    ours, key = self_signed(tmp_path, "sender.example")
    assert receiver.tls is not None
    receiver.tls.verify_mode = ssl.CERT_REQUIRED
    receiver.tls.load_verify_locations(ours)
    pgrelay.configure(('#ca_file: ""', f"ca_file: {certificate}"))
    with receiving(receiver):
        without = explain(pgrelay, receiver.url())
        pgrelay.configure(
            ('#client_certificate: ""', f"client_certificate: {ours}"),
            ('#client_key: ""', f"client_key: {key}"),
        )
        shown = explain(pgrelay, receiver.url())
    # which one depends on what arrives first: the alert, the end of the stream, or a reset
    assert (without.code, without.data["error_kind"] in {"tls", "protocol", "connect"}) == (1, True)
    assert "network.client_certificate" in finding(without, "request")["mend"]
    assert shown.code == 0


def test_a_paused_webhook_can_be_tried_and_is_said_to_be_paused(pgrelay):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(ok())
        webhook = add(pgrelay, receiver.url())
        pgrelay("webhooks", "pause", webhook)
        done = pgrelay("webhooks", "test", webhook, "--explain", "--json")
    assert (done.code, "webhooks resume 1" in finding(done, "webhook")["mend"]) == (0, True)
