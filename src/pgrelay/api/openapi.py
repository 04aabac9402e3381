"""The OpenAPI 3.1 document, made of the table of routes that serves."""

import functools
import re
from typing import Any

import pgrelay
from pgrelay.api.fields import Schema, ref
from pgrelay.api.problems import CONTENT_TYPE
from pgrelay.api.route import Route
from pgrelay.api.schemas import COMPONENTS
from pgrelay.api.table import ROUTES

_DESCRIPTION = """\
Webhooks, events and deliveries of pgrelay. Every request but that for this document carries a token:
`Authorization: Bearer pgrelay_…`, made with `pgrelay tokens create`. A tenant's token sees and changes what is its own
tenant's; what is another's does not exist for it.

What goes wrong is told as `application/problem+json` (RFC 9457), with the fields at fault in `errors`.
"""

_PROBLEMS = {
    400: "The body is not JSON.",
    401: "The token is missing or not good.",
    403: "This token may look and not change.",
    404: "There is no such thing, or not for this token.",
    409: "It cannot be done as things stand.",
    412: "It was changed since: its version is not the one of If-Match.",
    413: "The body is too large.",
    415: "The body is of another Content-Type.",
    422: "A field is wrong; `errors` says which.",
    428: "If-Match is missing.",
    429: "Too many tokens from this address were not good.",
    500: "A fault of pgrelay's own; its log says more.",
    503: "It cannot be done now: the database is away or slow, or too many receivers are tried out at once.",
}


@functools.cache
def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pgrelay", "version": pgrelay.__version__, "description": _DESCRIPTION},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": COMPONENTS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                f"Problem{status}": {
                    "description": text,
                    "content": {CONTENT_TYPE: {"schema": ref("Problem")}},
                }
                for status, text in _PROBLEMS.items()
            },
        },
    }


def operation(route: Route) -> dict[str, Any]:
    """One route as OpenAPI has it."""
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.description:
        found["description"] = route.description
    if route.body:
        kinds = ["application/json", *(["application/merge-patch+json"] if route.merge_patch else [])]
        found["requestBody"] = {
            "required": route.body_required,
            "content": {kind: {"schema": ref(route.body)} for kind in kinds},
        }
    return found


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        _parameter("path", name, {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}, required=True)
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    found += [_parameter("query", name, dict(schema)) for name, schema in route.query.items()]
    schema: Schema
    if route.if_match is not False:
        schema = {
            "type": "string",
            "description": "ETags of the versions that are meant, or *.",
            "examples": ['"3"'],
        }
        found.append(_parameter("header", "If-Match", schema, required=route.if_match is True))
    if route.idempotent_by_key:
        schema = {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[!-~]+$",
            "description": "For a day, a request that comes again with the same key is answered and not done again.",
        }
        found.append(_parameter("header", "Idempotency-Key", schema))
    return found


def _parameter(place: str, name: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key != "description"}
    found = {"name": name, "in": place, "required": required, "schema": kept}
    return {**found, "description": schema["description"]} if "description" in schema else found


def _responses(route: Route) -> dict[str, Any]:
    statuses = {401, 422, 429, 500, 503}
    if "{" in route.path:
        statuses.add(404)
    if route.changes:
        statuses.add(403)
    if route.body:
        statuses |= {400, 413, 415}
    if route.if_match is not False:
        statuses.add(412)
    if route.if_match:
        statuses.add(428)
    if route.may_conflict:
        statuses.add(409)
    good: dict[str, Any] = {"description": route.summary + "."}
    if route.answer is not None:
        good["content"] = {"application/json": {"schema": route.answer}}
    if route.etag:
        good["headers"] = {
            "ETag": {"description": "The version, for If-Match.", "schema": {"type": "string"}}
        }
    return {str(int(route.status)): good} | {
        str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)
    }
