"""The table of routes and the document made of it: complete, and of one piece."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema

from pgrelay.api import event_types, openapi
from pgrelay.api.schemas import COMPONENTS
from pgrelay.api.table import ROUTES
from pgrelay.db.admin_webhooks import WRITABLE
from pgrelay.delivery import ErrorKind, Failure
from pgrelay.doctor.account import as_row
from pgrelay.doctor.diagnosis import diagnose
from pgrelay.request import RequestBuilder
from pgrelay.transport import Certificate, Probe
from support import factories


def references(node: Any) -> set[str]:
    """All $ref below a node."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_schema_is_one_and_every_reference_leads_to_one():
    for schema in COMPONENTS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    document = openapi.document()
    for reference in references(document):
        node = document
        for step in reference.removeprefix("#/").split("/"):
            node = node[step]
    json.dumps(document)


def test_every_schema_is_used():
    used = {reference.rsplit("/", 1)[1] for reference in references(openapi.document())}
    assert set(COMPONENTS) <= used


def test_names_and_paths_are_unique_and_every_route_is_in_the_document():
    assert (
        len({route.name for route in ROUTES})
        == len({(route.method, route.path) for route in ROUTES})
        == len(ROUTES)
    )
    documented = {
        (method.upper(), path) for path, item in openapi.document()["paths"].items() for method in item
    }
    assert documented == {(route.method, route.path) for route in ROUTES}


def test_every_name_in_a_path_is_an_id():
    names = {name for route in ROUTES for name in re.findall(r"{(\w+)}", route.path)}
    assert all(name.endswith("_id") for name in names)


def test_what_may_be_written_over_the_api_is_what_the_database_layer_writes():
    for name in ("NewWebhook", "WebhookChange"):
        assert set(COMPONENTS[name]["properties"]) <= WRITABLE


def test_all_that_a_test_request_may_tell_fits_its_schema():
    now, request = (
        datetime.now(UTC),
        RequestBuilder(factories.webhook(), "pgrelay").build(factories.claim(), 0),
    )
    certificate = Certificate("CN=e.com", "CN=CA", ("e.com",), now - timedelta(days=1), now)
    failed = Failure(ErrorKind.TLS, "no TLS")
    for found in (
        Probe(
            seconds={"whole": 0.1}, failure=failed, certificate=certificate, addresses={"10.0.0.1": "private"}
        ),
        Probe(
            address="10.0.0.1",
            tls_version="TLSv1.3",
            certificate=certificate,
            verified=True,
            seconds={"dns": 0.1, "whole": 0.2},
            status=200,
            headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"},
            body=b"\xff",
            answered_at=now,
        ),
    ):
        row = as_row(1, request, found, diagnose(found, request, 1))
        told = json.loads(json.dumps(row, default=datetime.isoformat))
        jsonschema.validate(told, COMPONENTS["Explained"])


def test_columns_are_typed_as_postgres_renders_them():
    columns = [
        {"name": name, "type": kind, "category": category, "nullable": nullable}
        for name, kind, category, nullable in (
            ("id", "bigint", "N", False),
            ("price", "numeric", "N", True),
            ("paid", "boolean", "B", False),
            ("at", "timestamp with time zone", "D", False),
            ("tags", "text[]", "A", False),
            ("note", "jsonb", "U", True),
            ("cost", "money", "N", False),
        )
    ]
    row = {
        "event_type": "order.paid",
        "source": "orders",
        "resource": "order",
        "operations": ["INSERT"],
        "deadline": None,
        "columns": columns,
        "extras": ["customer"],
        "shaped": True,
    }
    described, test = event_types.described([row, {**row, "operations": ["UPDATE"]}])
    assert described["operations"] == ["INSERT", "UPDATE"]
    assert test["event_type"] == "webhook.test"
    order = described["schema"]["properties"]["data"]["properties"]["order"]
    assert order["properties"] == {
        "id": {"type": "integer"},
        "price": {"type": ["number", "null"]},
        "paid": {"type": "boolean"},
        "at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array"},
        "note": {},
        "cost": {"type": "string"},
        "customer": {},
    }
    jsonschema.validate(described["example"], described["schema"])
    (shapeless, _) = event_types.described([{**row, "shaped": False, "extras": []}])
    assert shapeless["schema"]["properties"]["data"]["properties"]["order"]["properties"] == {}
