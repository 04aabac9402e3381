"""Webhooks: made, read, changed, deleted, tested, and their secrets."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from pgrelay.api.call import Answer, Call, etag, page, refuse_other_version
from pgrelay.api.fields import FLAG, TEXT, page_of, ref
from pgrelay.api.problems import Fault, conflict, invalid, not_found
from pgrelay.api.route import COMPANY, Route, listed
from pgrelay.db import admin_previews, admin_webhooks
from pgrelay.db.admin import Row
from pgrelay.db.tokens import Role
from pgrelay.db.webhook_states import STATES
from pgrelay.masking import MASK


async def list_webhooks(call: Call) -> Answer:
    (after,) = call.cursor(int) or (0,)
    rows = await admin_webhooks.page(
        call.admin,
        company=call.company or call.access.company_id,  # its own, which an index finds
        active=call.query.get("is_active"),
        name=call.query.get("name"),
        state=call.query.get("state"),
        after=after,
        clear=call.sees_urls,
        limit=call.limit + 1,
    )
    return page([shown(row) for row in rows], call.limit, "id")


async def create(call: Call) -> Answer:
    async def insert() -> dict[str, Any]:
        return {"webhook_id": await admin_webhooks.insert(call.admin, _values(call), call.keys)}

    made = (await call.once(insert))["webhook_id"]
    row = await admin_webhooks.configuration(call.admin, made, clear=call.sees_urls)
    if row is None:
        raise conflict(f"webhook {made}, made with this Idempotency-Key, was deleted since")
    # whoever repeats the request did not see the first answer
    secrets = await admin_webhooks.revealed(call.admin, made, call.keys)
    body = {**shown(row), "secret_key": secrets["secret_key"]}
    return Answer(body, HTTPStatus.CREATED, {"Location": f"/api/v1/webhooks/{made}", **etag(row["version"])})


def _values(call: Call) -> dict[str, Any]:
    values = {
        "company_id": call.access.company_id,
        "created_by": f"API token {call.access.name}",
        "secret_revealed_at": datetime.now(UTC),
        **call.body,
    }
    if values["company_id"] is None:
        raise invalid([Fault("it is missing: whose webhook is it?", pointer="/company_id")])
    if call.access.role is Role.TENANT and values["company_id"] != call.access.company_id:
        raise invalid([Fault("it must be your own, or be left out", pointer="/company_id")])
    return values


async def read(call: Call) -> Answer:
    return answer(await found(call))


async def change(call: Call) -> Answer:
    await locked(call)
    webhook_id, values = call.path["webhook_id"], dict(call.body)
    headers = values.pop("headers", None)
    if "headers" in call.body and headers is None:
        values["headers"] = None
    if values:
        await admin_webhooks.update(call.admin, webhook_id, values)
    if headers:
        await admin_webhooks.update_headers(
            call.admin, webhook_id, {name: value or "" for name, value in headers.items()}, call.keys
        )
    return answer(await found(call))


async def delete(call: Call) -> Answer:
    await locked(call)
    await admin_webhooks.delete(call.admin, call.path["webhook_id"])
    return Answer(None, HTTPStatus.NO_CONTENT)


async def enable(call: Call) -> Answer:
    return await _set_active(call, True)


async def disable(call: Call) -> Answer:
    return await _set_active(call, False)


async def _set_active(call: Call, active: bool) -> Answer:
    row = await locked(call)
    if row["is_active"] is not active:
        await admin_webhooks.update(call.admin, row["id"], {"is_active": active})
    return answer(await found(call))


async def test(call: Call) -> Answer:
    webhook_id = (await found(call))["id"]

    async def send() -> dict[str, Any]:
        return {"event_id": await admin_webhooks.send_test(call.admin, webhook_id)}

    made = await call.once(send)
    where = {"Location": f"/api/v1/deliveries?event_id={made['event_id']}"}
    return Answer(made, HTTPStatus.ACCEPTED, where)


async def preview(call: Call) -> Answer:
    webhook_id = (await found(call))["id"]
    wish = admin_previews.Wish(**call.body)
    return Answer(await admin_previews.show(call.admin, webhook_id, wish, clear=call.sees_urls))


async def found(call: Call, *, lock: bool = False) -> Row:
    """The webhook that the path names. Raises Problem (404); another tenant's does not exist either."""
    webhook_id = call.path["webhook_id"]
    row = await admin_webhooks.configuration(call.admin, webhook_id, clear=call.sees_urls, lock=lock)
    if row is None:
        raise not_found("webhook", webhook_id)
    return row


async def locked(call: Call) -> Row:
    """The same, of the version that is meant; it stays so until this transaction ends. Raises Problem (404, 412)."""
    row = await found(call, lock=True)
    refuse_other_version(call, row["version"])
    return row


def shown(row: Row) -> Row:
    """A webhook as it is shown: of its headers the names alone."""
    names = row["header_names"]
    headers = dict.fromkeys(names, MASK) if names else None
    return {**{name: value for name, value in row.items() if name != "header_names"}, "headers": headers}


def answer(row: Row) -> Answer:
    return Answer(shown(row), headers=etag(row["version"]))


_WEBHOOK = ref("Webhook")

ROUTES = [
    Route(
        "GET",
        "/webhooks",
        "list_webhooks",
        "Webhooks, by id",
        list_webhooks,
        page_of("Webhook"),
        query=listed(
            company_id=COMPANY,
            is_active={**FLAG, "description": "Active ones only, or inactive ones."},
            name={
                **TEXT,
                "maxLength": 200,
                "description": "Whose name holds this text, in upper or lower case.",
            },
            state={"type": "string", "enum": list(STATES), "description": "Which are so now."},
        ),
    ),
    Route(
        "POST",
        "/webhooks",
        "create_webhook",
        "Make a webhook, and see its secret",
        create,
        ref("WebhookWithSecret"),
        HTTPStatus.CREATED,
        body="NewWebhook",
        idempotent_by_key=True,
        etag=True,
        may_conflict=True,
    ),
    Route("GET", "/webhooks/{webhook_id}", "read_webhook", "One webhook", read, _WEBHOOK, etag=True),
    Route(
        "PATCH",
        "/webhooks/{webhook_id}",
        "change_webhook",
        "Change a webhook",
        change,
        _WEBHOOK,
        body="WebhookChange",
        merge_patch=True,
        if_match=True,
        etag=True,
    ),
    Route(
        "DELETE",
        "/webhooks/{webhook_id}",
        "delete_webhook",
        "Delete a webhook; what it is owed is cancelled",
        delete,
        None,
        HTTPStatus.NO_CONTENT,
        if_match=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/enable",
        "enable_webhook",
        "Owe it new events again",
        enable,
        _WEBHOOK,
        if_match=None,
        etag=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/disable",
        "disable_webhook",
        "Owe it nothing: its pending deliveries are cancelled",
        disable,
        _WEBHOOK,
        if_match=None,
        etag=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/test",
        "test_webhook",
        "Send it a test event",
        test,
        ref("TestEvent"),
        HTTPStatus.ACCEPTED,
        description="The test is a delivery like any other: see it at the Location of the answer.",
        idempotent_by_key=True,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/preview",
        "preview_webhook",
        "What it is sent of an event, and what its filter takes",
        preview,
        ref("Preview"),
        body="PreviewWish",
        body_required=False,
        description="To try a format, a template or a filter before it counts. Nothing is changed or sent.",
        looks_only=True,
    ),
]
