"""The routes, put together."""

from collections.abc import Callable

from aiohttp import web

from pgrelay.api import health


def make_app(
    *, unready: Callable[[], str | None], render_metrics: Callable[[str], tuple[bytes, str]]
) -> web.Application:
    """All that is served; see health.py for the arguments."""
    app = web.Application()
    app.add_routes(health.routes(unready, render_metrics))
    return app
