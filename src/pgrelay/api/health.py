"""Whether this process lives, for whoever would start it anew."""

from aiohttp import web


def routes() -> list[web.RouteDef]:
    return [web.get("/healthz", _live)]


async def _live(request: web.Request) -> web.Response:
    """The event loop turns; nothing is said of the database."""
    return web.Response(text="ok\n")
