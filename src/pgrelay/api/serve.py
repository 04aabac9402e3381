"""From an HTTP request to a call of its route, and from the answer, or the problem, to an HTTP response.

In order: who asks, may they, is it well-formed; then one transaction, with their rights, in which the route works.
"""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import web

from pgrelay.api import problems, validate
from pgrelay.api.auth import Brake, authenticated
from pgrelay.api.call import Answer, Call, Later
from pgrelay.api.problems import Fault, Problem, invalid
from pgrelay.api.route import Route
from pgrelay.api.schemas import COMPONENTS
from pgrelay.db.sessions import Sessions
from pgrelay.db.tokens import Access, Role
from pgrelay.doctor.trial import TryOut
from pgrelay.errors import PgrelayError
from pgrelay.observation import ApiChanged, ApiFailed, LoginRefused, Observation
from pgrelay.sealing import Keyring

#: Of a request's body, in bytes.
MAX_BODY = 256 * 1024

_ETAG = re.compile(r'"([1-9][0-9]{0,9})"', re.ASCII)
_KEY = re.compile(r"[!-~]{1,255}")
#: Headers of every answer, unless it has its own.
SECURITY = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "pgrelay",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Services(NamedTuple):
    """What the API needs of those who serve it."""

    sessions: Sessions
    brake: Brake
    observe: Callable[[Observation], None]
    keys: Keyring
    try_out: TryOut


def endpoint(route: Route, services: Services) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The function that aiohttp calls for a route."""
    # references lead to the other schemas, so these are at hand where the document has them
    body = (
        validate.validator({**COMPONENTS[route.body], "components": {"schemas": COMPONENTS}})
        if route.body
        else None
    )

    async def serve(request: web.Request) -> web.Response:
        access = await authenticated(
            services.sessions,
            services.brake,
            request.headers.get("Authorization"),
            request.remote or "",
            lambda address: services.observe(LoginRefused(address)),
        )
        refuse_who_may_not(route, access)
        path = _path(request)
        query = validate.query(route.query, list(request.query.items()))
        versions = _versions(route, request)
        key = _idempotency_key(route, request)
        given = {} if body is None else validate.checked(body, await _body(route, request))
        async with services.sessions.session(access) as admin:
            call = Call(admin, access, path, query, given, versions, key, route.name, services.keys)
            made = await route.work(call)
        answer = await made.work(services.try_out) if isinstance(made, Later) else made
        if route.changes:
            services.observe(ApiChanged(route.name, access.id, access.name, next(iter(path.values()), None)))
        return rendered(answer)

    return serve


def refuse_who_may_not(route: Route, access: Access) -> None:
    """Raises Problem (403) for a change that a reader asks for."""
    if route.changes and access.role is Role.READER:
        raise Problem(HTTPStatus.FORBIDDEN, "forbidden", "this token may look and not change")


def _path(request: web.Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in request.match_info.items():
        value = validate.number(text)
        if value is None:
            raise Problem(HTTPStatus.NOT_FOUND, "not-found", f"{text!r} is not an id")
        found[name] = value
    return found


def _versions(route: Route, request: web.Request) -> frozenset[int] | None:
    """The versions that If-Match speaks of; None for any. Raises Problem (428) where one must be said."""
    if route.if_match is False:
        return None
    text = request.headers.get("If-Match")
    if text is None:
        if route.if_match is None:
            return None
        raise Problem(
            HTTPStatus.PRECONDITION_REQUIRED,
            "version-needed",
            "say which version you change: If-Match with the ETag you read, or * for any",
            faults=[Fault("it is missing", header="If-Match")],
        )
    if text.strip() == "*":
        return None
    # weak tags and others' tags match no version
    return frozenset(int(version) for version in _ETAG.findall(text) if f'W/"{version}"' not in text)


def _idempotency_key(route: Route, request: web.Request) -> str | None:
    text = request.headers.get("Idempotency-Key")
    if text is None or not route.idempotent_by_key:
        return None
    if not _KEY.fullmatch(text):
        raise invalid([Fault("it must be 1 to 255 visible ASCII characters", header="Idempotency-Key")])
    return text


async def _body(route: Route, request: web.Request) -> Any:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"a body has at most {MAX_BODY} bytes"
        ) from None
    if not raw and not route.body_required:
        return {}
    kinds = ["application/json", *(["application/merge-patch+json"] if route.merge_patch else [])]
    if request.content_type not in kinds or (request.charset or "utf-8").lower() != "utf-8":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            f"the Content-Type must be {' or '.join(kinds)}, in UTF-8",
            faults=[Fault(f"it must be {' or '.join(kinds)}", header="Content-Type")],
        )
    return validate.parsed(raw)


def rendered(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return _json(answer.body, answer.status, answer.headers, "application/json")


def _json(body: Any, status: int, headers: Any, content_type: str) -> web.Response:
    text = json.dumps(body, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, headers=headers, content_type=content_type)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} in an answer")


def problems_as_json(observe: Callable[[Observation], None]) -> Any:
    """The middleware that makes problem+json of whatever goes wrong, and tells what is our own fault."""

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            return as_json(problem)
        except PgrelayError as error:
            ours = problems.of_error(error)
            if ours.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                observe(ApiFailed(request.method, request.path, str(error)))
            return as_json(ours)
        except web.HTTPException as error:
            return as_json(_of_http(error))
        except ConnectionError:
            # the client hung up while its body was read; nobody hears this
            return as_json(Problem(HTTPStatus.BAD_REQUEST, "connection-lost", "the connection was lost"))
        except Exception as error:
            observe(ApiFailed(request.method, request.path, f"{type(error).__name__}: {error}"))
            return as_json(problems.of_error(PgrelayError("")))

    return middleware


def as_json(problem: Problem) -> web.Response:
    """A problem as RFC 9457 sends it."""
    return _json(problem.json(), problem.status, problem.headers, problems.CONTENT_TYPE)


def _of_http(error: web.HTTPException) -> Problem:
    status = HTTPStatus(error.status)
    headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem(status, "method-not-allowed", f"there are {headers.get('Allow', '')}", headers=headers)
    if status is HTTPStatus.NOT_FOUND:
        return Problem(status, "not-found", "there is no such path; see /api/v1/openapi.json")
    return Problem(status, status.phrase.lower().replace(" ", "-"), error.reason, headers=headers)


async def secure(request: web.Request, response: web.StreamResponse) -> None:
    """The signal that gives each answer its headers."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = SECURITY["Server"]  # aiohttp has named itself by now
