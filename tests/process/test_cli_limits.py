"""Limits, circuits and order on the command line: set, shown, found by `check`, and told in a delivery's story."""

import pytest

from support.queue import add_event, claim, expand, pend, record, retried, sign_on


@pytest.fixture
def db(app):
    with app.connect() as connection:
        yield connection


@pytest.fixture
def add(pgrelay):
    """Adds a webhook with these options; its row."""

    def add(*options):
        done = pgrelay("webhooks", "add", "--company", "1", "--name", "CRM", "--url", "https://e.com/x",
                       "--event", "*", "--json", *options)  # fmt: skip
        assert done.code == 0, done.err
        return done.data

    return add


def fail(db, webhook, times=12, hold=None, open_after=10):
    """Report failures of a webhook, as a daemon does."""
    db.execute(
        "select * from pgrelay.note_results(array[%s::bigint], '{f}', array[%s], '{0}', array[%s::float8], '{f}',"
        " %s, 300, 600, 0, 0)",
        (webhook, times, hold, open_after),
    )


LIMITS = ("max_concurrency", "rate_limit_per_second", "ordering", "retry_schedule")


def test_limits_are_given_when_a_webhook_is_made_and_changed_and_removed_later(pgrelay, add):
    made = add("--max-concurrency", "4", "--rate-limit", "0.5", "--ordering", "resource",
               "--retry-schedule", "10s,1m")  # fmt: skip
    assert [made[name] for name in LIMITS] == [4, 0.5, "resource", [10, 60]]
    changed = pgrelay("webhooks", "set", "1", "max_concurrency=8", "--retry-schedule", "exponential 10s to 1m",
                      "--rate-limit", "20", "--json")  # fmt: skip
    assert [changed.data[name] for name in LIMITS] == [8, 20.0, "resource", [10, 20, 40, 60]]
    gone = pgrelay("webhooks", "set", "1", "--max-concurrency", "none", "--rate-limit", "none", "--ordering",
                   "none", "--retry-schedule", "default", "--json")  # fmt: skip
    assert [gone.data[name] for name in LIMITS] == [None, None, "none", None]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--rate-limit", "0"], "rate_limit: '0' is not a rate: write requests per second, 0.01 to 10000"),
        (["--max-concurrency", "0"], "max_concurrency: '0' is not a number of requests at once, 1 to 10000"),
        (["--ordering", "fifo"], "ordering: 'fifo' is not an ordering: write resource"),
        (["--retry-schedule", "exponential 6h to 1s"], "'exponential 6h to 1s' does not grow"),
        (["--retry-schedule", "soon"], "retry_schedule: 'soon' is not a duration"),
        ([], "nothing to set was named"),
    ],
)
def test_limits_that_make_no_sense_are_refused_with_what_would(pgrelay, add, words, fault):
    add()
    done = pgrelay("webhooks", "set", "1", *words)
    assert (done.code, fault in done.err) == (2, True), done.err


def test_a_growing_schedule_is_the_same_on_the_command_line_and_in_sql(pgrelay, add, db):
    for text, first, longest in (("exponential 10s to 1h", 10, 3600), ("exponential 7s..7s", 7, 7)):
        made = add("--retry-schedule", text)
        (there,) = db.execute("select pgrelay.exponential(%s, %s)", (first, longest)).fetchone()
        assert made["retry_schedule"] == there


def test_a_schedule_of_too_many_or_too_long_waits_is_refused_by_the_database(pgrelay, add):
    add()
    done = pgrelay("webhooks", "set", "1", "--retry-schedule", "31d")
    assert (done.code, "waits are 0 to 2592000 seconds" in done.err) == (1, True)


def test_show_tells_limits_and_who_serves_it(pgrelay, add, db):
    add("--max-concurrency", "1", "--rate-limit", "0.5", "--ordering", "resource")
    shown = pgrelay("webhooks", "show", "1").out
    for words in (
        "at once      1 request\n",
        "rate         at most 0.5 requests a second (one in 2 s)",
        "order        events of one resource one after the other",
        "served by    one daemon alone, so that its limits hold; none serves it now",
    ):
        assert words in shown
    daemon = sign_on(db, "relay-1")
    db.execute("select pgrelay.owned_elsewhere(%s, '{1}')", (daemon,))
    assert "served by    daemon relay-1 alone" in pgrelay("webhooks", "show", "1").out
    assert pgrelay("webhooks", "show", "1", "--json").data["owner_daemon"] == "relay-1"


