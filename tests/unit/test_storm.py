"""The checks of `support.storm` can fail: each finds the one thing that is wrong in a diary that is otherwise in order."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.storm import complaints
from support.storm_application import Written
from support.storm_diary import Arrival, Diary, Event, History, Terms

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EVENTS = {
    f"key_{number}": Event(number, "1", "source 7", b'{"number": %d}' % number) for number in range(1, 7)
}


def arrival(number: int, at: float, **fields: object) -> Arrival:
    """Event `number`, answered at once and well."""
    key = f"key_{number}"
    body = EVENTS[key].body if key in EVENTS else b"{}"
    signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"webhook-id": key, "x-webhook-signature": signature}
    made = Arrival(1, "one", key, 1, body, headers, at, at + 0.01, 200)
    return replace(made, **fields)


def terms() -> Terms:
    return Terms(
        "1", True, 3, History(0.0, True), History(0.0, None), History(0.0, None), History(0.0, SECRET)
    )


def found(
    *arrivals: Arrival,
    change: Callable[[Terms], None] = lambda _: None,
    attempts: dict[tuple[int, int, int], list[int | None]] | None = None,
    stop: tuple[float, float] | None = None,
    outage: tuple[float, float] | None = None,
) -> list[str]:
    """What is wrong with these, given what is on record: by default, all of them."""
    diary = Diary(webhooks={1: terms()}, arrivals=list(arrivals))
    change(diary.webhooks[1])
    if stop is not None:
        diary.stops["one"].append(stop)
    if outage is not None:
        diary.outages.append(outage)
    recorded: dict[tuple[int, int, int], list[int | None]] = {}
    for one in arrivals:
        if one.key in EVENTS:
            recorded.setdefault((1, EVENTS[one.key].id, one.attempt), []).append(one.status)
    return complaints(diary, EVENTS, recorded if attempts is None else attempts)


def limited(most: int | None = None, rate: float | None = None) -> Callable[[Terms], None]:
    def change(terms: Terms) -> None:
        terms.max_concurrency.change(1.0, most)
        terms.rate.change(1.0, rate)

    return change


def test_what_is_in_order_is_not_complained_of() -> None:
    tries = [arrival(1, 10.0, status=500), arrival(1, 11.0, attempt=2), arrival(2, 12.0)]
    assert found(*tries) == []
    assert found(*tries, change=limited(1, 1)) == []


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (arrival(9, 10.0), "invented key_9"),
        (arrival(1, 10.0, body=b"{ }"), "another body"),
        (arrival(1, 10.0, headers={**arrival(1, 10.0).headers, "webhook-id": "x"}), "came as x"),
        (arrival(1, 10.0, attempt=4), "attempt 4 of 3"),
    ],
)
def test_what_comes_is_what_was_captured(one: Arrival, said: str) -> None:
    assert any(said in text for text in found(one))


def test_a_tenant_gets_its_own_signed_with_a_secret_of_the_time() -> None:
    def change(terms: Terms) -> None:
        terms.company_id = "2"
        terms.secrets.change(1.0, "whsec_another")

    (tenant, secret) = found(arrival(1, 10.0), change=change)
    assert "is of tenant 1" in tenant and "no secret of its time" in secret


def test_who_is_not_to_be_called_is_not() -> None:
    def change(terms: Terms) -> None:
        terms.callable.change(5.0, False)

    assert found(arrival(1, 9.0), change=change) == []  # nobody may have heard of it yet
    (text,) = found(arrival(1, 10.1), change=change)
    assert "inactive, paused or gone" in text


def test_what_changed_as_the_database_went_away_may_be_heard_of_once_it_has_come_back() -> None:
    def change(terms: Terms) -> None:
        terms.callable.change(5.0, False)

    assert found(arrival(1, 10.1), change=change, outage=(5.5, 7.0)) == []
    for outage in ((20.0, 21.0), (5.5, 7.0)):
        (text,) = found(arrival(1, 12.1), change=change, outage=outage)
        assert "inactive, paused or gone" in text
    busy = arrival(1, 10.0, status=429, retry_after=20.0)
    assert found(busy, arrival(2, 20.0), outage=(11.0, 12.0)) == []
    assert len(found(busy, arrival(2, 20.0), outage=(14.0, 15.0))) == 1


def test_what_has_outlived_its_time_comes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENTS, "key_1", EVENTS["key_1"]._replace(valid_until=9.0))
    assert found(arrival(1, 9.9)) == []  # it was on its way
    (text,) = found(arrival(1, 10.1))
    assert "1.10 s after its time was over" in text


def test_what_the_application_was_not_told_is_committed_as_a_whole_or_not_at_all() -> None:
    written = Written({("a", 1)}, [frozenset({("a", 2), ("a", 3)})])
    assert written.complaints({("a", 1)}) == []
    assert written.complaints({("a", 1), ("a", 2), ("a", 3)}) == []
    assert "half of a transaction" in written.complaints({("a", 1), ("a", 2)})[0]
    assert "lost" in written.complaints(set())[0]
    assert "invented" in written.complaints({("a", 1), ("a", 4)})[0]


def test_no_more_at_once_than_the_limit() -> None:
    events = [arrival(number, 10.0 + number / 10, ended=11.0) for number in (1, 2)]
    events = [replace(one, key=key, body=EVENTS[key].body) for one, key in zip(events, EVENTS, strict=False)]
    assert any("2 at once" in text for text in found(*events, change=limited(1)))
    assert not any("at once" in text for text in found(*events, change=limited(2)))


def test_no_more_in_a_second_than_the_limit() -> None:
    events = [arrival(number, 10.0 + number * 0.45) for number in (1, 2, 3)]
    (text,) = found(*events, change=limited(rate=2))
    assert "3 within 0.900 s" in text
    assert found(*events, change=limited(rate=3)) == []


def test_whoever_asks_to_be_left_alone_is() -> None:
    busy = arrival(1, 10.0, status=429, retry_after=20.0)
    assert found(busy, arrival(2, 12.0)) == []  # another daemon, which had it already
    (text,) = found(busy, arrival(2, 20.0))
    assert "10.01 s before it wanted to be" in text
    assert found(busy, arrival(2, 31.0)) == []


def test_retry_after_is_honoured_to_the_moment_with_any_status_where_the_answer_was_heard() -> None:
    tries = [arrival(1, 10.0, status=500, retry_after=2.0), arrival(1, 11.9, attempt=2)]
    (text,) = found(*tries)
    assert "after it asked for 2.0" in text
    assert found(*tries, attempts={(1, 1, 1): [None], (1, 1, 2): [200]}) == []  # the daemon died before


def test_every_request_is_an_attempt_on_record_but_for_one_that_went_out_once_more() -> None:
    (text,) = found(arrival(1, 10.0), attempts={})
    assert "came 1 times, [] is on record" in text
    again = [arrival(1, 10.0, status=None), arrival(1, 10.1)]
    assert found(*again, attempts={(1, 1, 1): [200]}) == []
    late = [arrival(1, 10.0, status=None), arrival(1, 19.0)]
    assert len(found(*late, attempts={(1, 1, 1): [200]})) == 1


def test_of_one_resource_one_after_the_other() -> None:
    (text,) = found(arrival(2, 10.0), arrival(1, 11.0))
    assert "event 1 came after event 2" in text
    (text,) = found(arrival(1, 10.0, ended=12.0), arrival(2, 11.0))
    assert "while event 1 was under way" in text


def test_what_a_daemon_had_begun_when_it_was_stopped_counts_for_no_limit_and_no_order() -> None:
    events = [arrival(2, 10.0, daemon="two"), arrival(1, 20.1)]
    assert len(found(*events)) == 1
    assert found(*events, stop=(5.0, 20.0)) == []
