"""A signed test request past the queue, and what each step of it tells."""

from pgrelay.api import webhooks
from pgrelay.api.call import Answer, Call, Later
from pgrelay.api.fields import ref
from pgrelay.api.places import Places
from pgrelay.api.route import Route
from pgrelay.db import admin_webhooks
from pgrelay.doctor import diagnosis
from pgrelay.doctor.account import as_row
from pgrelay.doctor.trial import TryOut

#: For requests that are under way, the page's included; a receiver may take two minutes to answer.
TRIALS = Places(4, "too-many-tests", "receivers are tried out", retry_after=10)


async def explain(call: Call) -> Later:
    row = await webhooks.found(call)
    webhook = await admin_webhooks.opened(call.admin, row["id"], call.keys)

    async def work(try_out: TryOut) -> Answer:
        async with TRIALS.one():
            request, found = await try_out(webhook)
        return Answer(as_row(row["id"], request, found, diagnosis.findings(found, request, row)))

    return Later(work)


ROUTES = [
    Route(
        "POST",
        "/webhooks/{webhook_id}/explain",
        "explain_webhook",
        "Send it a test request now, and see what each step of it tells",
        explain,
        ref("Explained"),
        description="Past the queue, also to a paused or inactive webhook; no delivery is recorded."
        " The answer comes when the receiver's has, or its timeout_seconds are over.",
        may_conflict=True,
    )
]
