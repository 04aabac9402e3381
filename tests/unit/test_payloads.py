"""What each payload format makes of an event: forms, escapes, limits, and the same bytes every time."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.delivery import Claim
from pgrelay.payloads import About, Payload, Unrenderable, payload
from pgrelay.payloads.event import MAX_EVENT
from pgrelay.payloads.preview import preview
from support.factories import claim

ABOUT = About(7, "CRM", "42")
KEY = "callback_123_created_1764202871123000001"
TIME = "2026-11-27T00:21:11.123456+00:00"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=15,
)


def body(data: str) -> bytes:
    """As capture writes it."""
    return f'{{"event":"callback.created","idempotency_key":"{KEY}","timestamp":"{TIME}","data":{data}}}'.encode()


def an_event(data: str = '{"callback_request":{"id":123}}', **fields: Any) -> Claim:
    given = {
        "event_type": "callback.created",
        "idempotency_key": KEY,
        "body": body(data),
        "source": b"callback_requests",
        "resource_id": b"123",
        **fields,
    }
    return claim(**given)


def made(name: str) -> Payload:
    found = payload(ABOUT, name, None)
    assert found is not None
    return found


def test_standard_has_no_payload_so_its_body_is_never_touched():
    assert payload(ABOUT, "standard", None) is None


def test_a_format_of_a_later_version_fails_its_deliveries_and_says_so():
    with pytest.raises(Unrenderable, match="knows no payload format 'xml'"):
        made("xml").render(an_event())


# CloudEvents -----------------------------------------------------------------------------------------------------------


def test_a_cloud_event_has_the_attributes_of_its_event_and_its_data_byte_for_byte():
    data = '{"callback_request":{"price":0.10,"n":12345678901234567890.5,"é":"\\u0000 \\"}","a":1,"a":2}}'
    sent = made("cloudevents").render(an_event(data))
    assert sent.decode() == (
        f'{{"specversion":"1.0","id":"{KEY}","source":"/pgrelay/callback_requests","type":"callback.created",'
        f'"subject":"123","time":"{TIME}","datacontenttype":"application/json","data":{data}}}'
    )


def test_a_test_event_is_the_data_of_its_cloud_event_as_a_whole():
    test = b'{"test" : true, "message" : "hello", "webhook_name" : "CRM", "timestamp" : "2026-01-01T00:00:00+00:00"}'
    sent = json.loads(
        made("cloudevents").render(
            claim(event_type="webhook.test", idempotency_key="webhook_7_test_1", body=test, resource_id=b"7")
        )
    )
    assert sent["data"] == json.loads(test)
    assert (sent["time"], sent["source"], sent["id"]) == (
        "2026-01-01T00:00:00+00:00",
        "/pgrelay",
        "webhook_7_test_1",
    )


@given(JSON, st.text(max_size=20), st.text(max_size=20))
def test_whatever_the_event_holds_a_cloud_event_is_one_json_object(data: Any, source: str, resource: str):
    event = an_event(
        json.dumps(data),
        source=source.encode("utf-8", "replace"),
        resource_id=resource.encode("utf-8", "replace"),
    )
    sent = json.loads(made("cloudevents").render(event))
    assert sent["data"] == data
    assert re.fullmatch(r"[!-~]+", sent["source"])
    assert sent.get("subject", "x") != ""
    assert set(sent) <= {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}


def test_a_cloud_event_takes_a_body_of_any_size_and_any_bytes():
    large = b'{"x":"' + b"\xe9" * (2 * MAX_EVENT) + b'"}'
    assert made("cloudevents").render(an_event(body=large)).endswith(large + b"}")


# Slack -----------------------------------------------------------------------------------------------------------------


def accepted_by_slack(sent: bytes) -> dict[str, Any]:
    """Holds a message to what Slack's documentation says of incoming webhooks and Block Kit."""
    message: dict[str, Any] = json.loads(sent)
    assert set(message) == {"text", "mrkdwn", "unfurl_links", "unfurl_media", "blocks"}
    assert 1 <= len(message["text"]) <= 40_000
    assert 1 <= len(message["blocks"]) <= 50
    texts = [message["text"]]
    for block in message["blocks"]:
        match block["type"]:
            case "header":
                assert block["text"]["type"] == "plain_text"
                assert 1 <= len(block["text"]["text"]) <= 150
                texts.append(block["text"]["text"])
            case "section":
                assert 1 <= len(block["fields"]) <= 10
                assert all(1 <= len(field["text"]) <= 2000 for field in block["fields"])
                assert all(field["type"] == "mrkdwn" and field["verbatim"] for field in block["fields"])
                texts += [field["text"] for field in block["fields"]]
            case "context":
                assert 1 <= len(block["elements"]) <= 10
                assert all(1 <= len(one["text"]) <= 3000 and one["verbatim"] for one in block["elements"])
                texts += [one["text"] for one in block["elements"]]
            case other:
                raise AssertionError(other)
    for text in texts:
        assert "<" not in text and ">" not in text
        assert re.sub("&(amp|lt|gt);", "", text).count("&") == 0
        assert not re.search("@(channel|here|everyone|all\\b)", text, re.IGNORECASE)
    return message


