"""Filters: what is a filter, what it takes, and that none of them can hold up the others."""

import json
import re
from typing import Any

import psycopg
import pytest

from support.plans import reads
from support.queue import add_event, add_webhook, expand, pend, sign_on, value

URGENT = '$.data.callback_request.priority == "urgent"'


def body(**columns: Any) -> str:
    return json.dumps({"event": "callback.created", "data": {"callback_request": columns}})


def problem(db: psycopg.Connection, text: str) -> str | None:
    found: str | None = value(db, "select pgrelay.filter_problem(%s)", text)
    return found


def matches(db: psycopg.Connection, text: str, of: str) -> bool:
    found: bool = value(db, "select pgrelay.filter_matches(%s, %s)", text, of)
    return found


def owed(db: psycopg.Connection, webhook: int) -> list[int]:
    rows = db.execute(
        "select event_id from pgrelay.delivery_queue where webhook_id = %s order by event_id", (webhook,)
    )
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "taken", "left"),
    [
        (URGENT, {"priority": "urgent"}, {"priority": "low"}),
        (URGENT, {"priority": ["low", "urgent"]}, {}),
        ("$.data.callback_request.total >= 99.5 && !($.data.callback_request.paid == true)", {"total": 100}, {"total": 100, "paid": True}),
        ('$.data.*.priority == "a" || $.event == "x.y"', {"priority": "a"}, {"priority": "b"}),
        ("exists($.data.callback_request ? (@.a == 1 && @.b == 2))", {"a": 1, "b": 2}, {"a": 1, "b": 3}),
        ("exists($.data.callback_request.items[*] ? (@.n > 1 && exists(@.tags[*] ? (@ == \"x\"))))",
         {"items": [{"n": 2, "tags": ["x"]}]}, {"items": [{"n": 1, "tags": ["x"]}, {"n": 2, "tags": ["y"]}]}),
        ('$.data.callback_request.name starts with "Zo"', {"name": "Zoë"}, {"name": "Jo"}),
        ('$.data.callback_request.email like_regex "@example[.]com$" flag "i"', {"email": "a@EXAMPLE.com"}, {"email": "a@b.c"}),
        ("$.data.callback_request.gone == null", {"gone": None}, {"gone": 1}),
        ("($.data.callback_request.n > 1) is unknown", {"n": "text"}, {"n": 2}),
        ("$.data.callback_request.tags.size() > 1", {"tags": [1, 2]}, {"tags": [1]}),
        ('$.data.callback_request.at.datetime() >= "2026-01-01T00:00:00+00".datetime()',
         {"at": "2026-05-01T00:00:00+02:00"}, {"at": "2025-05-01T00:00:00+02:00"}),
        ("strict $.data.callback_request.n == -1", {"n": -1}, {"m": 1}),
        ('$.data.callback_request."odd key (?$ */" == 1', {"odd key (?$ */": 1}, {}),
        ("$.data.callback_request.n[last] == 3 && $.data.callback_request.n[0] == 1", {"n": [1, 3]}, {"n": [3, 1]}),
    ],
)  # fmt: skip
def test_a_filter_takes_what_meets_it(
    db: psycopg.Connection, text: str, taken: dict[str, Any], left: dict[str, Any]
) -> None:
    assert problem(db, text) is None
    assert matches(db, text, body(**taken))
    assert not matches(db, text, body(**left))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no SQL/JSON path"),
        ("priority = 'urgent'", "it is no SQL/JSON path"),
        ("$.a ==", "it is no SQL/JSON path"),
        ("$.a", "it is a value and no condition"),
        ("$", "it is a value and no condition"),
        ('$.a ? (@ == "x")', "it is a value and no condition"),
        ("$.a == $.b", "a literal on its right"),
        ('"x" == $.a', "a literal on its right"),
        ("$.a[*] == $.a[*]", "a literal on its right"),
        ("$.** == 1", "only these are understood"),
        ("exists($.a.** ? (exists(@.** ? (exists(@.**)))))", "only these are understood"),
        ("$[0 to last,0 to last][0 to last,0 to last] == 1", "only these are understood"),
        ("$[*].keyvalue().keyvalue().value == 1", "only these are understood"),
        ("exists($.a[*] ? (exists($.a[*] ? (@ == 1))))", "it starts again from $"),
        ("exists($.a[*] ? (@ == 1 && ((exists($.b)))))", "it starts again from $"),
        ("$.a * 2 == 4", "only these are understood"),
        ("$.a / 2 == 4", "arithmetic, a comment or a backslash"),
        ('/*"*/ $.a == 1 /*"*/', "arithmetic, a comment or a backslash"),
        ("$.a == $x", "it is no SQL/JSON path|only these are understood"),
        ('$"x" == 1', "only these are understood"),
        ('$.a like_regex "(.*)\\\\1"', "with like_regex"),
        ('$.a like_regex "(a{1,200}){1,200}"', "with like_regex"),
        ('$.a LIKE_REGEX "(a{1,200}){1,200}"', "with like_regex"),
        ('$.a like\\u005fregex "(a{1,200}){1,200}"', "arithmetic, a comment or a backslash"),
        ('$.a like_regex "(?=x)"', "with like_regex"),
        ('$.a like_regex "("', "it is no SQL/JSON path"),
        ("$.a == 1 || " * 60 + "$.a == 1", "longer than 500"),
        ("(" * 200 + "$.a" + ")" * 200 + " == 1", None),
    ],
)
def test_what_is_no_condition_or_could_run_away_is_refused_with_the_reason(
    db: psycopg.Connection, text: str, why: str | None
) -> None:
    found = problem(db, text)
    if why is None:
        return
    assert found is not None
    assert any(part in found for part in why.split("|")), found
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        add_webhook(db, filter=text)
    assert refused.value.diag.message_primary == f"filter: {found}"
    assert refused.value.diag.constraint_name == "filter_usable"
    assert "callback_request.priority" in (refused.value.diag.message_hint or "")


