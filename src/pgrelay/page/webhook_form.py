"""The form that makes and changes a webhook: from texts to the body that the API takes, and back."""

import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pgrelay.api.problems import Problem
from pgrelay.page.view import Goto, Page, View, faults_by_field

#: Fields for numbers, which may be left empty; whether that means null.
_NUMBERS = {
    "timeout_seconds": False,
    "max_retry_attempts": False,
    "max_concurrency": True,
    "rate_limit_per_second": True,
}
_FIELDS = (
    *(
        "company_id",
        "name",
        "url",
        "subscribed_events",
        "description",
        "headers",
        "retry_schedule",
        "ordering",
        "payload_format",
        "payload_template",
        "filter",
    ),
    *_NUMBERS,
)


async def show_new(view: View) -> Page:
    view.refuse_readers()
    return _page(
        None,
        {
            **dict.fromkeys(_FIELDS, ""),
            "ordering": "none",
            "payload_format": "standard",
            "key": secrets.token_urlsafe(),
        },
    )


async def create(view: View) -> Page:
    """With the secret that is shown once. To reload makes nothing new: the form has an idempotency key."""
    company = view.form.get("company_id", "").strip()
    body = {**read(view.form, new=True), **({"company_id": company} if company else {})}
    made, problem = await view.attempt("create_webhook", body=body, key=view.form.get("key"))
    if problem is not None:
        return _page(None, _typed(view.form), problem)
    return Page("webhook_made.html", {"webhook": made}, HTTPStatus.CREATED)


async def show_change(view: View) -> Page:
    view.refuse_readers()
    webhook = await view.ask("read_webhook")
    return _page(webhook, written(webhook))


async def change(view: View) -> Page | Goto:
    text = view.form.get("version", "")
    _, problem = await view.attempt(
        "change_webhook", body=read(view.form, new=False), version=int(text) if _is_int(text) else 0
    )
    if problem is not None:
        return _page(await view.ask("read_webhook"), _typed(view.form), problem)
    return Goto(f"/webhooks/{view.path['webhook_id']}?done=changed")


def _page(
    webhook: Mapping[str, Any] | None, values: Mapping[str, str], problem: Problem | None = None
) -> Page:
    return Page(
        "webhook_form.html",
        {"webhook": webhook, "values": values, "faults": faults_by_field(problem)},
        HTTPStatus.OK if problem is None else problem.status,
    )


def _typed(form: Mapping[str, str]) -> dict[str, str]:
    """What was typed, to show it again."""
    return {name: form.get(name, "") for name in (*_FIELDS, "key", "version")}


def written(webhook: Mapping[str, Any]) -> dict[str, str]:
    """A webhook as the texts of its form. Header values are not known, and stay if nothing is typed."""
    found = {name: _text(webhook[name]) for name in _FIELDS if name not in ("headers", "company_id")}
    return {
        **found,
        "subscribed_events": "\n".join(webhook["subscribed_events"]),
        "retry_schedule": ", ".join(map(str, webhook["retry_schedule"] or [])),
        "headers": "",
        "company_id": webhook["company_id"],
        "version": str(webhook["version"]),
    }


def _text(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def read(form: Mapping[str, str], *, new: bool) -> dict[str, Any]:
    """The body that the form's texts say. What is no number stays a text, for the schema to refuse it at its field."""
    body: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "url": form.get("url", "").strip(),
        "subscribed_events": form.get("subscribed_events", "").replace(",", " ").split(),
        "ordering": form.get("ordering", "none"),
        "payload_format": form.get("payload_format", "standard"),
        "payload_template": form.get("payload_template", "").strip() or None,
        "filter": form.get("filter", "").strip() or None,
        "description": form.get("description", "").strip() or None,
        "retry_schedule": [_number(text) for text in form.get("retry_schedule", "").replace(",", " ").split()]
        or None,
    }
    for name, nullable in _NUMBERS.items():
        text = form.get(name, "").strip()
        if text:
            body[name] = _number(text)
        elif nullable:
            body[name] = None
    if headers := _headers(form.get("headers", ""), new=new):
        body["headers"] = headers
    return body


def _headers(text: str, *, new: bool) -> dict[str, str | None]:
    """Lines of "Name: value"; of a webhook there is, a name without a value removes it."""
    found: dict[str, str | None] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = line.partition(":")
        found[name.strip()] = value.strip() or ("" if new else None)
    return found


def _number(text: str) -> int | float | str:
    if _is_int(text):
        return int(text)
    return float(text) if re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", text, re.ASCII) else text


def _is_int(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,12}", text, re.ASCII) is not None


PATHS = [
    ("GET", "/webhooks/new", show_new),
    ("POST", "/webhooks/new", create),
    ("GET", "/webhooks/{webhook_id:[0-9]+}/change", show_change),
    ("POST", "/webhooks/{webhook_id:[0-9]+}/change", change),
]
