"""The management page: every page for every role, what forms do, and who is kept out."""

from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest

from pgrelay.observation import ApiChanged, ApiFailed, LoginRefused
from pgrelay.page import live
from pgrelay.page.gate import COOKIE, form_token
from support.api import Api, make_token, serving_api
from support.database import Database
from support.page import Browser, log_in
from support.queue import (
    add_event,
    add_webhook,
    claim,
    expand,
    failed,
    record,
    retried,
    sign_on,
    succeeded,
    value,
)


class World(NamedTuple):
    """Ids of what belongs to tenant 2."""

    webhook_id: int
    pending: int
    failed: int


@pytest.fixture
def world(db: psycopg.Connection) -> World:
    webhook = add_webhook(db, "2", name="<b>theirs</b>", headers='{"X-Key": "sesame"}')
    for number in range(3):
        add_event(db, company_id="2", resource_id=f"theirs {number}")
    daemon = sign_on(db)
    one, two, three = expand(db, daemon).leases
    assert record(db, daemon, failed(one), retried(two, retry_in=600.0), succeeded(three)) == []
    return World(webhook, two.delivery_id, one.delivery_id)


def paths(world: World) -> list[str]:
    return [
        "/",
        "/webhooks",
        f"/webhooks/{world.webhook_id}",
        "/deliveries",
        "/deliveries?status=failed&webhook_id=&event_type=callback.*",
        f"/deliveries/{world.pending}",
        f"/deliveries/{world.failed}",
        "/event-types",
        "/replays",
        "/live",
        "/live?failed=1",
        f"/live?webhook_id={world.webhook_id}",
    ]


def forms(world: World) -> list[str]:
    webhook = f"/webhooks/{world.webhook_id}"
    return ["/webhooks/new", f"{webhook}/change", f"{webhook}/replay", f"{webhook}/preview"]


@pytest.mark.parametrize(("whose", "company"), [("admin", None), ("reader", None), ("tenant", "2")])
async def test_every_page_is_there_for_those_who_may_see_it(
    api: Api, db: psycopg.Connection, world: World, whose: str, company: str | None
):
    browser = Browser(api, make_token(db, whose, company))
    for path in paths(world):
        page = await browser.get(path)
        assert page.status == 200, (path, page.words)
        assert page.all("a", **{"aria-current": "page"}), path
        assert "sesame" not in page.text
        assert "<b>" not in page.text
        assert bool([one for one in page.all("form", method="post") if one.get("action") != "/logout"]) == (
            whose != "reader" and path.count("/") == 2
        )
    for path in forms(world):
        assert (await browser.get(path)).status == (403 if whose == "reader" else 200), path
    assert not [one for one in api.observed if isinstance(one, ApiFailed)]


async def test_webhooks_are_looked_for_by_name_and_state(api: Api, db: psycopg.Connection):
    well = add_webhook(db, name="Orders")
    add_webhook(db, name="Invoices", paused=True)
    browser = Browser(api, make_token(db, "admin"))
    found = await browser.get("/webhooks?name=order&state=&company_id=")
    assert "Orders" in found.words and "Invoices" not in found.words
    assert found.all("input", id="name", value="order") and "that match" in found.words
    page = await browser.get("/")
    (link,) = page.all("a", href="/webhooks?state=paused")
    found = await browser.get(link.get("href") or "")
    assert "Invoices" in found.words and "Orders" not in found.words
    assert "No webhook matches." in (await browser.get("/webhooks?state=circuit+open")).words
    wrong = await browser.get("/webhooks?state=ill")
    assert wrong.status == 422 and "Nothing was looked for" in wrong.words
    for number in range(51):
        add_webhook(db, name=f"Orders {number}")
    (following,) = [
        one for one in (await browser.get("/webhooks?name=order")).all("a") if one.text == "Next page"
    ]
    later = await browser.get(following.get("href") or "")
    assert (
        f"/webhooks/{well}" not in [one.get("href") for one in later.all("a")] and "Orders 50" in later.words
    )
    mine = await Browser(api, make_token(db, "tenant", "1")).get("/webhooks")
    assert not mine.all("input", id="company_id") and mine.all("input", id="name")


