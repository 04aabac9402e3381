"""Who may come in: the cookie with the token, the origin of a form, and the token in it.

The cookie holds an API token, so a revoked one ends at once and nothing is kept on the server. Scripts cannot read it,
and a browser does not send it with requests that another site starts. A form carries an HMAC keyed by the token, which
nobody else can make.
"""

import hashlib
import hmac
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from pgrelay.api.auth import authenticated
from pgrelay.api.problems import Problem
from pgrelay.api.serve import Services
from pgrelay.db.tokens import Access
from pgrelay.observation import LoginRefused

COOKIE = "pgrelay_token"


async def access_of(services: Services, request: web.Request, token: str) -> Access:
    """Whose token it is. Raises Problem: 401, or 429 for an address that failed too often."""
    return await authenticated(
        services.sessions,
        services.brake,
        f"Bearer {token}",
        request.remote or "",
        lambda address: services.observe(LoginRefused(address)),
    )


def keep(request: web.Request, response: web.Response, token: str) -> None:
    """Remember the token until the browser is closed; where TLS is spoken (by a proxy, usually), only with TLS."""
    response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="Strict", secure=_by_tls(request))


def forget(request: web.Request, response: web.Response) -> None:
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=_by_tls(request))


def _by_tls(request: web.Request) -> bool:
    # whoever forges the header makes their own cookie stricter, no more
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def form_token(token: str) -> str:
    """What the forms of one who is logged in carry."""
    return hmac.new(token.encode("utf-8", "surrogatepass"), b"pgrelay form", hashlib.sha256).hexdigest()


def refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Raises Problem (403) for a form that another site's page sent.

    Browsers say so in Sec-Fetch-Site, and over plain HTTP in Origin alone. What is no browser says neither.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or _host(origin) == headers.get("Host", "").lower()
    if not ours:
        raise Problem(HTTPStatus.FORBIDDEN, "forbidden", "this form was sent from another site")


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def refuse_other_forms(given: str, token: str) -> None:
    """Raises Problem (403) for a form that was not made for this token."""
    if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), form_token(token).encode()):
        raise Problem(
            HTTPStatus.FORBIDDEN, "forbidden", "this form is of another login; open its page again and repeat"
        )


def local(path: str) -> str:
    """A path of this page to go to after the login; / for what could lead elsewhere."""
    safe = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if safe else "/"
