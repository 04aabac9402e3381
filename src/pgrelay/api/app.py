"""The routes, put together."""

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from pgrelay.api import health, openapi
from pgrelay.api.auth import Brake
from pgrelay.api.call import Answer
from pgrelay.api.serve import MAX_BODY, Services, endpoint, problems_as_json, rendered, secure
from pgrelay.api.table import ROUTES
from pgrelay.db.connect import Connection
from pgrelay.db.sessions import Sessions
from pgrelay.doctor.trial import TryOut
from pgrelay.observation import Observation
from pgrelay.sealing import Keyring

#: Connections of the API: so many requests are worked on at a time.
CONNECTIONS = 4
#: What the API works with, kept in its application for the page that stands on it.
SERVICES = web.AppKey("SERVICES", Services)


def make_app(
    *,
    unready: Callable[[], str | None],
    render_metrics: Callable[[str], tuple[bytes, str]],
    api: web.Application,
) -> web.Application:
    """All that is served; see health.py for the arguments. `api` is api_app()."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[problems_as_json(api[SERVICES].observe)])
    app.on_response_prepare.append(secure)
    app.add_routes(health.routes(unready, render_metrics))
    app.add_subapp("/api/v1", api)
    return app


def api_app(
    open_connection: Callable[[], Awaitable[Connection]],
    observe: Callable[[Observation], None],
    keys: Keyring,
    try_out: TryOut,
) -> web.Application:
    """The REST API. `open_connection` opens one that was looked at: a primary, of a schema that this program knows.

    `keys` seal and open webhooks' secrets; empty where they are kept in the clear. `try_out` sends test requests.
    """
    sessions = Sessions(open_connection, CONNECTIONS)
    services = Services(sessions, Brake(time.monotonic), observe, keys, try_out)
    app = web.Application()
    app[SERVICES] = services
    for route in ROUTES:
        app.router.add_route(route.method, route.path, endpoint(route, services))
    app.router.add_get("/openapi.json", _document)

    async def close(_: web.Application) -> None:
        await sessions.close()

    app.on_cleanup.append(close)
    return app


async def _document(request: web.Request) -> web.Response:
    return rendered(Answer(openapi.document()))
