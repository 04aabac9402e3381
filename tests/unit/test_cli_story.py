"""A delivery told in words: what comes next, whatever its state, and nothing that could drive the terminal."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from pgrelay.cli.output import Output
from pgrelay.cli.story import next_step, print_story

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WEBHOOK = {
    "id": 3,
    "company_id": "1",
    "name": "CRM",
    "url": "https://e.com",
    "paused": False,
    "payload_format": "standard",
    "updated_at": None,
    "max_retry_attempts": 3,
}
EVENT = {
    "id": 5,
    "event_type": "order.placed",
    "resource_id": "9",
    "company_id": "1",
    "idempotency_key": "order_9_placed_1",
    "occurred_at": NOW - timedelta(minutes=2),
    "body": "{}",
}
ATTEMPT = {
    "attempt": 1,
    "started_at": NOW - timedelta(seconds=19),
    "duration_ms": 250,
    "status_code": 503,
    "error_kind": "status",
    "error_message": "HTTP 503 Service Unavailable",
    "request_headers": {"X-Webhook-Signature": "sha256=***"},
    "response_headers": {"Server": "x\x1b[2J"},
    "response_body": "sorry\n" * 40,
    "daemon": "relay-1",
    "late": False,
    "requests": 1,
}


def story(**facts):
    return {
        "id": 7,
        "event_id": 5,
        "webhook_id": 3,
        "status": "pending",
        "attempts": 1,
        "next_attempt_at": NOW + timedelta(seconds=41),
        "finished_at": NOW - timedelta(hours=1),
        "leased_by": None,
        "last_error": None,
        "waits_because": None,
        "waits_for": None,
        "expires_at": None,
        "event": EVENT,
        "webhook": WEBHOOK,
        "attempts_made": [ATTEMPT],
        **facts,
    }


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "Fails for good after 2 more attempts, next in 41 s."),
        ({"attempts": 2}, "Fails for good after 1 more attempt, next in 41 s."),
        ({"next_attempt_at": NOW - timedelta(seconds=5)}, "Fails for good after 2 more attempts, next now."),
        ({"attempts": 0, "next_attempt_at": NOW}, "Not tried yet, due now."),
        (
            {"webhook": {**WEBHOOK, "paused": True}, "waits_because": "its webhook is paused"},
            "Fails for good after 2 more attempts. Now its webhook is paused. Go on: pgrelay webhooks resume 3",
        ),
        ({"waits_because": "attempt 2 is due in 00:00:41; it expires in …"}, "attempts, next in 41 s."),
        ({"expires_at": NOW + timedelta(minutes=3)}, "next in 41 s. It expires in 3 min."),
        (
            {
                "attempts": 0,
                "next_attempt_at": None,
                "waits_because": "delivery 4 of the same resource goes first: it is being sent",
                "waits_for": {"id": 4, "created_at": NOW - timedelta(hours=2)},
            },
            "Not tried yet. Now delivery 4 of the same resource goes first: it is being sent.\n"
            "Delivery 4 was made 2 h ago. Its story: pgrelay deliveries show 4",
        ),
        ({"webhook": None}, "Its webhook is deleted. Cancel it: pgrelay deliveries cancel 7"),
        ({"status": "in_flight", "leased_by": "relay-1"}, "Being sent by relay-1 now."),
        ({"status": "succeeded"}, "Delivered 1 h ago."),
        (
            {"status": "failed", "attempts": 3},
            "Given up after 3 attempts, 1 h ago. Try again: pgrelay deliveries retry 7",
        ),
        ({"status": "cancelled", "last_error": "cancelled by ada"}, "Cancelled 1 h ago: cancelled by ada."),
        ({"status": "expired"}, "Expired 1 h ago."),
    ],
)
def test_what_comes_next_is_said_in_words(facts, words):
    assert words in next_step(story(**facts), NOW, daemons_alive=1)


def test_a_pending_delivery_without_a_daemon_says_so():
    assert next_step(story(), NOW, daemons_alive=0).endswith("Start a daemon: pgrelay run")
    assert "daemon" not in next_step(story(status="failed"), NOW, daemons_alive=0)


def told(**facts):
    out = Output(out=io.StringIO(), err=io.StringIO())
    print_story(out, story(**facts), NOW, daemons_alive=1)
    return out.out.getvalue()


def test_the_story_has_event_webhook_request_answer_and_reason_in_that_order():
    text = told()
    parts = [
        "Delivery 7: pending",
        "order.placed of 9, 2 min ago",
        "order_9_placed_1",
        "webhook 3 (CRM): https://e.com",
        "✗ Attempt 1, 19 s ago by relay-1",
        "status: HTTP 503 Service Unavailable after 250 ms",
        "→ X-Webhook-Signature: sha256=***",
        "← Server: x\\x1b[2J",
        "← sorry",
        "Fails for good",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "\x1b" not in text


def test_a_long_answer_is_cut():
    assert told().count("sorry") == 12
    assert "…" in told()


def test_what_is_not_kept_any_more_is_no_error():
    text = told(
        event=None, webhook=None, attempts_made=[{**ATTEMPT, "response_headers": None, "response_body": None}]
    )
    assert "Event 5 is older than its retention" in text
    assert "Webhook 3 is deleted" in text
