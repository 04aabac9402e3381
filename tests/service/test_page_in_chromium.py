"""The page in a real browser: by keyboard, without complaints of the browser's own, on a narrow screen as well."""

import shutil
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from support.api import Api, make_token, serving_api
from support.database import Database
from support.queue import add_event, add_webhook, expand, failed, record, sign_on, value

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


async def _focused(page: Any) -> str:
    return str(await page.evaluate("document.activeElement.textContent.trim()"))