def test_a_slack_message_says_what_happened_with_the_values_that_are_there():
    data = '{"note":"call soon","callback_request":{"id":123,"customer_name":"Zoë","price":0.10,"urgent":true,"gone":null,"tags":[1]}}'
    message = accepted_by_slack(made("slack").render(an_event(data)))
    assert message["text"].splitlines() == [
        "Callback created: 123",
        "Note: call soon",
        "Id: 123",
        "Customer name: Zoë",
        "Price: 0.10",
        "Urgent: yes",
    ]
    header, section, context = message["blocks"]
    assert header["text"]["text"] == "Callback created: 123"
    assert section["fields"][2]["text"] == "*Customer name*\nZoë"
    assert context["elements"][0]["text"].startswith("2026-11-27 00:21:11 UTC · callback.created · ")


def test_a_test_event_is_a_message_that_slack_accepts():
    test = b'{"test" : true, "message" : "This is a test event from pgrelay.", "webhook_name" : "CRM", "timestamp" : "x"}'
    message = accepted_by_slack(made("slack").render(claim(event_type="webhook.test", body=test)))
    assert message["text"] == "This is a test event from pgrelay.\nWebhook: CRM"


@pytest.mark.parametrize(
    "hostile",
    [
        "<!channel> <@U123> <!subteam^S1> <http://evil.example|bank>",
        "@channel @HERE @everyone @all",
        "&lt;!channel&gt; &amp;amp;",
        "<" * 5000,
        "&" * 149 + "<",
        "\u202egnp.exe\x00\ud800",
        " ",
        "",
    ],
)
def test_data_cannot_ping_link_or_outgrow_a_slack_message(hostile: str):
    data = json.dumps(
        {"callback_request": {hostile: hostile, "a": hostile, **{f"c{n}": hostile for n in range(40)}}}
    )
    event = an_event(data, resource_id=hostile.encode("utf-8", "replace"))
    accepted_by_slack(made("slack").render(event))


@given(JSON, st.text(max_size=200))
def test_whatever_the_event_holds_slack_accepts_the_message_and_its_bytes_are_the_same_again(
    data: Any, resource: str
):
    event = an_event(json.dumps(data), resource_id=resource.encode("utf-8", "replace"))
    sent = made("slack").render(event)
    accepted_by_slack(sent)
    assert payload(ABOUT, "slack", None).render(event._replace(attempt=9, age_seconds=77.0, due=1.0)) == sent  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"{", "is no JSON"),
        (b'{"a":"\xff"}', "is no JSON"),
        (b'{"a":NaN}', "is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (MAX_EVENT + 1), "take at most 1,048,576"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_never_raises_anything_else(broken: bytes, why: str):
    with pytest.raises(Unrenderable, match=why):
        made("slack").render(an_event(body=broken))


# Previews --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cloudevents", "slack", "template"])
def test_a_preview_is_to_the_byte_what_is_sent(name: str):
    event = an_event()
    row = {
        "id": 1,
        "event_type": event.event_type,
        "idempotency_key": KEY,
        "body": event.body.decode(),
        "source": "callback_requests",
        "resource_id": "123",
    }
    template = '{"a": "{{ resource_id }} of {{ source }}", "b": "{{ webhook.name }}"}'
    sender = payload(ABOUT, name, template)
    assert sender is not None
    shown = preview(ABOUT, name, template, row)
    assert shown.body == sender.render(event).decode()
    assert shown.content_type == sender.content_type
    assert preview(ABOUT, "standard", None, row).body == row["body"]


def test_a_preview_says_why_there_is_no_body():
    row = {
        "id": 1,
        "event_type": "a.b",
        "idempotency_key": "k",
        "body": "{",
        "source": None,
        "resource_id": None,
    }
    assert preview(ABOUT, "slack", None, row).error == "the event's body is no JSON: JSONDecodeError"
