"""Filters of expressions: `{{ data.note|default("none")|truncate(80) }}`. Each takes any value and fails for none.

What a filter will read and write is counted before it is done.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from pgrelay.payloads.budget import Budget
from pgrelay.payloads.text import as_json, in_words

_ELLIPSIS = "…"


class Filter(NamedTuple):
    """`work` takes the budget, the value, and so many arguments at most."""

    work: Callable[..., Any]
    most: int = 0


def _default(_: Budget, value: Any, other: Any = "", empty_too: Any = False) -> Any:
    return other if value is None or (empty_too and not value) else value


def _textual(change: Callable[[str], str]) -> Filter:
    def work(budget: Budget, value: Any) -> str:
        return change(in_words(value, budget))

    return Filter(work)


def _truncate(budget: Budget, value: Any, longest: Any = 80, end: Any = _ELLIPSIS) -> str:
    text, end = in_words(value, budget), in_words(end, budget)
    longest = longest if type(longest) is int and longest >= 0 else 80
    return text if len(text) <= longest else text[: max(0, longest - len(end))] + end[:longest]


def _replace(budget: Budget, value: Any, old: Any = "", new: Any = "") -> str:
    text, old, new = in_words(value, budget), in_words(old, budget), in_words(new, budget)
    if not old:
        return text
    budget.characters(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _join(budget: Budget, value: Any, between: Any = ", ") -> str:
    between, items = in_words(between, budget), value if isinstance(value, list) else [value]
    budget.step(len(items))
    budget.characters(len(items) * len(between))
    return str(between).join(in_words(item, budget) for item in items)


def _items(budget: Budget, value: Any) -> list[list[Any]]:
    if not isinstance(value, dict):
        return []
    budget.step(len(value))
    return [list(pair) for pair in value.items()]


def _end(last: bool) -> Filter:
    def work(_: Budget, value: Any) -> Any:
        return value[-1 if last else 0] if isinstance(value, str | list) and value else None

    return Filter(work)


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


FILTERS: Mapping[str, Filter] = {
    "default": Filter(_default, 2),
    "upper": _textual(str.upper),
    "lower": _textual(str.lower),
    "capitalize": _textual(str.capitalize),
    "trim": _textual(str.strip),
    "string": _textual(str),
    "truncate": Filter(_truncate, 2),
    "replace": Filter(_replace, 2),
    "join": Filter(_join, 1),
    "length": Filter(lambda budget, value: len(value) if isinstance(value, str | list | dict) else 0),
    "first": _end(False),
    "last": _end(True),
    "items": Filter(_items),
    "tojson": Filter(lambda budget, value: as_json(value, budget)),
    "urlencode": _textual(lambda text: quote(text, safe="", errors="replace")),
    "slack": _textual(_slack),
}
