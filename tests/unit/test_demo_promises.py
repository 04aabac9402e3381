"""What the demonstration holds every request to: each promise, broken on purpose, is noticed."""

import pytest

from pgrelay.demo.hooks import Arrival
from pgrelay.demo.promises import broken

ARRIVAL = Arrival(
    hook="crm.example",
    event_type="callback.created",
    key="callback_1_created_17",
    resource_id="1",
    company_id="1",
    attempt=1,
    status=200,
    body=b"{}",
    at=0.0,
    problem="",
)


def test_a_genuine_request_breaks_no_promise():
    assert broken(ARRIVAL, "1", "1", {}) == ""
    assert broken(ARRIVAL, "1", "1", {("crm.example", "callback_1_created_17"): b"{}"}) == ""


def test_a_test_event_has_no_company_in_its_body_and_is_fine():
    assert broken(ARRIVAL._replace(event_type="webhook.test", company_id=""), "1", "1", {}) == ""


def test_a_test_that_went_past_the_queue_has_no_event_and_is_fine_if_its_signature_is():
    test = ARRIVAL._replace(event_type="webhook.test", company_id="")
    assert broken(test, "1", None, {}) == ""
    assert "forged" in broken(test._replace(problem="forged"), "1", None, {})


@pytest.mark.parametrize(
    ("arrival", "event_company", "bodies", "said"),
    [
        (ARRIVAL._replace(problem="forged"), "1", {}, "its signature is wrong: forged"),
        (ARRIVAL, None, {}, "no committed event has that key"),
        (ARRIVAL, "2", {}, "belongs to company 2 and not to 1"),
        (ARRIVAL._replace(company_id="2"), "1", {}, "and not to 1"),
        (ARRIVAL, "1", {("crm.example", ARRIVAL.key): b"[]"}, "another body than the first time"),
    ],
)
def test_a_broken_promise_is_a_sentence_that_names_the_request(arrival, event_company, bodies, said):
    sentence = broken(arrival, "1", event_company, bodies)
    assert said in sentence and "callback_1_created_17" in sentence


def test_what_another_webhook_received_under_the_same_key_does_not_count():
    assert broken(ARRIVAL, "1", "1", {("mail.example", ARRIVAL.key): b"[]"}) == ""
