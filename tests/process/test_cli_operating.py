"""`webhooks`, `deliveries`, `replay`, `recapture`, `listen`: an operator's verbs, without a daemon."""

import json
import signal
import urllib.error
import urllib.request

import pytest

from pgrelay.signing import classic_signature
from support.command import Command

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def pgrelay(app, tmp_path):
    command = Command(tmp_path, app.dsn)
    assert command("apply").code == 0
    return command


@pytest.fixture
def execute(app):
    with app.connect() as connection:
        yield connection.execute


@pytest.fixture
def webhook(pgrelay):
    """The id of a webhook of company 1."""
    done = pgrelay("webhooks", "add", "--company", "1", "--name", "CRM", "--url", "https://e.com/x", "--event",
                   "callback.*", "--header", "X-Key: hidden", "--secret", SECRET, "--json")  # fmt: skip
    return str(done.data["id"])


@pytest.fixture
def owed(execute):
    """Makes deliveries as a daemon would, and finishes some of them."""

    def owed(webhook, number=1, failed=0):
        execute("insert into callback_requests (company_id, customer_name, customer_phone)"
                " select 1, 'c', '1' from generate_series(1, %s)", (number,))  # fmt: skip
        execute("insert into pgrelay.delivery_queue (webhook_id, event_id, event_slot)"
                " select %s, id, slot from pgrelay.outbox order by id", (webhook,))  # fmt: skip
        ids = [row[0] for row in execute("select id from pgrelay.delivery_queue order by id").fetchall()]
        execute("select pgrelay.finish_pending(%s, 'expired', 'too old')", (ids[:failed],))
        return [str(number) for number in ids]

    return owed


# Webhooks ---------------------------------------------------------------------------------------------------------


def test_a_new_webhook_shows_its_secret_once_and_warns_of_what_will_not_be_called(pgrelay):
    done = pgrelay(
        "webhooks", "add", "--company", "1", "--name", "local", "--url", "http://localhost:1/", "--event", "*"
    )
    assert done.code == 0
    assert done.out.splitlines()[1].startswith("Secret: whsec_")
    assert "network.allow_http is off" in done.err
    assert "Next: pgrelay webhooks test 1" in done.err


def test_a_webhook_hides_its_secret_and_header_values_unless_asked(pgrelay, webhook):
    shown = pgrelay("webhooks", "show", webhook)
    assert "X-Key: ***" in shown.out
    assert SECRET not in shown.out
    assert "hidden" not in shown.out
    assert pgrelay("webhooks", "show", webhook, "--json").data["secret_key"] == "whsec_***"
    revealed = pgrelay("webhooks", "show", webhook, "--reveal", "--json").data
    assert (revealed["secret_key"], revealed["headers"]) == (SECRET, {"X-Key": "hidden"})


def test_options_are_set_together_or_not_at_all(pgrelay, webhook):
    wrong = pgrelay("webhooks", "set", webhook, "name=other", "header.Host=x")
    assert wrong.code == 1
    assert "Host is set by pgrelay or by HTTP itself" in wrong.err
    assert pgrelay("webhooks", "set", webhook, "timeout=500").code == 1
    assert pgrelay("webhooks", "show", webhook, "--json").data["name"] == "CRM"
    done = pgrelay(
        "webhooks", "set", webhook, "schedule=5,1m", "events=callback.created,a.b", "header.x-key=", "--json"
    )
    assert (done.data["retry_schedule"], done.data["subscribed_events"], done.data["headers"]) == (
        [5, 60],
        ["callback.created", "a.b"],
        None,
    )


def test_a_webhook_is_changed_by_the_same_options_that_made_it(pgrelay, webhook):
    done = pgrelay(
        *(
            "webhooks",
            "set",
            webhook,
            "--json",
            "--name",
            "other",
            "--url",
            "https://a.example/x",
            "--timeout",
            "5",
        ),
        *("--event", "callback.created", "--event", "order.*", "--header", "X-Key: b", "--max-attempts", "4"),
    )
    found = done.data
    assert (found["name"], found["url"], found["timeout_seconds"], found["max_retry_attempts"]) == (
        "other",
        "https://a.example/x",
        5,
        4,
    )
    assert (found["subscribed_events"], found["headers"]) == (
        ["callback.created", "order.*"],
        {"X-Key": "***"},
    )


