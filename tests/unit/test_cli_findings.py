"""What check makes of the facts: which level, which words, which way to mend it."""

import inspect
import re
from datetime import UTC, datetime, timedelta

import pytest

from pgrelay.addresses import Policy
from pgrelay.cli import findings
from pgrelay.cli.findings import exit_code
from pgrelay.db import store
from pgrelay.db.admin_checks import DAEMON_VERBS
from pgrelay.doctor.finding import Finding, Level
from pgrelay.plan import Installed, plan
from pgrelay.sources import EventRule, Operation, Source, Tenant

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SERVER = {
    "version": "15.1",
    "version_num": 150_001,
    "encoding": "UTF8",
    "standby": False,
    "max_prepared_transactions": 0,
    "notification_queue_usage": 0.0,
}
HEALTH = {
    "daemons_alive": 1,
    "oldest_untried_at": None,
    "events_waiting": 0,
    "deadlines_overdue": 0,
    "deliveries_pending": 3,
}
ORDERS = Source(
    "orders", "public.orders", Tenant("company_id"), (EventRule("order.placed", (Operation.INSERT,)),)
)


def levels(found):
    return [finding.level for finding in found]


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([], 0),
        ([Level.OK, Level.INFO], 0),
        ([Level.OK, Level.WARNING], 1),
        ([Level.WARNING, Level.ERROR, Level.OK], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(found, code):
    assert exit_code(Finding(level, "x", "y") for level in found) == code


def test_a_usual_server_is_fine():
    assert levels(findings.of_server(SERVER, "app", "shop")) == [Level.OK]


@pytest.mark.parametrize(
    ("fact", "level", "words"),
    [
        ({"version_num": 130_009}, Level.ERROR, "PostgreSQL 14"),
        ({"standby": True}, Level.ERROR, "standby"),
        ({"encoding": "SQL_ASCII"}, Level.WARNING, "SQL_ASCII"),
        ({"notification_queue_usage": 0.2}, Level.WARNING, "20% full"),
        ({"notification_queue_usage": 0.6}, Level.ERROR, "60% full"),
    ],
)
def test_what_is_unusual_about_a_server_is_told_with_its_mend(fact, level, words):
    _, found = findings.of_server({**SERVER, **fact}, "app", "shop")
    assert found.level is level
    assert words in found.message
    assert found.mend


def test_a_clock_may_differ_by_a_second_and_not_more():
    assert findings.of_clock(-0.9).level is Level.OK
    assert findings.of_clock(1.5).message == "this machine's clock is 2 s ahead of the database's"
    assert findings.of_clock(-90).message == "this machine's clock is 1 min 30 s behind the database's"


def test_a_role_that_cannot_be_a_daemon_is_told_the_grant():
    found = findings.of_daemon_role(["pgrelay.claim()", "pgrelay.daemons"], "My App")
    assert found.level is Level.ERROR
    assert found.mend == 'grant pgrelay_daemon to "My App";'


def test_every_verb_that_a_daemon_calls_is_looked_at():
    called = set(re.findall(r"(?:select|from) pgrelay\.(\w+)\(", inspect.getsource(store)))
    assert len(called) > 10
    assert called <= set(DAEMON_VERBS.split())


def test_who_need_not_apply_is_no_problem_and_who_nearly_can_is_told_the_grant():
    may = {"create_schema": False, "watch": False, "owner": "dba", "no_trigger": []}
    assert levels(findings.of_applying(may, "app")) == [Level.INFO]
    (found,) = findings.of_applying(
        {**may, "create_schema": True, "watch": True, "no_trigger": ["public.orders"]}, "app"
    )
    assert (found.level, found.mend) == (Level.WARNING, "grant trigger on public.orders to app;")


def installed(owner="main", **faults):
    return Installed("orders", owner, "public.orders", ORDERS.definition(), **faults)


@pytest.mark.parametrize(
    ("sources", "known", "level", "words", "mend"),
    [
        ([ORDERS], installed(), Level.OK, "watches public.orders", ""),
        ([ORDERS], None, Level.WARNING, "not installed", "pgrelay apply"),
        ([], installed(), Level.WARNING, "not in the configuration any more", "pgrelay apply"),
        ([], installed("shop"), Level.OK, "watches public.orders", ""),
        (
            [ORDERS],
            installed(triggers_disabled=("t",)),
            Level.ERROR,
            "trigger t is disabled",
            "pgrelay apply",
        ),
        (
            [ORDERS],
            installed(columns_added=("x",)),
            Level.WARNING,
            "columns added to the table: x",
            "pgrelay apply",
        ),
        (
            [ORDERS],
            installed(table_exists=False, renamed_to="public.sales"),
            Level.ERROR,
            "table public.orders is called public.sales now",
            "Correct its table",
        ),
        (
            [],
            installed("shop", triggers_missing=("t",)),
            Level.ERROR,
            "trigger t is missing",
            "It belongs to shop",
        ),
        ([ORDERS], installed("shop"), Level.ERROR, "belongs to shop", "another name"),
    ],
)
def test_each_state_of_a_source_has_its_finding(sources, known, level, words, mend):
    (found,) = findings.of_plan(plan("main", sources, [known] if known else []), has_file=True)
    assert found.level is level
    assert words in found.message
    assert mend in found.mend


def test_without_a_file_what_is_installed_is_not_called_left_over():
    (found,) = findings.of_plan(plan("main", [], [installed()]), has_file=False)
    assert found.level is Level.OK


def test_watching_nothing_is_worth_a_warning():
    assert levels(findings.of_plan([], has_file=True)) == [Level.WARNING]


def daemon(**facts):
    return {
        "name": "a",
        "host": "h",
        "pid": 7,
        "version": "1",
        "heartbeat_at": NOW,
        "alive": True,
        "lapsed": False,
        **facts,
    }


def test_no_daemon_alive_says_how_to_start_one():
    (found,) = findings.of_daemons([daemon(alive=False)], NOW)
    assert found.level is Level.WARNING
    assert "systemctl start pgrelay" in found.mend


def test_a_silent_daemon_is_told_beside_one_that_lives():
    silent = daemon(alive=False, lapsed=True, heartbeat_at=NOW - timedelta(minutes=2))
    found = findings.of_daemons([daemon(), silent], NOW)
    assert levels(found) == [Level.OK, Level.WARNING]
    assert "fell silent 2 min ago" in found[1].message


def test_work_that_waits_is_told_where_it_should_not():
    assert levels(findings.of_health(HEALTH, NOW)) == [Level.OK]
    waiting = {**HEALTH, "oldest_untried_at": NOW - timedelta(minutes=5)}
    assert "for 5 min" in findings.of_health(waiting, NOW)[0].message
    fresh = {**HEALTH, "oldest_untried_at": NOW - timedelta(seconds=5), "events_waiting": 9}
    assert levels(findings.of_health(fresh, NOW)) == [Level.OK]
    unattended = {**HEALTH, "daemons_alive": 0, "events_waiting": 9, "deadlines_overdue": 1}
    assert levels(findings.of_health(unattended, NOW)) == [Level.WARNING, Level.WARNING]


def test_notifications_that_do_not_arrive_are_a_poolers_doing_and_prepared_transactions_are_known():
    assert findings.of_notifications(True, 0, 0.1).level is Level.OK
    lost = findings.of_notifications(False, 0, 0.1)
    assert lost.level is Level.WARNING
    assert "database.listen_dsn" in lost.mend
    assert "100 ms" in lost.mend
    assert findings.of_notifications(True, 20, 0.1).level is Level.INFO


def test_urls_that_would_be_refused_are_told_and_many_of_them_in_short():
    webhooks = [{"id": n, "name": f"w{n}", "url": f"http://10.0.0.{n}/"} for n in range(1, 15)]
    found = findings.of_urls(webhooks, Policy.of([], allow_http=True))
    assert len(found) == 11
    assert "10.0.0.1 is refused: private 10.0.0.0/8" in found[0].message
    assert found[-1].message.startswith("4 more webhooks")
    assert levels(findings.of_urls(webhooks, Policy.of(["10.0.0.0/8"], allow_http=True))) == [Level.OK]


def test_capture_errors_transactions_and_sequences_name_their_mend():
    error = {
        "source": "orders",
        "event_type": "order.placed",
        "errors": 2,
        "last_at": NOW,
        "message": "no column",
    }
    assert findings.of_capture_errors([error], NOW)[0].mend.endswith("pgrelay recapture --source orders")
    assert levels(findings.of_transactions([{"who": "pid 1", "seconds": 400.0}])) == [Level.INFO]
    row = {"sequence": "pgrelay.outbox_id_seq", "last_value": 1, "highest": 9}
    assert findings.of_sequences([row])[0].mend == "select setval('pgrelay.outbox_id_seq', 9);"
    assert findings.of_api([], [], "relay") == []
    assert findings.of_api(["pgrelay_tenant"], [], "relay")[0].mend == "grant pgrelay_tenant to relay;"
    assert findings.of_api(["pgrelay_tenant"], ["pgrelay_tenant"], "relay") == [], "it cannot be granted yet"
    assert findings.of_roles([]) == []
    assert levels(findings.of_roles(["pgrelay_reader"])) == [Level.INFO]


def troubled(**facts):
    known = {"disabled_at": None, "disabled_reason": None, "failures_in_row": 0, "failing_since": None}
    return {"id": 3, "name": "CRM", "circuit_open": False, "held_until": None, **known, **facts}


def test_a_disabled_webhook_is_a_warning_for_a_week_and_says_how_to_make_up_for_it():
    news = {"disabled_at": NOW - timedelta(days=2), "disabled_reason": "the receiver answered 410 Gone"}
    (found,) = findings.of_troubled([troubled(**news)], NOW)
    assert (found.level, found.subject) == (Level.WARNING, "webhook 3")
    assert found.message == "CRM was disabled 2 d ago: the receiver answered 410 Gone"
    assert "pgrelay webhooks enable 3" in found.mend
    assert "pgrelay replay --webhook 3 --since 2026-10-30T00:00:00+00:00" in found.mend
    assert levels(findings.of_troubled([troubled(disabled_at=NOW - timedelta(days=9))], NOW)) == [Level.INFO]


def test_an_open_circuit_is_a_warning_and_a_receiver_that_wants_quiet_is_none():
    soon = NOW + timedelta(seconds=30)
    failing = {"failures_in_row": 12, "failing_since": NOW - timedelta(hours=1), "held_until": soon}
    (found,) = findings.of_troubled([troubled(circuit_open=True, **failing)], NOW)
    assert found.level is Level.WARNING
    assert found.message == (
        "CRM fails: 12 attempts in a row failed, the first 1 h ago; circuit open, next probe in 30 s"
    )
    assert "pgrelay webhooks resume 3" in found.mend
    (held,) = findings.of_troubled([troubled(held_until=soon)], NOW)
    assert held.level is Level.INFO
    assert "nothing is sent before in 30 s" not in held.message


def test_of_many_troubled_webhooks_some_are_named():
    found = findings.of_troubled([troubled(held_until=NOW)] * 15, NOW)
    assert len(found) == 11
    assert found[-1].message.startswith("5 more webhooks")


def test_a_client_certificate_is_told_before_it_ends_and_when_it_has():
    told = {
        days: findings.of_tls("", "/etc/client.pem", NOW + timedelta(days=days), NOW) for days in (30, 3, -1)
    }
    assert {days: finding.level for days, finding in told.items()} == {
        30: Level.OK,
        3: Level.WARNING,
        -1: Level.ERROR,
    }
    assert told[3].message == "the client certificate /etc/client.pem ends in 3 d"
    assert findings.of_tls("", "", None, NOW).message == "trusts the system's certificates"


SECRETS = {"sealed_with": None, "plain": 0, "awaited": 0, "key_ids": []}


@pytest.mark.parametrize(
    ("kept", "keys", "level", "words"),
    [
        ({"plain": 3}, (), Level.INFO, "in the clear"),
        ({"sealed_with": "a"}, (), Level.INFO, "sealed with key a, which is not here"),
        ({"sealed_with": "a", "key_ids": ["a"]}, (), Level.INFO, "sealed with key a, which is not here"),
        ({"sealed_with": "a", "key_ids": ["a"]}, ("a",), Level.OK, "sealed with key a"),
        ({"sealed_with": "a"}, ("a",), Level.OK, "sealed with key a"),
        ({"plain": 1, "awaited": 1}, ("a",), Level.WARNING, "2 webhooks with secrets in the clear"),
        ({"key_ids": ["a", "b"]}, ("b", "a"), Level.INFO, "an older key, a"),
        ({"key_ids": ["a", "b"]}, ("b",), Level.ERROR, "sealed with key a, which is not among those"),
    ],
)
def test_how_secrets_are_kept_is_told_by_what_there_is_and_which_keys_are_here(kept, keys, level, words):
    found = findings.of_secrets({**SECRETS, **kept}, keys)
    assert (found.level, words in found.message) == (level, True), found
