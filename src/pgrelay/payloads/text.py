"""JSON values as text: within a sentence, and as the JSON that is sent. Counted against the budget as it is written."""

from json.encoder import encode_basestring_ascii as json_string
from typing import Any

from pgrelay.payloads.budget import Budget
from pgrelay.payloads.event import Exact

#: What a value costs beside its characters.
_EACH = 40


def in_words(value: Any, budget: Budget) -> str:
    """As it stands in a text: nothing for null, JSON for what has parts."""
    if isinstance(value, str):
        budget.characters(len(value))
        return value
    return "" if value is None else as_json(value, budget)


def as_json(value: Any, budget: Budget) -> str:
    """The JSON text of a value, in ASCII."""
    pieces: list[str] = []
    _write(value, budget, pieces.append)
    return "".join(pieces)


def _write(value: Any, budget: Budget, put: Any) -> None:
    if isinstance(value, str):
        budget.characters(len(value) + _EACH)
        put(json_string(value))
        return
    budget.characters(_EACH)
    if isinstance(value, dict):
        put("{")
        between = ""
        for name, item in value.items():
            budget.characters(len(name))
            put(f"{between}{json_string(name)}:")
            _write(item, budget, put)
            between = ","
        put("}")
    elif isinstance(value, list):
        put("[")
        for number, item in enumerate(value):
            if number:
                put(",")
            _write(item, budget, put)
        put("]")
    else:
        put(_single(value))


def _single(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.text if isinstance(value, Exact) else repr(value)