def test_a_webhook_that_is_not_there_is_said_so(pgrelay):
    for words in (["show"], ["set", "name=x"], ["enable"], ["delete", "--yes"], ["rotate-secret"], ["test"]):
        done = pgrelay("webhooks", words[0], "99", *words[1:])
        assert (done.code, "there is no webhook 99" in done.err) == (1, True), words


def test_disabling_asks_only_where_deliveries_would_be_lost(pgrelay, webhook, owed):
    assert pgrelay("webhooks", "disable", webhook).code == 0
    assert pgrelay("webhooks", "enable", webhook).code == 0
    owed(webhook)
    refused = pgrelay("webhooks", "disable", webhook)
    assert refused.code == 1
    assert "1 pending delivery will be cancelled" in refused.err
    assert pgrelay("webhooks", "disable", webhook, "--yes").code == 0
    (row,) = pgrelay("deliveries", "list", "--json").data
    assert (row["status"], row["last_error"]) == ("cancelled", "the webhook was made inactive")


def test_rotating_keeps_the_old_secret_for_a_while(pgrelay, webhook, execute):
    done = pgrelay("webhooks", "rotate-secret", webhook, "--overlap", "1h", "--json").data
    row = execute("select secret_key, previous_secret_key from pgrelay.webhook_configurations").fetchone()
    assert row == (done["secret_key"], SECRET)
    assert "signs too, ends in " in pgrelay("webhooks", "show", webhook).out


def test_a_test_without_a_daemon_says_so_at_once(pgrelay, webhook):
    done = pgrelay("webhooks", "test", webhook)
    assert done.code == 1
    assert "no daemon is running" in done.err


def test_webhooks_of_one_company_are_listed(pgrelay, webhook):
    assert [row["id"] for row in pgrelay("webhooks", "list", "--company", "1", "--json").data] == [
        int(webhook)
    ]
    other = pgrelay("webhooks", "list", "--company", "2")
    assert (other.code, other.out) == (0, "")
    assert "pgrelay webhooks add" in other.err


# Deliveries -------------------------------------------------------------------------------------------------------


def test_deliveries_are_found_by_each_filter(pgrelay, webhook, owed):
    ids = owed(webhook, 3, failed=1)

    def listed(*filters):
        return [str(row["id"]) for row in pgrelay("deliveries", "list", "--json", *filters).data]

    assert listed() == ids[::-1]
    assert listed("--limit", "1") == ids[-1:]
    assert listed("--status", "expired") == ids[:1]
    assert listed("--webhook", webhook, "--event", "callback.*", "--since", "1h") == ids[::-1]
    assert listed("--event", "callback.completed") == []
    assert listed("--resource", "2") == ids[1:2]
    assert listed("--since", "2999-01-01") == []


def test_the_body_is_printed_as_it_is_sent(pgrelay, webhook, owed, execute):
    (delivery,) = owed(webhook)
    (body,) = execute("select body from pgrelay.outbox").fetchone()
    assert pgrelay("deliveries", "show", delivery, "--body").out == body
    shown = pgrelay("deliveries", "show", delivery)
    assert "Not tried yet. Now no daemon is running. Start a daemon: pgrelay run" in shown.out
    assert "callback.created of 1" in shown.out


def test_verbs_do_what_they_can_and_say_what_they_cannot(pgrelay, webhook, owed):
    ids = owed(webhook, 2, failed=1)
    done = pgrelay("deliveries", "cancel", *ids, "99")
    assert done.code == 1
    assert done.out == "1 delivery cancelled.\n"
    assert f"Delivery {ids[0]}: it is expired." in done.err
    assert "Delivery 99: there is no such delivery." in done.err
    assert pgrelay("deliveries", "retry", *ids).out == "2 deliveries will be tried.\n"


def test_all_that_match_are_counted_and_asked_for(pgrelay, webhook, owed):
    owed(webhook, 3, failed=2)
    asked = pgrelay("deliveries", "retry", "--webhook", webhook, "--status", "expired")
    assert (asked.code, "Retry 2 expired deliveries?" in asked.err) == (1, True)
    done = pgrelay("deliveries", "retry", "--webhook", webhook, "--status", "expired", "-y", "--json")
    assert (done.code, [row["done"] for row in done.data]) == (0, [True, True])
    assert pgrelay("deliveries", "cancel", "--webhook", webhook, "--yes").out == "3 deliveries cancelled.\n"
    none = pgrelay("deliveries", "retry", "--webhook", webhook)
    assert (none.code, none.err) == (0, "No failed delivery matches.\n")
    assert pgrelay("deliveries", "retry").code == 2
    assert pgrelay("deliveries", "retry", "1", "--webhook", webhook).code == 2


