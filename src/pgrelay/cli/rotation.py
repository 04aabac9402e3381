"""`pgrelay webhooks rotate-secret --prove` and `prove-secret`: does the receiver accept the new secret alone?"""

import asyncio
import time
from typing import Any

from pgrelay.cli.context import Context
from pgrelay.cli.parser import UsageError
from pgrelay.cli.webhooks import print_secret
from pgrelay.db import admin_webhooks
from pgrelay.db.admin import Admin
from pgrelay.delivery import Webhook
from pgrelay.doctor.diagnosis import answered_well
from pgrelay.doctor.proof import alone, verdict, verifies
from pgrelay.doctor.trial import try_out
from pgrelay.transport import Probe

#: Seconds between tries with --wait.
_PAUSE = 2.0


async def rotate_and_prove(context: Context) -> int:
    """0 if the receiver accepted the new secret alone, 1 if not; both sign then, until the overlap ends."""
    webhook_id, overlap = context.argument("id"), context.argument("overlap")
    if not overlap:
        raise UsageError(
            "--prove needs an overlap", "Without one the old secret ends before the new one is proved."
        )
    async with context.admin() as admin:
        # Who cannot sign with the secret learns it before anything is changed.
        await admin_webhooks.secret(admin, webhook_id, context.keys)
        secret = await admin_webhooks.rotate_secret(admin, webhook_id, overlap, context.keys)
        print_secret(context.out, secret, webhook_id)
        context.out.flush()
        return await _prove(context, admin, {"secret_key": secret, "overlap_seconds": overlap})


async def prove(context: Context) -> int:
    """0 if the receiver accepted the secret that is new, or the only one; 1 if not."""
    async with context.admin() as admin:
        return await _prove(context, admin, {})


async def _prove(context: Context, admin: Admin, said: dict[str, Any]) -> int:
    out, webhook_id = context.out, context.argument("id")
    webhook = await admin_webhooks.opened(admin, webhook_id, context.keys)
    new = alone(webhook)
    out.say("A test event signed with the new secret alone, from this process and past the queue …")
    found = await _accepted(context, new)
    proved, believable, ended = answered_well(found), None, False
    if proved:
        believable = await verifies(lambda stranger: try_out(context.settings, stranger), new)
        if context.argument("end_old"):
            ended = await admin_webhooks.end_overlap(admin, webhook_id, webhook.version)
    failure = found.failure
    out.value(
        {
            "id": webhook_id,
            **said,
            "proved": proved,
            "verifies": believable,
            "old_ended": ended,
            "status_code": found.status,
            "error_kind": None if failure is None else failure.kind,
            "error_message": None if failure is None else failure.message,
        }
    )
    _tell(context, webhook, found, verifies=believable, ended=ended)
    return 0 if proved else 1


async def _accepted(context: Context, webhook: Webhook) -> Probe:
    """What became of the request; with --wait, of the last one."""
    until = time.monotonic() + context.argument("wait")
    while True:
        _, found = await try_out(context.settings, webhook)
        if answered_well(found) or time.monotonic() + _PAUSE > until:
            return found
        await asyncio.sleep(_PAUSE)


def _tell(context: Context, webhook: Webhook, found: Probe, *, verifies: bool | None, ended: bool) -> None:
    out, again = context.out, f"pgrelay webhooks prove-secret {webhook.id} --end-old"
    overlaps = webhook.previous_secret_key is not None
    if not answered_well(found):
        out.print(f"{out.style('✗', 'red')} Not accepted: {verdict(found)}")
        out.say(
            f"{'Both secrets sign on, until the overlap ends. ' if overlaps else ''}When the receiver has the new one:"
            f" {again}\nWhat is wrong: pgrelay webhooks test {webhook.id} --explain"
        )
        return
    out.print(f"{out.style('✓', 'green')} Accepted: HTTP {found.status} to the new secret alone")
    if verifies:
        out.print(f"{out.style('✓', 'green')} Refused, as it should be: a signature with another secret")
    elif verifies is False:
        out.print(
            f"{out.style('!', 'yellow')} It accepts a signature with any other secret too: it does not verify"
        )
        out.say("So this proves nothing, and anybody can send to it. How to verify: docs/receivers.md")
    if ended:
        out.print("The old secret is ended.")
    elif context.argument("end_old"):
        changed = f"The webhook was changed meanwhile, so the old secret is left as it is. Again: {again}"
        out.say(changed if overlaps else "There is no old secret any more.")
    elif overlaps:
        out.say(f"The old secret signs on until the overlap ends. End it now: {again}")
