"""The routes, put together."""

from aiohttp import web

from pgrelay.api import health


def make_app() -> web.Application:
    """All that is served."""
    app = web.Application()
    app.add_routes(health.routes())
    return app