def test_a_retry_that_is_impossible_does_not_hinder_the_others(pgrelay, webhook, owed, execute):
    ids = owed(webhook, 3, failed=2)
    execute(
        "delete from pgrelay.outbox where id = (select event_id from pgrelay.deliveries where id = %s)",
        (ids[0],),
    )
    done = pgrelay("deliveries", "retry", "--status", "expired", "--yes")
    assert (done.code, done.out) == (1, "1 delivery will be tried.\n")
    assert "older than its retention" in done.err


def test_a_replay_is_counted_first(pgrelay, webhook, owed):
    owed(webhook, 2)
    dry = pgrelay("replay", "--webhook", webhook, "--since", "1h", "--dry-run", "--json").data
    assert (dry["events"], dry["deliveries"]) == (2, 0)
    assert pgrelay("replay", "--webhook", webhook, "--since", "1h").code == 1
    assert pgrelay("replay", "--webhook", webhook, "--since", "1h", "--yes", "--json").data["deliveries"] == 2
    assert "nothing to send" in pgrelay("replay", "--webhook", webhook, "--since", "2h", "--until", "1h").out
    assert pgrelay("replay", "--webhook", webhook, "--since", "1h", "--until", "2h").code == 2


def test_a_dry_run_says_how_much_of_what_and_for_how_long(pgrelay, webhook, owed):
    owed(webhook, 2)
    words = pgrelay("replay", "--webhook", webhook, "--since", "3000d", "--dry-run").out
    assert "It would send 2 events" in words and " in all" in words
    assert "a second at most and behind live deliveries" in words
    assert "there are no events from before" in words
    none = pgrelay(
        "replay", "--webhook", webhook, "--since", "1h", "--event", "order.*", "--dry-run", "--json"
    )
    assert none.data["events"] == 0


def test_a_replay_is_listed_shown_stopped_and_resumed(pgrelay, webhook, owed, execute):
    owed(webhook, 3)
    execute("update pgrelay.webhook_configurations set rate_limit_per_second = 1")
    execute("delete from pgrelay.delivery_queue")
    begun = pgrelay("replay", "--webhook", webhook, "--since", "1h", "--yes")
    assert "Replay 1 has begun: 3 deliveries, behind the live ones" in begun.out
    assert "Note: its webhook" not in begun.err and "about" in begun.err
    shown = pgrelay("replays", "show", "1").out
    assert "1 of 3 events queued" in shown and "no daemon is running" in shown
    assert "Replays that run" in pgrelay("status").out
    stopped = pgrelay("replays", "stop", "1").out
    assert "stopped" in stopped and "pgrelay replays resume 1" in stopped
    again = pgrelay("replays", "stop", "1")
    assert (again.code, "it is stopped" in again.err) == (1, True)
    assert [row["status"] for row in pgrelay("replays", "list", "--json").data] == ["stopped"]
    assert "no longer" not in pgrelay("replays", "resume", "1").out
    late = pgrelay("replays", "resume", "1")
    assert (late.code, "it is running" in late.err) == (1, True)
    execute("delete from pgrelay.delivery_queue")
    execute("update pgrelay.replays set status = 'done', ended_at = now(), skipped = 2")
    watched = pgrelay("replays", "show", "1", "--watch")
    assert watched.code == 0
    assert "2 skipped" in watched.out and "Replay 1 is done." in watched.out
    assert pgrelay("replays", "show", "9").code == 1
    assert "no replay" in pgrelay("replays", "list", "--running").err


def test_recapture_tells_the_result_of_each_error(pgrelay, webhook, execute):
    execute("alter table services rename to offers")
    execute("insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'c', '1')")
    failed = pgrelay("recapture", "--json")
    assert failed.code == 1
    assert "services" in failed.data[0]["message"]
    execute("alter table offers rename to services")
    mended = pgrelay("recapture", "--source", "callback_requests")
    assert mended.code == 0
    assert "event made" in mended.out
    again = pgrelay("recapture")
    assert (again.code, again.err) == (0, "There are no open capture errors.\n")


