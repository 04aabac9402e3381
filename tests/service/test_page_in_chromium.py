"""The page in a real browser: by keyboard, without complaints of the browser's own, on a narrow screen as well."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from support.api import Api, make_token, serving_api
from support.database import Database
from support.queue import add_event, add_webhook, claim, expand, failed, record, sign_on, succeeded, value

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with serving_api(database.dsn) as made:
        yield made


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
async def test_a_webhook_is_found_and_paused_by_keyboard(
    api: Api, db: psycopg.Connection, scheme: str, width: int
):
    webhook = add_webhook(db, name="a name that is rather long " * 3, url=f"https://example.com/{'x' * 300}")
    add_event(db)
    daemon = sign_on(db)
    (lease,) = expand(db, daemon).leases
    assert record(db, daemon, failed(lease)) == []
    said: list[str] = []
    asked: list[str] = []
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        page = await context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{api.url}/webhooks/{webhook}")
        await page.keyboard.type(make_token(db, "admin"))  # the field has the focus
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{api.url}/webhooks/{webhook}")
        await page.keyboard.press("Tab")
        assert await _focused(page) == "Skip to the content"
        for path in (
            "/",
            "/webhooks",
            "/deliveries",
            f"/deliveries/{lease.delivery_id}",
            "/event-types",
            "/webhooks/new",
            "/live",
            "/replays",
            f"/webhooks/{webhook}",
        ):
            await page.goto(f"{api.url}{path}")
            beyond = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert beyond <= 0, f"{path} is {beyond} pixels too wide"
        while await _focused(page) != "Pause":
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**done=paused")
        await browser.close()
    assert value(db, "select paused from pgrelay.webhook_configurations") is True
    assert said == []
    assert all(url.startswith(f"{api.url}/") for url in asked)


#: What is looked at again every so many seconds is so at once.
_SOONER = """() => {
    for (const part of document.querySelectorAll("[data-again]")) part.dataset.again = "0.1";
    document.dispatchEvent(new Event("visibilitychange"));
}"""


async def _focused(page: Any) -> str:
    return str(await page.evaluate("document.activeElement.textContent.trim()"))


@pytest.mark.slow
async def test_what_is_sent_appears_by_itself_and_stops_when_paused(api: Api, db: psycopg.Connection):
    webhook, daemon = add_webhook(db, name="CRM"), sign_on(db)
    async with _browsing(api, make_token(db, "tenant", "1")) as page:
        await page.goto(f"{api.url}/live")
        await page.wait_for_selector("text=What is sent appears here by itself")
        add_event(db, resource_id="first")
        record(db, daemon, *map(failed, expand(db, daemon).leases))
        await page.wait_for_selector("tr.new:has-text('of first')", timeout=60_000)
        await page.click("text=Pause")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.wait_for_function("new Promise(done => setTimeout(() => done(true), 2500))")
        assert asked == []
        await page.click("text=Go on")
        await page.wait_for_event("response", timeout=60_000)
        await page.goto(f"{api.url}/")
        assert await page.inner_text("dt:has-text('Waiting') + dd") == "0"
        add_event(db)
        assert expand(db, daemon, room=0).backlog
        await page.evaluate(_SOONER)
        await page.wait_for_selector("dt:has-text('Waiting') + dd:has-text('1')", timeout=60_000)
    assert webhook


async def test_a_test_and_its_result_a_replay_and_its_end_without_a_reload(api: Api, db: psycopg.Connection):
    webhook, daemon = add_webhook(db, name="CRM"), sign_on(db)
    async with _browsing(api, make_token(db, "admin")) as page:
        await page.goto(f"{api.url}/webhooks/{webhook}")
        await page.click("text=Send a test")
        await page.wait_for_selector("text=Waiting for a daemon")
        record(db, daemon, *map(succeeded, expand(db, daemon).leases))
        await page.wait_for_selector("text=The receiver answered HTTP 200", timeout=60_000)
        await page.wait_for_selector("#again-pause", state="hidden")
        add_event(db)
        record(db, daemon, *map(succeeded, expand(db, daemon).leases))
        await page.goto(f"{api.url}/webhooks/{webhook}/replay")
        await page.fill("#since", "2020-01-01T00:00")
        await page.click("button[value=count]")
        await page.wait_for_selector("text=1 event would be sent again")
        await page.click("text=Send it again")
        await page.wait_for_selector("text=1 of 1 events queued")
        record(db, daemon, *map(succeeded, claim(db, daemon, webhook)))
        await page.wait_for_selector("dt:has-text('Succeeded') + dd:has-text('1')", timeout=60_000)


async def test_without_javascript_everything_can_be_read(api: Api, db: psycopg.Connection):
    add_webhook(db)
    add_event(db, resource_id="seven")
    daemon = sign_on(db)
    record(db, daemon, *map(succeeded, expand(db, daemon).leases))
    async with _browsing(api, make_token(db, "reader"), java_script_enabled=False) as page:
        for path, words in (("/live", "of seven"), ("/", "Overview"), ("/deliveries", "of seven")):
            await page.goto(f"{api.url}{path}")
            assert words in await page.inner_text("main")
        await page.goto(f"{api.url}/live")
        async with page.expect_navigation(timeout=60_000):  # the browser looks again by itself
            pass


@asynccontextmanager
async def _browsing(api: Api, token: str, **options: Any) -> AsyncIterator[Any]:
    """A page of one who is logged in; whatever the browser complains about fails the test."""
    said: list[str] = []
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(**options)
        page = await context.new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"{api.url}/login")
        await page.fill("#token", token)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{api.url}/")
        yield page
        await browser.close()
    assert said == []