def test_only_events_that_meet_the_filter_are_owed_and_other_webhooks_get_them_all(
    db: psycopg.Connection,
) -> None:
    all_of_them, urgent = add_webhook(db), add_webhook(db, filter=URGENT)
    events = [add_event(db, body=body(priority=priority)) for priority in ("low", "urgent", "high")]
    step = expand(db, sign_on(db))
    assert [(lease.event_id, lease.webhook_id) for lease in step.leases] == [
        (events[0], all_of_them),
        (events[1], all_of_them),
        (events[1], urgent),
        (events[2], all_of_them),
    ]


def test_what_is_left_out_takes_no_place_from_what_is_owed(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, filter=URGENT)
    for priority in ("low", "low", "urgent"):
        add_event(db, body=body(priority=priority))
    step = expand(db, sign_on(db), free={webhook: 1})
    assert len(step.leases) == 1
    assert step.backlog == {}


def test_a_test_event_passes_every_filter(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, filter=URGENT)
    event = value(db, "select pgrelay.test_webhook(%s)", webhook)
    pend(db, sign_on(db))
    assert owed(db, webhook) == [event]


@pytest.mark.parametrize(
    "unreadable",
    [
        '{"data": 1e999999}',
        '{"data": "\\ud800"}',
        "no json at all",
        "[" * 20_000 + "]" * 20_000,
    ],
)
def test_a_body_that_cannot_be_judged_is_owed_and_stops_nothing(
    db: psycopg.Connection, unreadable: str
) -> None:
    webhook = add_webhook(db, filter=URGENT)
    events = [add_event(db, body=one) for one in (body(priority="low"), unreadable, body(priority="urgent"))]
    pend(db, sign_on(db))
    assert owed(db, webhook) == events[1:]
    assert value(db, "select filter_doubts from pgrelay.health") == 1
    assert value(db, "select pgrelay.filter_matches(%s, %s)", URGENT, unreadable), "a preview counts nothing"
    assert value(db, "select filter_doubts from pgrelay.health") == 1


def test_a_zero_character_is_judged_as_one_that_stands_for_it(db: psycopg.Connection) -> None:
    zero = '{"data": {"callback_request": {"priority": "%s", "note": "a\\u0000b\\\\u0000"}}}'
    assert matches(db, URGENT, zero % "urgent")
    assert not matches(db, URGENT, zero % "low")
    assert matches(db, '$.data.callback_request.note == "a\ufffdb\\\\u0000"', zero % "low")


def test_when_the_time_for_judging_is_over_what_is_left_is_owed(db: psycopg.Connection) -> None:
    assert value(db, "select pgrelay.judge_until()::text") == "infinity"
    db.execute("set statement_timeout = '10min'")
    assert value(db, "select pgrelay.judge_until() = statement_timestamp() + interval '5 min'")
    assert value(
        db, "select pgrelay.filter_matches(%s, %s, clock_timestamp() - interval '1 s')", URGENT, body()
    )
    assert value(db, "select filter_doubts from pgrelay.health") == 1


def test_webhooks_without_a_filter_ask_nothing(db: psycopg.Connection) -> None:
    for _ in range(3):
        add_webhook(db)
    add_event(db)
    db.execute("set track_functions = 'all'")
    with reads(db) as done:
        pend(db, sign_on(db))
    assert done
    db.execute("select pg_stat_force_next_flush()" if db.info.server_version >= 150_000 else "select 1")
    assert (
        value(
            db,
            "select coalesce(sum(pg_stat_get_xact_function_calls(oid)), 0) + coalesce(sum(pg_stat_get_function_calls(oid)), 0)"
            " from pg_proc where proname = 'filter_matches'",
        )
        == 0
    )


