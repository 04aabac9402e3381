"""`pgrelay webhooks test --explain`: what the doctor found, on a terminal."""

from pgrelay.cli.check import print_finding
from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.db import admin_webhooks
from pgrelay.doctor import diagnosis
from pgrelay.doctor.account import as_row
from pgrelay.doctor.finding import Finding
from pgrelay.doctor.trial import try_out


async def explain(context: Context) -> int:
    """0 if the endpoint answered 2xx, 1 if not."""
    out = context.out
    async with context.admin() as admin:
        row = await admin_webhooks.webhook(admin, context.argument("id"))
        webhook = await admin_webhooks.opened(admin, row["id"], context.keys)
    out.say("One signed test request, from this process and past the queue; no delivery is recorded.")
    request, found = await try_out(context.settings, webhook)
    findings = diagnosis.findings(found, request, row)
    out.value(as_row(webhook.id, request, found, findings))
    tell(out, findings)
    return 0 if diagnosis.answered_well(found) else 1


def tell(out: Output, findings: list[Finding]) -> None:
    for finding in findings:
        print_finding(out, finding)
