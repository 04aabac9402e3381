"""Requests held against their schemas: JSON bodies and query parameters, all faults at once, each with its place.

The schemas are JSON Schema 2020-12, the dialect of OpenAPI 3.1: what is checked here is what the document says.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NoReturn

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from pgrelay.api.problems import Fault, Problem, invalid

Schema = Mapping[str, Any]

#: What no text column can hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_FORMATS = FormatChecker(formats=())
_BIGGEST = 2**63 - 1


def moment(text: str) -> datetime:
    """An RFC 3339 moment, in UTC. ValueError when it is none."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None or "T" not in text.upper():
        raise ValueError("no offset")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


@_FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or bool(moment(value))


def validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=_FORMATS)


def parsed(body: bytes) -> Any:
    """JSON as strict as RFC 8259 would have it: no NaN, no name twice. Raises Problem (400)."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "malformed-json",
            f"the body is not JSON: {error or 'it is nested too deeply'}",
        ) from None


def checked(schema: Draft202012Validator, value: Any) -> Any:
    """A body that its schema allows; whole numbers are integers however they were written. Raises Problem (422)."""
    faults = [
        Fault(_said(error), pointer=place)
        for error in schema.iter_errors(value)
        for place in _pointers(error)
    ]
    faults += [
        Fault("it contains a character that cannot be stored", pointer=place) for place in _unstorable(value)
    ]
    if faults:
        raise invalid(list(dict.fromkeys(faults)))
    return _whole(value)


def query(properties: Mapping[str, Schema], given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Query parameters as their schemas mean them: integers, booleans, moments. Raises Problem (422)."""
    names = [name for name, _ in given]
    faults = [
        Fault(
            f"there is no such parameter; there are {', '.join(sorted(properties)) or 'none'}", parameter=name
        )
        for name in dict.fromkeys(names)
        if name not in properties
    ]
    faults += [Fault("it is given twice", parameter=name) for name in properties if names.count(name) > 1]
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in properties:
            continue
        value = _read(properties[name], text)
        errors = [_said(error) for error in validator(properties[name]).iter_errors(value)]
        if _UNSTORABLE.search(text):
            errors.append("it contains a character that cannot be stored")
        if errors:
            faults.append(Fault("; ".join(errors), parameter=name))
        elif properties[name].get("format") == "date-time":
            found[name] = moment(text)
        else:
            found[name] = value
    if faults:
        raise invalid(faults)
    return found


def number(text: str) -> int | None:
    """An id in a path; None for what cannot be one."""
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text, re.ASCII) or int(text) > _BIGGEST:
        return None
    return int(text)


def _read(schema: Schema, text: str) -> Any:
    """A parameter's text as the type that its schema wants; as it is if it cannot be read so."""
    if schema["type"] == "integer" and re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        return int(text)
    if schema["type"] == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _pointers(error: ValidationError) -> list[str]:
    """JSON pointers (RFC 6901) to what is wrong; a name that is missing, or too much, is what is wrong itself."""
    schema: Any = error.schema
    wanted: Any = error.validator_value
    names = set(error.instance) if isinstance(error.instance, dict) else set()
    place = "".join(f"/{_step(step)}" for step in error.absolute_path)
    match error.validator:
        case "required":
            return [f"{place}/{_step(name)}" for name in wanted if name not in names]
        case "additionalProperties":
            return [f"{place}/{_step(name)}" for name in sorted(names - set(schema.get("properties", {})))]
    return [place]


def _step(name: object) -> str:
    return _UNSTORABLE.sub("", str(name)).replace("~", "~0").replace("/", "~1")


#: JSON's types in words.
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}


def _said(error: ValidationError) -> str:
    """The fault in words. Values are not repeated, they may be secrets."""
    schema: Any = error.schema
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            return f"it must be {' or '.join(_TYPES[str(kind)] for kind in kinds)}"
        case "required":
            return "it is missing"
        case "additionalProperties":
            return "there is no such field"
        case "enum":
            return f"it must be one of {', '.join(map(str, wanted))}"
        case "format":
            return "it must be a moment with an offset, such as 2026-11-01T08:30:00Z"
        case "pattern" | "propertyNames":
            return str(schema.get("x-said", f"it must match {wanted}"))
        case "minimum":
            return f"it must be at least {wanted}"
        case "maximum":
            return f"it must be at most {wanted}"
        case "minLength" | "minItems" | "minProperties":
            return "it must not be empty" if wanted == 1 else f"it must be longer than {wanted - 1}"
        case "maxLength" | "maxItems" | "maxProperties":
            return f"it must not be longer than {wanted}"
        case "uniqueItems":
            return "something is in it twice"
    return f"it breaks the rule {error.validator}"


def _unstorable(value: Any, place: str = "") -> Iterator[str]:
    """Places of texts that cannot be stored."""
    if isinstance(value, str):
        if _UNSTORABLE.search(value):
            yield place
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unstorable(item, f"{place}/{index}")
    elif isinstance(value, dict):
        for name, item in value.items():
            if _UNSTORABLE.search(name):
                yield place
            yield from _unstorable(item, f"{place}/{_UNSTORABLE.sub('', name)}")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value
