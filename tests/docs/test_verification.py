"""What docs/receivers.md says of signatures, beside the receivers that test_receivers.py runs, is so."""

import base64
import hmac
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks

from docs.blocks import ROOT, blocks
from docs.receivers import verification
from pgrelay.signing import Scheme, examine

PAGE = ROOT / "docs/receivers.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330


def published(id: str, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    """Headers as the published library makes them."""
    signature = standardwebhooks.Webhook(secret).sign(id, datetime.fromtimestamp(NOW, UTC), body.decode())
    return {"webhook-id": id, "webhook-timestamp": str(NOW), "webhook-signature": signature}


def test_the_example_with_pgrelay_accepts_what_is_genuine_and_in_time_alone():
    [example] = [
        block for block in blocks(PAGE) if block.language == "python" and "def accept(" in block.text
    ]
    scope: dict[str, Any] = {}
    exec(example.text, scope)
    accept, genuine = scope["accept"], published("msg_1")
    assert accept(genuine, BODY, SECRET, NOW + 299)
    assert not accept(genuine, BODY + b" ", SECRET, NOW)
    assert not accept(genuine, BODY, SECRET, NOW + 301)
    assert not accept(genuine | {"webhook-id": "msg_2"}, BODY, SECRET, NOW)


def cases() -> list[Any]:
    found: list[Any] = json.loads((ROOT / "docs/verify/cases.json").read_text("utf-8"))
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", cases())
def test_a_case_for_other_languages_is_judged_as_it_says(case: dict[str, Any]):
    """By the Python of docs/verify, and by pgrelay."""
    body, headers = base64.b64decode(case["body_base64"]), case["headers"]
    scope: dict[str, Any] = {}
    exec(verification("python").split("\n", 1)[1].rpartition("```")[0], scope)
    of_time = [headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")]
    assert scope["is_genuine"](case["secret"], *of_time, body, case["now"]) == case["standard"]
    of_body = headers.get("x-webhook-signature", "")
    assert scope["is_genuine_classic"](case["secret"], of_body, body) == case["classic"]
    for scheme in Scheme:
        found = examine(body, headers, case["secret"], now=case["now"], require=scheme)
        assert bool(found) == case[scheme], found.reason


def test_the_known_answers_are_right():
    """By the published library and by an HMAC made here."""
    text = PAGE.read_text("utf-8")
    answers = re.findall(r"^\| `(?:X-Webhook-Signature|webhook-signature)` \|.*\| `([^`]+)` \|$", text, re.M)
    classic = "sha256=" + hmac.digest(SECRET.encode(), BODY, "sha256").hex()
    assert answers == [classic, published("msg_1")["webhook-signature"]]
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    by_hand = hmac.digest(key, f"msg_1.{NOW}.".encode() + BODY, "sha256")
    assert answers[1] == "v1," + base64.b64encode(by_hand).decode()
