"""`pgrelay webhooks preview`: what it is sent of an event, and what its filter takes, with nothing changed or sent."""

from pgrelay.cli.context import Context
from pgrelay.cli.options import read_options
from pgrelay.cli.output import Output, Row
from pgrelay.cli.text import count, printable
from pgrelay.db import admin_previews


async def preview(context: Context) -> int:
    """1 if the event cannot be sent so."""
    given, _ = read_options(context.argument("limits"))
    wish = admin_previews.Wish(event_id=context.argument("event_id"), last=context.argument("last"), **given)
    async with context.admin() as admin:
        shown = await admin_previews.show(admin, context.argument("id"), wish)
    context.out.value(shown)
    if not context.out.json:
        _print(context.out, shown)
    return 0 if shown["error"] is None else 1


def _print(out: Output, shown: Row) -> None:
    if shown["event_id"] is None:
        out.say("There is no event of its tenant that it subscribes to; a test event stands for one.")
    else:
        out.say(f"Event {shown['event_id']}, {shown['event_type']}:")
    if shown["filter"] is not None:
        if shown["matches"] is not None:
            out.say(f"The filter {'takes' if shown['matches'] else 'leaves out'} this event.")
        tried = count(shown["events_tried"], "latest event")
        out.say(f"It takes {shown['events_matching']:,} of the {tried}.")
    if shown["error"] is not None:
        out.say(f"It cannot be sent as {shown['payload_format']}: {printable(shown['error'])}")
        return
    out.say(f"Sent as {shown['content_type']}:")
    out.print(printable(shown["body"], lines=True))