def test_an_open_circuit_is_seen_everywhere_and_resuming_closes_it(pgrelay, add, db):
    add()
    fail(db, 1)
    shown = pgrelay("webhooks", "show", "1")
    assert "state        circuit open" in shown.out
    assert "12 attempts in a row failed, the first " in shown.out
    assert "circuit open, next probe in " in shown.out
    row = pgrelay("webhooks", "list", "--json").data[0]
    assert (row["circuit_open"], row["failures_in_row"], row["held_until"] is None) == (True, 12, False)
    assert row["state"] == "circuit open"
    assert "circuit open" in pgrelay("webhooks", "list").out
    assert "1 circuit open; pgrelay check says why" in pgrelay("status").out
    assert pgrelay("status", "--json").data["health"]["circuits_open"] == 1
    (warning,) = [row for row in pgrelay("check", "--json").data if row["subject"] == "webhook 1"]
    assert warning["level"] == "warning"
    assert pgrelay("webhooks", "resume", "1").code == 0
    assert pgrelay("webhooks", "list", "--json").data[0]["circuit_open"] is False


def test_a_receiver_that_asked_to_be_left_alone_is_held(pgrelay, add, db):
    add()
    fail(db, 1, times=1, hold=60.5)
    shown = pgrelay("webhooks", "show", "1").out
    assert "state        held" in shown
    assert "nothing is sent for 1 min, as it asked (Retry-After)" in shown
    assert "1 held back by the receiver" in pgrelay("status").out


def test_a_disabled_webhook_says_when_and_why_until_it_is_enabled(pgrelay, add, db):
    add()
    db.execute("select pgrelay.disable_webhook(1, 'the receiver answered 410 Gone')")
    assert (
        "state        disabled by pgrelay now: the receiver answered 410 Gone"
        in pgrelay("webhooks", "show", "1").out
    )
    assert "disabled" in pgrelay("webhooks", "list").out
    assert "1 disabled within 7 days" in pgrelay("status").out
    (warning,) = [row for row in pgrelay("check", "--json").data if row["subject"] == "webhook 1"]
    assert "pgrelay webhooks enable 1" in warning["mend"]
    enabled = pgrelay("webhooks", "enable", "1", "--json").data
    assert (enabled["is_active"], enabled["disabled_at"], enabled["disabled_reason"]) == (True, None, None)


def test_a_delivery_that_waits_for_an_earlier_one_names_it(pgrelay, add, db):
    add("--ordering", "resource")
    daemon = sign_on(db)
    db.execute("update pgrelay.subscriptions set since = '-infinity'")
    for _ in range(2):
        add_event(db, resource_id="a")
    (first,) = expand(db, daemon).leases
    record(db, daemon, retried(first, 3600.5))
    shown = pgrelay("deliveries", "show", "2").out
    assert (
        "Not tried yet. Now delivery 1 of the same resource goes first: attempt 2 is due in 01:00:00" in shown
    )
    assert "Its story: pgrelay deliveries show 1" in shown
    story = pgrelay("deliveries", "show", "2", "--json").data
    rows = {row["id"]: row for row in pgrelay("deliveries", "list", "--json").data}
    assert rows[2]["next_attempt_at"] is None
    assert pgrelay("deliveries", "list").out.count("after an earlier one") == 1
    assert story["waits_because"].startswith("delivery 1 of the same resource goes first")
    assert [story["waits_for"][name] for name in ("id", "status", "attempts")] == [1, "pending", 1]
    assert pgrelay("deliveries", "show", "1", "--json").data["waits_for"] is None


def test_a_delivery_of_a_failing_webhook_says_that_the_circuit_is_open(pgrelay, add, db):
    add()
    daemon = sign_on(db)
    db.execute("update pgrelay.subscriptions set since = '-infinity'")
    add_event(db)
    pend(db, daemon)
    fail(db, 1)
    shown = pgrelay("deliveries", "show", "1").out
    assert "Not tried yet. Now the circuit of its webhook is open since 12 attempts in a row failed" in shown
    assert claim(db, daemon, 1) == []