async def test_another_tenants_things_do_not_exist(api: Api, db: psycopg.Connection, world: World):
    browser = Browser(api, token := make_token(db, "tenant", "1"))
    for path in (
        "/",
        "/webhooks",
        "/deliveries",
        "/event-types",
        "/live",
        f"/live?webhook_id={world.webhook_id}",
    ):
        page = await browser.get(path)
        assert (page.status, "theirs" in page.text) == (200, False)
    ours = form_token(token)
    for path in (*paths(world)[2::3][:1], *paths(world)[5:7], *forms(world)[1:]):
        assert (await browser.get(path)).status == 404, path
        for verb in ("retry", "delete", "test", "pause", "send"):
            sent = await browser.post(path, form_token=ours, do=verb, since="2020-01-01T00:00")
            assert sent.status == 404, (path, verb)
    assert (
        value(db, "select count(*) from pgrelay.webhook_configurations where not paused and is_active") == 1
    )


async def test_without_a_login_every_page_leads_to_it_and_back(
    api: Api, db: psycopg.Connection, world: World
):
    stranger = Browser(api)
    for path in (*paths(world), *forms(world), "/nowhere"):
        asked = await stranger.get(path)
        assert (asked.status, urlsplit(asked.headers["Location"]).path) == (303, "/login")
    asked = await stranger.get("/deliveries?status=failed")
    came = await stranger.press(await stranger.get(asked.headers["Location"]), token=make_token(db, "reader"))
    assert came.headers["Location"] == "/deliveries?status=failed"
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example"):
        page = await stranger.get("/login", params={"next": elsewhere})
        assert [one.get("value") for one in page.all("input", name="next")] == ["/"]


