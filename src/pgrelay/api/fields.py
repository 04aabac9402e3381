"""How the schemas of the API are written: fields that come again, records, references, pages. JSON Schema 2020-12.

`x-said` is what a person is told instead of a regular expression.
"""

from typing import Any

Schema = dict[str, Any]

EVENT_PATTERN = r"^(\*|[a-z0-9_]+(\.[a-z0-9_]+)?\.\*|[a-z0-9_]+(\.[a-z0-9_]+){1,2})$"
EVENT_PATTERN_SAID = (
    "it must be an event type (callback.created), or callback.* for all that start so, or * for all"
)

ID: Schema = {"type": "integer", "minimum": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time"}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}


def nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object of exactly these properties, all of them there but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
        **more,
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """One page of a list."""
    return record(
        {
            "items": {"type": "array", "items": ref(name)},
            "next_cursor": {
                "type": ["string", "null"],
                "description": "Pass it as cursor for the next page; null on the last one.",
            },
        }
    )
