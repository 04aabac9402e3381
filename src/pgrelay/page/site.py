"""The page's paths, and the way from an HTTP request to a page and back.

In order: from our own site, logged in, a form of this login; then one transaction, with the caller's rights, in which
the page is made.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

from aiohttp import web

from pgrelay.api import problems, validate
from pgrelay.api.problems import Problem
from pgrelay.api.serve import Services
from pgrelay.db.tokens import Access
from pgrelay.errors import PgrelayError
from pgrelay.observation import ApiFailed
from pgrelay.page import (
    catalogue,
    deliveries,
    doctor,
    gate,
    live,
    look,
    overview,
    preview,
    replay,
    webhook_form,
    webhooks,
)
from pgrelay.page.notices import NOTICES
from pgrelay.page.view import Goto, Later, Page, View

_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # not no-referrer: it would make the Origin of our own forms null
    "Referrer-Policy": "same-origin",
    "Server": "pgrelay",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Path(NamedTuple):
    """What is at one path for one method."""

    method: str
    path: str
    work: Callable[[View], Awaitable[Page | Goto | Later]]


_PATHS = [
    Path("GET", "/", overview.show),
    *(Path(*given) for given in webhooks.PATHS),
    *(Path(*given) for given in webhook_form.PATHS),
    *(Path(*given) for given in preview.PATHS),
    *(Path(*given) for given in replay.PATHS),
    *(Path(*given) for given in doctor.PATHS),
    *(Path(*given) for given in deliveries.PATHS),
    *(Path(*given) for given in live.PATHS),
    Path("GET", "/event-types", catalogue.show),
]


def add_page(app: web.Application, services: Services) -> None:
    """Serve the page at / of `app`, beside what it serves already."""
    site = _Site(services)
    for path in _PATHS:
        app.router.add_route(path.method, path.path, site.endpoint(path))
        if path.method == "GET":
            app.router.add_route("HEAD", path.path, site.endpoint(path))
    app.router.add_get("/login", site.show_login)
    app.router.add_post("/login", site.login)
    app.router.add_post("/logout", site.logout)
    app.router.add_get("/static/{name}", _static)
    # last: a path that is not there
    app.router.add_get("/{path:.*}", site.endpoint(Path("GET", "", _nowhere)))


async def _nowhere(view: View) -> Page:
    raise Problem(HTTPStatus.NOT_FOUND, "not-found", "there is no such page")


async def _static(request: web.Request) -> web.Response:
    found = look.STATIC.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    content_type, content = found
    headers = {**_SECURITY, "Content-Type": content_type, "Cache-Control": "max-age=86400"}
    return web.Response(body=content, headers=headers)


class _Site:
    """All that answers share."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._templates = look.templates()

    def endpoint(self, path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The function that aiohttp calls for a path."""

        async def serve(request: web.Request) -> web.Response:
            return await self._guarded(request, lambda: self._served(request, path))

        return serve

    async def _served(self, request: web.Request, path: Path) -> web.Response:
        token = request.cookies.get(gate.COOKIE, "")
        if not token:
            return _to_login(request)
        try:
            access = await gate.access_of(self._services, request, token)
        except Problem as problem:
            if problem.status is not HTTPStatus.UNAUTHORIZED:
                raise
            response = _to_login(request)
            gate.forget(request, response)
            return response
        try:
            form: Mapping[str, str] = {}
            if path.method == "POST":
                gate.refuse_other_sites(request.headers)
                form = await _form(request)
                gate.refuse_other_forms(form.get("form_token", ""), token)
            made, changes = await self._made(request, path, access, form)
        except (Problem, PgrelayError) as error:
            return self._error(request, error, access, token)
        for change in changes:
            self._services.observe(change)
        if isinstance(made, Goto):
            return _goto(made.path)
        return self._rendered(request, made, access, token)

    async def _made(
        self, request: web.Request, path: Path, access: Access, form: Mapping[str, str]
    ) -> tuple[Page | Goto, list[Any]]:
        # empty fields of a search are no filter
        query = {name: value for name, value in request.query.items() if value.strip()}
        async with self._services.sessions.session(access) as admin:
            view = View(
                admin, access, _ids(request), query, form, self._services.keys, self._services.try_out
            )
            made = await path.work(view)
        return await made.work() if isinstance(made, Later) else made, view.changes

    async def show_login(self, request: web.Request) -> web.Response:
        return self._login_page(request, gate.local(request.query.get("next", "/")))

    async def login(self, request: web.Request) -> web.Response:
        async def work() -> web.Response:
            gate.refuse_other_sites(request.headers)
            form = await _form(request)
            token, following = form.get("token", "").strip(), gate.local(form.get("next", "/"))
            try:
                await gate.access_of(self._services, request, token)
            except Problem as problem:
                return self._login_page(request, following, problem)
            response = _goto(following)
            gate.keep(request, response, token)
            return response

        return await self._guarded(request, work)

    async def logout(self, request: web.Request) -> web.Response:
        async def work() -> web.Response:
            gate.refuse_other_sites(request.headers)
            response = _goto("/login")
            gate.forget(request, response)
            return response

        return await self._guarded(request, work)

    def _login_page(
        self, request: web.Request, following: str, problem: Problem | None = None
    ) -> web.Response:
        said = None
        if problem is not None:
            too_often = problem.status is HTTPStatus.TOO_MANY_REQUESTS
            said = (
                f"Too many tokens from this address were not good. Wait {problem.headers['Retry-After']} seconds."
                if too_often
                else "This token is unknown, revoked or expired."
            )
        page = Page(
            "login.html",
            {"next": following, "said": said},
            HTTPStatus.OK if problem is None else problem.status,
        )
        response = self._rendered(request, page, None, "")
        if problem is not None and "Retry-After" in problem.headers:
            response.headers["Retry-After"] = problem.headers["Retry-After"]
        return response

    async def _guarded(
        self, request: web.Request, work: Callable[[], Awaitable[web.Response]]
    ) -> web.Response:
        try:
            return await work()
        except (Problem, PgrelayError) as error:
            return self._error(request, error, None, "")
        except web.HTTPRequestEntityTooLarge:
            large = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", "the form is too large")
            return self._error(request, large, None, "")
        except ConnectionError:
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # nobody hears this
        except Exception as error:
            self._services.observe(
                ApiFailed(request.method, request.path, f"{type(error).__name__}: {error}")
            )
            return self._error(request, PgrelayError(""), None, "", told=True)

    def _error(
        self,
        request: web.Request,
        error: Problem | PgrelayError,
        access: Access | None,
        token: str,
        told: bool = False,
    ) -> web.Response:
        problem = error if isinstance(error, Problem) else problems.of_error(error)
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not told:
            self._services.observe(ApiFailed(request.method, request.path, str(error)))
        response = self._rendered(
            request, Page("error.html", {"problem": problem}, problem.status), access, token
        )
        if "Retry-After" in problem.headers:
            response.headers["Retry-After"] = problem.headers["Retry-After"]
        return response

    def _rendered(self, request: web.Request, page: Page, access: Access | None, token: str) -> web.Response:
        values = {
            "access": access,
            "may_change": access is not None and access.role != "reader",
            "form_token": gate.form_token(token) if access is not None else "",
            "here": "/" + request.path.split("/")[1],
            "refresh": None,
            "notice": NOTICES.get(request.query.get("done", "")),
            **page.values,
        }
        headers = {**_SECURITY, "Cache-Control": "no-store"}
        return web.Response(
            text=look.html(self._templates, page.template, values),
            status=page.status,
            headers=headers,
            content_type="text/html",
        )


def _ids(request: web.Request) -> dict[str, int]:
    found = {}
    for name, text in request.match_info.items():
        if name == "path":
            continue
        number = validate.number(text)
        if number is None:
            raise Problem(HTTPStatus.NOT_FOUND, "not-found", f"{text!r} is not an id")
        found[name] = number
    return found


async def _form(request: web.Request) -> dict[str, str]:
    try:
        given = await request.post()
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "malformed-form", "the form could not be read") from None
    return {name: value for name, value in given.items() if isinstance(value, str)}


def _goto(path: str) -> web.Response:
    headers = {**_SECURITY, "Cache-Control": "no-store", "Location": path}
    return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)


def _to_login(request: web.Request) -> web.Response:
    following = request.path_qs if request.method == "GET" and request.path != "/" else ""
    return _goto(f"/login?next={quote(following)}" if following else "/login")
