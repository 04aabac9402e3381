"""Secrets of webhooks: rotated, seen once, the old one ended."""

from pgrelay.api import webhooks
from pgrelay.api.call import Answer, Call, etag
from pgrelay.api.fields import ref
from pgrelay.api.problems import conflict
from pgrelay.api.route import Route
from pgrelay.db import admin_webhooks


async def rotate_secret(call: Call) -> Answer:
    row = await webhooks.locked(call)
    secret = await admin_webhooks.rotate_secret(
        call.admin, row["id"], float(call.body.get("overlap_seconds", 86_400)), call.keys
    )
    return await _seen(call, secret)


async def reveal_secret(call: Call) -> Answer:
    row = await webhooks.found(call)
    secret = await admin_webhooks.reveal(call.admin, row["id"], call.keys)
    if secret is None and row["secret_revealed_at"] is None:
        raise conflict("there is no secret yet: a daemon that has the key makes it within a second or so")
    if secret is None:
        raise conflict("the secret was shown before; rotate it to get a new one")
    return await _seen(call, secret)


async def _seen(call: Call, secret: str | None) -> Answer:
    row = await webhooks.found(call)
    return Answer(
        {"id": row["id"], "secret_key": secret, "version": row["version"]}, headers=etag(row["version"])
    )


async def end_overlap(call: Call) -> Answer:
    row = await webhooks.locked(call)
    if not await admin_webhooks.end_overlap(call.admin, row["id"], row["version"]):
        raise conflict(f"no old secret of webhook {row['id']} signs any more")
    return webhooks.answer(await webhooks.found(call))


ROUTES = [
    Route(
        "POST",
        "/webhooks/{webhook_id}/rotate-secret",
        "rotate_secret",
        "Give it a new secret, and see that",
        rotate_secret,
        ref("Secret"),
        body="Rotation",
        body_required=False,
        if_match=None,
        etag=True,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/reveal-secret",
        "reveal_secret",
        "See a secret that nobody was shown yet",
        reveal_secret,
        ref("Secret"),
        description="For webhooks that were not made through the API. Once: then it is 409, and only rotation helps.",
        etag=True,
        may_conflict=True,
    ),
    Route(
        "POST",
        "/webhooks/{webhook_id}/end-overlap",
        "end_overlap",
        "End the old secret of a rotation: the new one signs alone",
        end_overlap,
        ref("Webhook"),
        if_match=None,
        etag=True,
        may_conflict=True,
    ),
]
