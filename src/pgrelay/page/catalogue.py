"""Which events there are, each with its schema and an example."""

from pgrelay.page.view import Page, View


async def show(view: View) -> Page:
    return Page("event_types.html", await view.ask("list_event_types"))
