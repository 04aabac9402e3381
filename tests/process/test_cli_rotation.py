"""`rotate-secret --prove` and `prove-secret`: the old secret ends when the receiver has shown that it has the new one."""

import re
import time

import pytest

from pgrelay.cli import rotation
from pgrelay.sealing import write_key
from pgrelay.signing import examine
from support.command import Command
from support.factories import SECRET
from support.receiver import Behaviour, Exchange, Receiver, status
from support.threaded import receiving


@pytest.fixture
def pgrelay(app, tmp_path) -> Command:
    command = Command(tmp_path, app.dsn)
    command.configure(
        ("#allow_http: false", "allow_http: true"),
        ("#allowed_networks: []", "allowed_networks: [127.0.0.0/8]"),
    )
    return command


@pytest.fixture
def kept(app):
    """Secret and old secret of the webhook, as the table has them."""

    def read() -> tuple[str, str | None]:
        with app.connect() as db:
            row = db.execute(
                "select secret_key, previous_secret_key from pgrelay.webhook_configurations"
            ).fetchone()
        assert row is not None
        return row

    return read


def knowing(*secrets: str) -> Behaviour:
    """Answers 204 to what is signed with one of these secrets, else 401. More may be learnt meanwhile."""

    async def behave(exchange: Exchange) -> None:
        seen = exchange.request
        genuine = any(verified(seen.body, dict(seen.headers), secret) for secret in secrets)
        await exchange.answer(204 if genuine else 401)

    return behave


def verified(body: bytes, headers: dict[str, str], secret: str) -> bool:
    return bool(examine(body, headers, secret, now=time.time()))


def add(pgrelay: Command, url: str, **environ: str) -> str:
    done = pgrelay("webhooks", "add", "--company", "1", "--name", "CRM", "--url", url, "--event", "*",
                   "--secret", SECRET, "--json", **environ)  # fmt: skip
    assert done.code == 0, done.err
    return str(done.data["id"])


def test_a_receiver_that_does_not_know_the_new_secret_keeps_both(pgrelay, kept):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(knowing(SECRET))
        webhook = add(pgrelay, receiver.url())
        done = pgrelay("webhooks", "rotate-secret", webhook, "--prove", "--end-old")
    assert done.code == 1
    assert "Not accepted: HTTP 401" in done.out
    assert f"pgrelay webhooks prove-secret {webhook} --end-old" in done.err
    (new,) = re.findall("Secret: (whsec_.*)", done.out)
    assert kept() == (new, SECRET)
    assert len(receiver.seen) == 1  # nothing more is tried


def test_once_the_receiver_has_the_new_secret_the_old_one_is_ended(pgrelay, kept):
    with receiving(Receiver()) as receiver:
        webhook = add(pgrelay, receiver.url())
        new = pgrelay("webhooks", "rotate-secret", webhook, "--json").data["secret_key"]
        receiver.otherwise(knowing(SECRET, new))
        shown = pgrelay("webhooks", "prove-secret", webhook)
        assert (shown.code, kept()) == (0, (new, SECRET))
        assert "Accepted: HTTP 204 to the new secret alone" in shown.out
        assert "Refused, as it should be" in shown.out
        assert f"End it now: pgrelay webhooks prove-secret {webhook} --end-old" in shown.err
        ended = pgrelay("webhooks", "prove-secret", webhook, "--end-old", "--json")
    assert (ended.code, kept()) == (0, (new, None))
    assert (ended.data["proved"], ended.data["verifies"], ended.data["old_ended"]) == (True, True, True)
    first = receiver.seen[0]
    assert " " not in (first.header("webhook-signature") or "")  # the new one alone
    assert verified(first.body, dict(first.headers), new)
    assert not verified(first.body, dict(first.headers), SECRET)


def test_a_receiver_that_believes_anyone_is_told_apart_from_one_that_verifies(pgrelay):
    with receiving(Receiver()) as receiver:
        done = pgrelay("webhooks", "rotate-secret", add(pgrelay, receiver.url()), "--prove")
    assert done.code == 0
    assert "it does not verify" in done.out
    assert len(receiver.seen) == 2


def test_a_receiver_that_fails_at_the_wrong_signature_leaves_it_open(pgrelay):
    answers = iter((200, 503))
    with receiving(Receiver()) as receiver:

        async def behave(exchange: Exchange) -> None:
            await exchange.answer(next(answers))

        receiver.otherwise(behave)
        done = pgrelay("webhooks", "rotate-secret", add(pgrelay, receiver.url()), "--prove", "--json")
    assert (done.code, done.data["proved"], done.data["verifies"], done.data["old_ended"]) == (
        0,
        True,
        None,
        False,
    )


def test_waiting_tries_until_the_receiver_has_it(pgrelay, kept, monkeypatch):
    monkeypatch.setattr(rotation, "_PAUSE", 0.05)
    answers = iter((401, 401, 200, 401))
    with receiving(Receiver()) as receiver:

        async def behave(exchange: Exchange) -> None:
            await exchange.answer(next(answers))

        receiver.otherwise(behave)
        webhook = add(pgrelay, receiver.url())
        done = pgrelay(
            "webhooks", "rotate-secret", webhook, "--prove", "--wait", "30s", "--end-old", "--json"
        )
    assert (done.code, done.data["old_ended"], kept()) == (0, True, (done.data["secret_key"], None))


def test_a_webhook_that_was_rotated_again_meanwhile_keeps_its_old_secret(pgrelay, app, kept):
    with receiving(Receiver()) as receiver:

        async def behave(exchange: Exchange) -> None:
            with app.connect() as db:  # another operator
                db.execute(
                    "select pgrelay.end_overlap(id), pgrelay.rotate_secret(id) from pgrelay.webhook_configurations"
                )
            await exchange.answer(200)

        receiver.otherwise(behave)
        done = pgrelay("webhooks", "rotate-secret", add(pgrelay, receiver.url()), "--prove", "--end-old")
    assert "was changed meanwhile" in done.err
    assert kept()[1] is not None


def test_a_sealed_secret_is_proved_where_the_key_is_and_otherwise_not_rotated(pgrelay, kept):
    key = {"PGRELAY_SECRETS_KEY": write_key(b"k" * 32)}
    with receiving(Receiver()) as receiver:
        webhook = add(pgrelay, receiver.url(), **key)
        before = kept()
        refused = pgrelay("webhooks", "rotate-secret", webhook, "--prove")
        assert (refused.code, "are sealed with key" in refused.err, kept(), receiver.seen) == (
            1,
            True,
            before,
            [],
        )
        done = pgrelay("webhooks", "rotate-secret", webhook, "--prove", "--end-old", "--json", **key)
    assert (done.code, done.data["old_ended"]) == (0, True)
    assert kept()[0].startswith("sealed:") and kept()[1] is None
    first = receiver.seen[0]
    assert verified(first.body, dict(first.headers), done.data["secret_key"])


def test_arguments_that_contradict_each_other_change_nothing(pgrelay, kept):
    with receiving(Receiver()) as receiver:
        receiver.otherwise(status(200))
        webhook = add(pgrelay, receiver.url())
        for words in (("--prove", "--overlap", "0"), ("--end-old",), ("--wait", "5s")):
            assert pgrelay("webhooks", "rotate-secret", webhook, *words).code == 2, words
    assert (kept(), receiver.seen) == ((SECRET, None), [])