def test_a_replay_sends_what_the_filter_takes_as_it_is_now(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    events = [add_event(db, body=body(priority=priority)) for priority in ("low", "urgent")]
    db.execute("update pgrelay.webhook_configurations set filter = %s where id = %s", (URGENT, webhook))
    since = "now() - interval '1 day', now() + interval '1 day'"
    rows = db.execute(f"select event_id from pgrelay.replay_events(%s, {since})".encode(), (webhook,))
    assert rows.fetchall() == [(events[1],)]
    assert value(db, f"select pgrelay.replay(%s, {since})", webhook) == 1


def test_a_filter_is_tried_on_the_latest_events_before_it_counts(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, events=["callback.*"])
    events = [add_event(db, body=body(priority=priority)) for priority in ("urgent", "low", "urgent")]
    add_event(db, "order.paid", body=body(priority="urgent"))
    add_event(db, company_id="2", body=body(priority="urgent"))
    rows = db.execute("select event_id, matches from pgrelay.try_filter(%s, %s, 2)", (webhook, URGENT))
    assert rows.fetchall() == [(events[2], True), (events[1], False)]
    assert value(db, "select count(*) filter (where matches) from pgrelay.try_filter(%s)", webhook) == 3
    with pytest.raises(psycopg.errors.CheckViolation, match="filter: it is a value"):
        db.execute("select * from pgrelay.try_filter(%s, '$.a')", (webhook,))
    with pytest.raises(psycopg.Error) as missing:
        db.execute("select * from pgrelay.try_filter(0)")
    assert missing.value.sqlstate == "PGR20"


def test_a_tenant_tries_filters_on_events_of_its_own_alone(db: psycopg.Connection) -> None:
    theirs, ours = add_webhook(db, "2"), add_webhook(db, "1")
    add_event(db, company_id="2", body=body(priority="urgent"))
    event = add_event(db, company_id="1", body=body(priority="urgent"))
    db.execute("set role pgrelay_tenant")
    db.execute("set pgrelay.company_id = '1'")
    rows = db.execute("select event_id, matches from pgrelay.tenant_try_filter(%s, %s)", (ours, URGENT))
    assert rows.fetchall() == [(event, True)]
    with pytest.raises(psycopg.Error) as missing:
        db.execute("select * from pgrelay.tenant_try_filter(%s)", (theirs,))
    assert missing.value.sqlstate == "PGR20"
    assert value(db, "select pgrelay.tenant_filter_matches(%s, %s)", URGENT, body(priority="urgent"))
    assert value(db, "select pgrelay.tenant_filter_matches('$.** == 1', '{}')") is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"payload_format": "xml"}, 'payload_format is "xml", and may be standard'),
        ({"payload_format": None}, "payload_format is null, and may be"),
        ({"payload_format": "template"}, "payload_template: it is needed where payload_format is template"),
        ({"payload_template": "text"}, "payload_template: it is not JSON"),
        ({"payload_template": '"text"'}, "payload_template: it must be a JSON object or array"),
        ({"payload_template": json.dumps(["x" * 16_400])}, "payload_template: it is longer than 16384"),
    ],
)
def test_a_format_that_could_not_work_is_refused_at_its_field(
    db: psycopg.Connection, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        add_webhook(db, **columns)
    assert (refused.value.diag.message_primary or "").startswith(message)
    assert (refused.value.diag.constraint_name or "").startswith(re.split("[: ]", message)[0])


def test_source_and_resource_are_told_of_webhooks_whose_format_needs_them_alone(
    db: psycopg.Connection,
) -> None:
    add_webhook(db)
    other = add_webhook(db, payload_format="slack")
    add_event(db, source="callback_requests", resource_id="7")
    daemon = sign_on(db)
    plain, slack = expand(db, daemon).leases
    assert (plain.source, plain.resource_id) == (None, None)
    assert (slack.webhook_id, slack.source, slack.resource_id) == (other, b"callback_requests", b"7")


def test_a_mended_template_closes_the_circuit_that_the_broken_one_opened(db: psycopg.Connection) -> None:
    webhook = add_webhook(db, payload_format="template", payload_template='{"a": "{{ broken"}')
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries) values (%s, 20, 1)",
        (webhook,),
    )
    db.execute("update pgrelay.webhook_configurations set description = 'x' where id = %s", (webhook,))
    assert value(db, "select count(*) from pgrelay.webhook_health") == 1
    db.execute("update pgrelay.webhook_configurations set payload_template = '{}' where id = %s", (webhook,))
    assert value(db, "select count(*) from pgrelay.webhook_health") == 0