async def test_the_cookie_is_kept_from_scripts_and_other_sites_and_by_tls_from_the_wire(
    api: Api, db: psycopg.Connection
):
    token, stranger = make_token(db, "admin"), Browser(api)
    plain = await stranger.request("POST", "/login", data={"token": token})
    by_tls = await stranger.request(
        "POST", "/login", data={"token": token}, headers={"X-Forwarded-Proto": "https"}
    )
    for came in (plain, by_tls):
        cookie = came.cookies[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert (plain.cookies[COOKIE]["secure"], by_tls.cookies[COOKIE]["secure"]) == ("", True)
    out = await Browser(api, token).post("/logout")
    assert (out.headers["Location"], out.cookies[COOKIE].value) == ("/login", "")


async def test_a_revoked_token_is_logged_out_at_once(api: Api, db: psycopg.Connection):
    browser = await log_in(api, make_token(db, "admin"))
    assert (await browser.get("/")).status == 200
    db.execute("select pgrelay.revoke_token(1)")
    asked = await browser.get("/")
    assert (asked.status, asked.headers["Location"], asked.cookies[COOKIE].value) == (303, "/login", "")


async def test_who_guesses_tokens_must_wait(api: Api, db: psycopg.Connection):
    stranger = Browser(api)
    statuses = [(await stranger.post("/login", token=f"pgrelay_{number}")).status for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = await stranger.post("/login", token="pgrelay_x")
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert "Wait" in refused.words
    assert len([one for one in api.observed if isinstance(one, LoginRefused)]) == 10


async def test_forms_of_other_sites_and_of_other_logins_are_refused(
    api: Api, db: psycopg.Connection, world: World
):
    token = make_token(db, "admin")
    browser, path = Browser(api, token), f"/webhooks/{world.webhook_id}"
    good = {"form_token": form_token(token), "do": "pause"}
    host = urlsplit(api.url).netloc
    for headers, fields in (
        ({"Sec-Fetch-Site": "cross-site"}, good),
        ({"Sec-Fetch-Site": "same-site", "Origin": api.url}, good),
        ({"Origin": "http://evil.example"}, good),
        ({"Origin": "null"}, good),
        ({"Origin": api.url}, {"do": "pause"}),
        ({"Origin": api.url}, {**good, "form_token": form_token("pgrelay_other")}),
    ):
        refused = await browser.request("POST", path, data=fields, headers=headers)
        assert refused.status == 403, headers
    for path_ in ("/login", "/logout"):
        refused = await browser.request(
            "POST", path_, data={"token": token}, headers={"Origin": "http://evil.example"}
        )
        assert (refused.status, refused.cookies) == (403, {})
    assert value(db, "select paused from pgrelay.webhook_configurations") is False
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": f"http://{host}"}, {}):
        assert (await browser.request("POST", path, data=good, headers=headers)).status == 303
    assert value(db, "select paused from pgrelay.webhook_configurations") is True


async def test_a_reader_changes_nothing(api: Api, db: psycopg.Connection, world: World):
    browser = Browser(api, token := make_token(db, "reader"))
    sent = {"form_token": form_token(token), "since": "2020-01-01T00:00"}
    for path in (f"/webhooks/{world.webhook_id}", f"/deliveries/{world.pending}", *forms(world)):
        for verb in ("pause", "cancel", "delete", "reveal", "test", "send"):
            assert (await browser.post(path, do=verb, **sent)).status == 403, (path, verb)
    assert value(db, "select count(*) from pgrelay.webhook_configurations where not paused") == 1
    assert not [one for one in api.observed if isinstance(one, ApiChanged)]


async def test_every_answer_has_the_headers_that_keep_others_out(api: Api, db: psycopg.Connection):
    browser = Browser(api, make_token(db, "admin"))
    for page in (
        await browser.get("/"),
        await browser.get("/nowhere"),
        await browser.get("/webhooks/99999999999999999999"),
        await Browser(api).get("/"),
        await Browser(api).get("/login"),
    ):
        policy = page.headers["Content-Security-Policy"]
        assert (
            "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        )
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert "aiohttp" not in page.headers["Server"]
    for name, kind in (("page.css", "text/css"), ("icon.svg", "image/svg+xml")):
        found = await Browser(api).get(f"/static/{name}")
        assert (found.status, found.headers["Content-Type"].split(";")[0]) == (200, kind)
        assert "url(" not in found.text and "@import" not in found.text
    assert (await Browser(api).get("/static/..%2fsite.py")).status == 404


async def test_a_webhook_is_made_changed_and_deleted_by_forms(api: Api, db: psycopg.Connection):
    browser = await log_in(api, make_token(db, "tenant", "1"))
    form = await browser.get("/webhooks/new")
    wrong = await browser.press(
        form,
        name="",
        url="ftp://x",
        subscribed_events="callback.* NO",
        timeout_seconds="soon",
        headers="X-A:",
    )
    assert wrong.status == 422
    bad = {one.get("id") for one in wrong.root.iter() if one.get("aria-invalid") == "true"}
    assert bad == {"name", "url", "subscribed_events", "timeout_seconds", "headers"}
    assert wrong.all("input", id="url")[0].get("value") == "ftp://x"
    typed = {
        "name": "Orders",
        "url": "https://example.com/hook",
        "subscribed_events": "callback.*\norder.paid",
        "timeout_seconds": "5",
        "retry_schedule": "1, 2",
        "headers": "X-Env: test\nAuthorization: Bearer x",
    }
    made = await browser.press(wrong, **typed)
    again = await browser.press(wrong, **typed)
    assert (made.status, again.status) == (201, 201)
    secret = value(db, "select secret_key from pgrelay.webhook_configurations")
    assert secret in made.text and secret in again.text
    (webhook,) = db.execute("select id from pgrelay.webhook_configurations").fetchone() or (0,)
    path = f"/webhooks/{webhook}"
    change = await browser.get(f"{path}/change")
    assert "Bearer x" not in change.text
    done = await browser.press(change, name="Paid", headers="Authorization:", timeout_seconds="7")
    assert done.headers["Location"] == f"{path}?done=changed"
    row = db.execute(
        "select name, timeout_seconds, headers, retry_schedule, subscribed_events"
        " from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == ("Paid", 7, {"X-Env": "test"}, [1, 2], ["callback.*", "order.paid"])
    late = await browser.press(change, name="Late")
    assert (late.status, "version" in late.words) == (412, True)
    page = await browser.get(f"{path}?done=changed")
    assert "was changed" in page.words and secret not in page.text
    assert (await browser.press(page, do="delete")).headers["Location"] == "/webhooks?done=deleted"
    assert value(db, "select count(*) from pgrelay.webhook_configurations") == 0
    assert [one.operation for one in api.observed if isinstance(one, ApiChanged)] == [
        "create_webhook",
        "create_webhook",
        "change_webhook",
        "delete_webhook",
    ]


async def test_the_buttons_of_a_webhook_do_what_they_say(api: Api, db: psycopg.Connection, world: World):
    browser, path = Browser(api, make_token(db, "admin")), f"/webhooks/{world.webhook_id}"
    state = "select is_active, paused from pgrelay.webhook_configurations"
    for verb, after in (
        ("pause", (True, True)),
        ("resume", (True, False)),
        ("disable", (False, False)),
        ("enable", (True, False)),
    ):
        done = await browser.press(await browser.get(path), do=verb)
        assert done.status == 303, verb
        assert (await browser.get(done.headers["Location"])).all("p", role="status"), verb
        assert db.execute(state.encode()).fetchone() == after
    page = await browser.get(path)
    for _ in range(2):  # pressed twice: sent once
        tested = await browser.press(page, do="test")
        assert (await browser.get(tested.headers["Location"])).status == 200
    assert value(db, "select count(*) from pgrelay.outbox where event_type = 'webhook.test'") == 1
    shown = await browser.press(await browser.get(path), do="reveal")
    secret = value(db, "select secret_key from pgrelay.webhook_configurations")
    assert secret in shown.text
    again = await browser.press(page, do="reveal")
    assert (again.status, "rotate it" in again.words, secret in again.text) == (409, True, False)
    rotated = await browser.press(await browser.get(path), do="rotate")
    assert value(db, "select secret_key from pgrelay.webhook_configurations") in rotated.text


async def test_a_delivery_says_why_it_failed_or_waits_and_is_retried_and_cancelled(
    api: Api, db: psycopg.Connection, world: World
):
    browser = Browser(api, make_token(db, "tenant", "2"))
    page = await browser.get(f"/deliveries/{world.pending}")
    assert "Not sent yet: attempt 2 is due in" in page.words
    done = await browser.press(page, do="cancel")
    assert done.headers["Location"] == f"/deliveries/{world.pending}?done=cancelled"
    late = await browser.press(page, do="cancel")
    assert (late.status, "cannot be cancelled" in late.words) == (409, True)
    page = await browser.get(f"/deliveries/{world.failed}")
    assert "Given up" in page.words and len(page.all("article")) == 1
    assert (await browser.press(page, do="retry")).status == 303
    assert "pending" in (await browser.get(f"/deliveries/{world.failed}")).words


async def test_deliveries_are_filtered_and_paged_by_key(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db)
    for _ in range(60):
        add_event(db)
    expand(db, sign_on(db))
    browser = Browser(api, make_token(db, "admin"))
    path, seen = f"/deliveries?webhook_id={webhook}&status=", []
    for expected in (50, 10):
        page = await browser.get(path)
        rows = [one.find("th/a") for one in page.root.iter("tr") if one.find("th/a") is not None]
        assert len(rows) == expected
        seen += [int(one.text or 0) for one in rows if one is not None]
        path = next((one.get("href") or "" for one in page.all("a") if one.text == "Older"), "")
    assert seen == sorted(set(seen), reverse=True)
    assert "No delivery matches" in (await browser.get("/deliveries?status=failed")).words
    wrong = await browser.get("/deliveries?webhook_id=x&status=nope")
    assert (wrong.status, wrong.all("input", id="webhook_id")[0].get("aria-invalid")) == (422, "true")


async def test_the_newest_attempts_are_live_and_only_the_failed_ones_if_asked_for(
    api: Api, db: psycopg.Connection, world: World
):
    browser = Browser(api, make_token(db, "tenant", "2"))
    page = await browser.get("/live")
    assert [one.get("data-again") for one in page.all("section", id="live")] == ["2"]
    assert len(page.all("tr")) == 1 + 3
    assert [one.get("content") for one in page.all("meta", **{"http-equiv": "refresh"})] == ["2"]
    assert len((await browser.get("/live?failed=1")).all("tr")) == 1 + 2
    assert "No request was made" in (await browser.get("/live?webhook_id=99")).words
    admin = Browser(api, make_token(db, "admin"))
    assert len((await admin.get("/live")).all("tr")) == 1 + 3
    assert len((await admin.get(f"/live?webhook_id={world.webhook_id}&failed=1")).all("tr")) == 1 + 2


async def test_who_comes_too_many_to_look_on_is_asked_to_come_later(api: Api, db: psycopg.Connection):
    browser = Browser(api, make_token(db, "reader"))
    async with live._PLACES.one(), live._PLACES.one():
        refused = await browser.get("/live")
    assert (refused.status, refused.headers["Retry-After"]) == (503, "3")
    assert "too many look on" in refused.words.lower()
    assert (await browser.get("/live")).status == 200


async def test_a_test_shows_what_became_of_it(api: Api, db: psycopg.Connection):
    webhook, daemon = add_webhook(db), sign_on(db)
    browser = Browser(api, make_token(db, "admin"))
    sent = await browser.press(await browser.get(f"/webhooks/{webhook}"), do="test")
    path = sent.headers["Location"]
    assert path == f"/webhooks/{webhook}/tests/1"
    waits = await browser.get(path)
    assert "Waiting for a daemon" in waits.words
    assert [one.get("data-again") for one in waits.all("section", id="test")] == ["1"]
    (lease,) = expand(db, daemon).leases
    assert "It is being sent" in (await browser.get(path)).words
    record(db, daemon, retried(lease, 60.0))
    again = await browser.get(path)
    assert "Not delivered yet" in again.words and "Attempt 2 is due in" in again.words
    db.execute("select pgrelay.retry_delivery(%s)", (lease.delivery_id,))
    (lease,) = claim(db, daemon, webhook)
    record(db, daemon, succeeded(lease, response_body="thanks"))
    done = await browser.get(path)
    assert "The receiver answered HTTP 200 after 4 ms" in done.words and "thanks" in done.words
    assert [one.get("data-again") for one in done.all("section", id="test")] == [None]
    other = Browser(api, make_token(db, "tenant", "2"))
    assert (await other.get(path)).status == 404


async def test_a_replay_is_counted_first_and_sent_once(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db)
    for _ in range(3):
        add_event(db)
    browser = Browser(api, make_token(db, "admin"))
    form = await browser.get(f"/webhooks/{webhook}/replay")
    counted = await browser.press(form, do="count", since="2020-01-01T00:00")
    assert "3 events would be sent again" in counted.words and "about 1 second" in counted.words
    assert value(db, "select count(*) from pgrelay.deliveries") == 0
    for _ in range(2):
        sent = await browser.press(counted, do="send")
        assert sent.headers["Location"] == "/replays/1?done=replay-begun"
    assert value(db, "select count(*) from pgrelay.deliveries") == 3
    assert "3 of 3 events queued" in (await browser.get("/replays/1")).words
    assert len((await browser.get("/deliveries?replay_id=1")).all("tr")) == 4
    for since in ("", "yesterday", "2999-01-01T00:00"):
        wrong = await browser.press(form, do="count", since=since)
        assert (wrong.status, wrong.all("input", id="since")[0].get("aria-invalid")) == (422, "true")


async def test_a_replay_is_watched_stopped_and_resumed(api: Api, db: psycopg.Connection):
    webhook = add_webhook(db, rate_limit_per_second=1)
    for kind in ("order.paid", "order.paid", "order.made"):
        add_event(db, kind)
    db.execute("select pgrelay.start_replay(%s, '-infinity', p_event_types => '{order.paid}')", (webhook,))
    browser, path = Browser(api, make_token(db, "tenant", "1")), "/replays/1"
    page = await browser.get(path)
    assert "1 of 2 events queued" in page.words and "no daemon is running" in page.words
    assert "1 of 2" in (await browser.get(f"/replays?webhook_id={webhook}")).words
    for verb, status in (("stop", "stopped"), ("resume", "running")):
        done = await browser.press(page, do=verb)
        page = await browser.get(done.headers["Location"])
        assert value(db, "select status from pgrelay.replays") == status
    again = await browser.post(
        path, form_token=page.all("input", name="form_token")[0].get("value"), do="resume"
    )
    assert (again.status, "it is running" in again.words) == (409, True)
    other = Browser(api, make_token(db, "tenant", "2"))
    assert (await other.get(path)).status == 404
    assert "Nothing was replayed yet" in (await other.get("/replays")).words


async def test_a_database_that_is_away_gets_a_page_that_says_so(database: Database):
    away = "host=127.0.0.1 port=1 dbname=x"
    async with serving_api(away) as api:
        for page in (await Browser(api, "pgrelay_x").get("/"), await Browser(api).post("/login", token="x")):
            assert page.status == 503
            assert "127.0.0.1" not in page.text


async def test_an_empty_installation_says_what_to_do_first(api: Api, db: psycopg.Connection):
    admin = await Browser(api, make_token(db, "admin")).get("/")
    reader = await Browser(api, make_token(db, "reader")).get("/")
    assert "Make the first one" in admin.words
    assert "No webhook yet" in reader.words and "Make the first one" not in reader.words
