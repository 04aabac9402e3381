"""Preview: what a webhook is sent of an event, and what its filter takes, with other settings if wanted."""

from typing import Any

from pgrelay.page.view import Page, View, faults_by_field

_TYPED = ("event_id", "payload_format", "payload_template", "filter")


async def show(view: View) -> Page:
    view.refuse_readers()
    webhook = await view.ask("read_webhook")
    own = {name: webhook.get(name) or "" for name in _TYPED}
    return await _page(view, webhook, own, {})


async def try_out(view: View) -> Page:
    """With what was typed. Nothing is changed or sent."""
    view.refuse_readers()
    typed = {name: view.form.get(name, "").strip() for name in _TYPED}
    wish: dict[str, Any] = {name: text for name, text in typed.items() if text}
    if typed["event_id"].isascii() and typed["event_id"].isdecimal():
        wish["event_id"] = int(typed["event_id"])
    return await _page(view, await view.ask("read_webhook"), typed, wish)


async def _page(view: View, webhook: Any, values: dict[str, str], wish: dict[str, Any]) -> Page:
    made, problem = await view.attempt("preview_webhook", body=wish)
    page = Page(
        "preview.html",
        {"webhook": webhook, "values": values, "made": made, "faults": faults_by_field(problem)},
    )
    return page if problem is None else page._replace(status=problem.status)


PATHS = [
    ("GET", "/webhooks/{webhook_id:[0-9]+}/preview", show),
    ("POST", "/webhooks/{webhook_id:[0-9]+}/preview", try_out),
]