def test_a_deadline_that_is_armed_again_by_recapture_has_not_failed_again(pgrelay, webhook, execute):
    execute(
        "insert into callback_requests (company_id, customer_name, customer_phone, expires_at)"
        " values (1, 'c', '1', clock_timestamp() + interval '1 ms')"
    )
    execute("alter table callback_requests rename to away")
    execute("select pgrelay.fire_deadlines(100)")
    execute("alter table away rename to callback_requests")
    mended = pgrelay("recapture")
    assert (mended.code, mended.err) == (0, "")
    assert "its deadline is armed again" in mended.out


def test_status_begins_with_who_runs_and_shows_what_waits(pgrelay, webhook, owed):
    owed(webhook)
    page = pgrelay("status")
    assert page.code == 0
    assert page.out.startswith("Daemons\n  none is running")
    assert "1 pending" in page.out
    assert pgrelay("status", "--json").data["webhooks"][0]["pending_deliveries"] == 1


# A local receiver -------------------------------------------------------------------------------------------------


def test_listen_verifies_what_arrives_and_ends_in_good_order(tmp_path):
    pgrelay = Command(tmp_path, "")
    with pgrelay.start("listen", "--secret", SECRET, "--output", "json") as running:
        intro = json.loads(running.stdout.readline())
        assert intro["secret_key"] == SECRET
        body = b'{"a": 1}'
        headers = {"X-Webhook-Signature": classic_signature(SECRET, body), "X-Webhook-Event": "a.b"}
        with urllib.request.urlopen(
            urllib.request.Request(intro["url"], body, headers), timeout=30
        ) as answer:
            assert answer.status == 200
        genuine = json.loads(running.stdout.readline())
        assert (genuine["event"], genuine["genuine"], genuine["scheme"], genuine["body"]) == (
            "a.b",
            True,
            "classic",
            '{"a": 1}',
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(intro["url"], b"{}", headers), timeout=30)
        refused.value.close()
        assert refused.value.code == 401
        assert json.loads(running.stdout.readline())["genuine"] is False
        running.send_signal(signal.SIGTERM)
        said = running.stderr.read()
    assert running.returncode == 0
    assert "pgrelay webhooks add" in said


def test_listen_says_how_its_webhook_comes_to_call_it_unless_it_does_already(pgrelay, webhook):
    asked = []
    for _ in range(2):
        with pgrelay.start("listen", "--webhook", webhook, "--port", asked[0] if asked else "0") as running:
            url = running.stdout.readline() and running.stdout.readline().split()[1]
            running.send_signal(signal.SIGTERM)
            said = running.communicate(timeout=30)[1]
        assert (f"webhooks set {webhook} url={url}" in said) is not bool(asked)
        asked.append(url.rsplit(":")[-1])
        pgrelay("webhooks", "set", webhook, f"url={url}/hooks")


def test_listen_passes_requests_on_and_a_failed_one_does_not_end_it(tmp_path):
    pgrelay = Command(tmp_path, "")
    with pgrelay.start("listen", "--output", "json", "--status", "202") as target:
        there = json.loads(target.stdout.readline())["url"]
        with pgrelay.start("listen", "--output", "json", "--forward-to", f"{there}/in?x=1") as running:
            here = json.loads(running.stdout.readline())["url"]
            with pytest.raises(urllib.error.HTTPError) as unsigned:
                urllib.request.urlopen(
                    urllib.request.Request(here, b"{}", {"X-Webhook-Event": "a.b"}), timeout=30
                )
            unsigned.value.close()
            arrived = json.loads(target.stdout.readline())
            assert (arrived["target"], arrived["event"], arrived["body"]) == ("/in?x=1", "a.b", "{}")
            target.send_signal(signal.SIGINT)
            target.wait(30)
            with pytest.raises(urllib.error.HTTPError) as unsigned:
                urllib.request.urlopen(urllib.request.Request(here, b"{}"), timeout=30)
            unsigned.value.close()
            said = ""
            while "<-- [connect]" not in said:
                said += running.stderr.readline()
            assert f"<-- [202] POST {there}/in?x=1" in said
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=30)
        target.communicate(timeout=30)
    assert (running.returncode, target.returncode) == (0, 0)
