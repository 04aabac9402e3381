"""The examples for receivers accept what pgrelay signs, and nothing else."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from docs.blocks import ROOT, Block, blocks
from pgrelay.signing import classic_signature, standard_signature

SECRET, OLD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2VjcmV0IHRoYXQgd2FzIHVzZWQgYmVmb3Jl"
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330

#: What is looked for, in this order: a function of the headers, the body, the secret (and the time), by language.
Judge = Callable[[Mapping[str, str], bytes, int], bool]


def example(language: str, name: str) -> Block:
    [found] = [
        block
        for block in blocks(ROOT / "docs/receivers.md")
        if block.language == language and re.search(rf"\b{name}\(", block.text)
    ]
    return found


def python(name: str, *, timed: bool) -> Judge:
    def judge(headers: Mapping[str, str], body: bytes, now: int) -> bool:
        scope: dict[str, Any] = {}
        exec(example("python", name).text, scope)
        return bool(scope[name](headers, body, SECRET, *([float(now)] if timed else [])))

    return judge


def javascript(name: str) -> Judge:
    def judge(headers: Mapping[str, str], body: bytes, now: int) -> bool:
        given = json.dumps(
            {"headers": dict(headers), "body": body.decode("latin-1"), "secret": SECRET, "now": now}
        )
        call = f'{name}(given.headers, Buffer.from(given.body, "latin1"), given.secret, given.now)'
        script = f"{example('javascript', name).text}\nconst given = {given};\nconsole.log({call});\n"
        ran = subprocess.run(["node", "-e", script], capture_output=True, text=True, timeout=30, check=True)
        return {"true": True, "false": False}[ran.stdout.strip()]

    return judge


STANDARD = {"python": python("is_genuine", timed=True), "python with pgrelay": python("accept", timed=True)}
CLASSIC = {"python": python("is_genuine_classic", timed=False)}
if shutil.which("node"):  # no part of what a developer of pgrelay needs
    STANDARD["javascript"] = javascript("isGenuine")
    CLASSIC["javascript"] = javascript("isGenuineClassic")


def standard_headers(*secrets: str) -> dict[str, str]:
    signatures = [standard_signature(secret, "callback_1_created_1", NOW, BODY) for secret in secrets]
    return {
        "webhook-id": "callback_1_created_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": " ".join(signatures),
    }


@pytest.mark.parametrize("judge", STANDARD.values(), ids=STANDARD)
def test_the_standard_example_accepts_what_is_genuine_and_in_time_alone(judge: Judge):
    genuine = standard_headers(SECRET)
    assert judge(genuine, BODY, NOW + 299)
    assert judge(standard_headers(OLD_SECRET, SECRET), BODY, NOW)
    assert not judge(genuine, BODY + b" ", NOW)
    assert not judge(genuine, BODY, NOW + 301)
    assert not judge(genuine | {"webhook-id": "callback_1_created_2"}, BODY, NOW)
    assert not judge(standard_headers(OLD_SECRET), BODY, NOW)


@pytest.mark.parametrize("judge", CLASSIC.values(), ids=CLASSIC)
def test_the_classic_example_accepts_what_is_genuine_alone(judge: Judge):
    signature = classic_signature(SECRET, BODY)
    assert judge({"x-webhook-signature": signature}, BODY, NOW)
    assert not judge({"x-webhook-signature": signature}, BODY + b" ", NOW)
    assert not judge({"x-webhook-signature": signature.removeprefix("sha256=")}, BODY, NOW)
    assert not judge({"x-webhook-signature": classic_signature(OLD_SECRET, BODY)}, BODY, NOW)


def test_the_known_answers_are_right():
    text = (ROOT / "docs/receivers.md").read_text("utf-8")
    assert f"`{classic_signature(SECRET, BODY)}`" in text
    assert f"`{standard_signature(SECRET, 'msg_1', NOW, BODY)}`" in text
