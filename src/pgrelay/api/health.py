"""Whether this process lives, whether it delivers, and its metrics: for whoever starts it anew, or watches it.

No database is asked here, so that an answer is quick and a scrape harmless; what is told was read before.
"""

from collections.abc import Callable

from aiohttp import web


def routes(
    unready: Callable[[], str | None], render_metrics: Callable[[str], tuple[bytes, str]]
) -> list[web.RouteDef]:
    """`unready` says why nothing can be delivered now; `render_metrics` takes the header Accept."""

    async def ready(request: web.Request) -> web.Response:
        """The database is served and the lease is held; else 503 and the reason."""
        reason = unready()
        return web.Response(text="ok\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = render_metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return [web.get("/healthz", _live), web.get("/readyz", ready), web.get("/metrics", metrics)]


async def _live(request: web.Request) -> web.Response:
    """The event loop turns; nothing is said of the database."""
    return web.Response(text="ok\n")
