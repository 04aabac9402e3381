"""The doctor: signed test requests past the queue. What each step of one tells; whether a new secret is taken up."""

from pgrelay.api.explain import TRIALS
from pgrelay.db import admin_webhooks
from pgrelay.db.admin import Row
from pgrelay.delivery import Webhook
from pgrelay.doctor import diagnosis, proof
from pgrelay.doctor.finding import Level
from pgrelay.page.view import Later, Page, View


async def explain(view: View) -> Later:
    row, webhook = await _opened(view)

    async def work() -> Page:
        async with TRIALS.one():
            request, found = await view.try_out(webhook)
        findings = diagnosis.findings(found, request, row)
        mends = " ".join(finding.mend for finding in findings if finding.level is not Level.INFO)
        values = {
            "webhook": row,
            "well": diagnosis.answered_well(found),
            "findings": findings,
            # what else there is to do about it for who has the page alone
            "by_command": "pgrelay webhooks " in mends,
            "by_operator": "network." in mends,
        }
        return Page("explained.html", values)

    return Later(work)


async def prove(view: View) -> Later:
    row, webhook = await _opened(view)

    async def work() -> Page:
        async with TRIALS.one():
            _, found = await view.try_out(proof.alone(webhook))
            proved = diagnosis.answered_well(found)
            verifies = await proof.verifies(view.try_out, webhook) if proved else None
        values = {
            "webhook": row,
            "proved": proved,
            "verifies": verifies,
            "verdict": proof.verdict(found),
            "overlaps": webhook.previous_secret_key is not None,
        }
        return Page("proved.html", values)

    return Later(work)


async def _opened(view: View) -> tuple[Row, Webhook]:
    """The webhook as the page shows it, and as its requests are made, for those who may have them made."""
    view.refuse_readers()
    row = await view.ask("read_webhook")
    return row, await admin_webhooks.opened(view.admin, row["id"], view.keys)


PATHS = [
    ("POST", "/webhooks/{webhook_id:[0-9]+}/explain", explain),
    ("POST", "/webhooks/{webhook_id:[0-9]+}/prove", prove),
]
