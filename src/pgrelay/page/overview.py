"""The first page: how the webhooks are, what ended in the last hours, what waits, what failed."""

from pgrelay.db import admin_page
from pgrelay.page.view import Page, View

_HOURS = 24
_TROUBLED = 10
_FAILURES = 10
#: Seconds after which it is looked at again; the script waits longer where the database takes long.
_EVERY = 15


async def show(view: View) -> Page:
    return Page(
        "overview.html",
        {
            "stats": await view.ask("stats"),
            "states": await admin_page.states(view.admin),
            "troubled": await admin_page.troubled(view.admin, _TROUBLED),
            "hours": await admin_page.hours(view.admin, _HOURS),
            "failures": await admin_page.failures(view.admin, _FAILURES),
            "refresh": _EVERY,
        },
    )
