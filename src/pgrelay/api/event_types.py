"""What the body of each type of event looks like: a JSON Schema and an example, made of what is known of the table.

Pure. Columns are typed as Postgres's row_to_json() writes them. What an expression makes (extras, rows of the
operator's own) has no type that could be known without running it: there the schema allows anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

_AT = "2026-11-01T08:30:00.123456+00:00"
_INTEGERS = {"smallint", "integer", "bigint"}
#: By name of the type: schema and example.
_NAMED: dict[str, tuple[Schema, Any]] = {
    "timestamp with time zone": ({"type": "string", "format": "date-time"}, _AT),
    "timestamp without time zone": ({"type": "string"}, _AT[:-6]),
    "date": ({"type": "string", "format": "date"}, "2026-11-01"),
    "uuid": ({"type": "string", "format": "uuid"}, "5f0c6a52-7a0e-4b1c-9a57-0f5a3c1e2d4b"),
    "json": ({}, {}),
    "jsonb": ({}, {}),
}
_TEST: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "test": {"const": True},
        "message": {"type": "string"},
        "webhook_name": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
    "required": ["test", "message", "webhook_name", "timestamp"],
}
TEST_EVENT: dict[str, Any] = {
    "event_type": "webhook.test",
    "source": None,
    "operations": [],
    "deadline": None,
    "schema": _TEST,
    "example": {
        "test": True,
        "message": "This is a test event from pgrelay.",
        "webhook_name": "CRM",
        "timestamp": _AT,
    },
}


def described(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Event types as the API shows them, of rows of pgrelay.event_types(); rules for one type of one source are one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = found.get((row["event_type"], row["source"]))
        if known is None:
            found[row["event_type"], row["source"]] = _described(row)
        else:
            known["operations"] = sorted({*known["operations"], *row["operations"]})
    return [*found.values(), TEST_EVENT]


def _described(row: Mapping[str, Any]) -> dict[str, Any]:
    schema, example = _object(row)
    event_type, resource = row["event_type"], row["resource"]
    key = f"{event_type.split('.')[0]}_1_{event_type.rsplit('.', 1)[-1]}_1793521800123000001"
    return {
        "event_type": event_type,
        "source": row["source"],
        "operations": list(row["operations"]),
        "deadline": row["deadline"],
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "event": {"const": event_type},
                "idempotency_key": {"type": "string"},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": {"type": "object", "properties": {resource: schema}, "required": [resource]},
            },
            "required": ["event", "idempotency_key", "timestamp", "data"],
        },
        "example": {
            "event": event_type,
            "idempotency_key": key,
            "timestamp": _AT,
            "data": {resource: example},
        },
    }


def _object(row: Mapping[str, Any]) -> tuple[Schema, dict[str, Any]]:
    """Schema and example of the resource object."""
    properties: dict[str, Schema] = {}
    example: dict[str, Any] = {}
    if row["shaped"]:
        for column in row["columns"]:
            properties[column["name"]], example[column["name"]] = _column(column)
    for name in row["extras"]:
        properties[name], example[name] = {}, None
    return {"type": "object", "properties": properties, "required": list(properties)}, example


def _column(column: Mapping[str, Any]) -> tuple[Schema, Any]:
    schema, example = _typed(column["type"], column["category"])
    if column["nullable"] and "type" in schema:
        schema = {**schema, "type": [schema["type"], "null"]}
    return schema, example


def _typed(name: str, category: str) -> tuple[Schema, Any]:
    if name in _NAMED:
        return _NAMED[name]
    if name in _INTEGERS:
        return {"type": "integer"}, 1
    match category:
        case "N" if name in ("numeric", "real", "double precision"):
            return {"type": "number"}, 1.5
        case "B":
            return {"type": "boolean"}, True
        case "A":
            return {"type": "array"}, []
        case "C":
            return {"type": "object"}, {}
    return {"type": "string"}, "text"
