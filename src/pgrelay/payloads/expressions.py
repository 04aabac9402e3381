"""Expressions within a template's strings: Jinja's syntax, read by Jinja's parser, evaluated here.

Jinja itself would compile them to Python, with attributes of Python objects within reach and no limit to what they do:
its sandbox is a list of what is forbidden. Here is a list of what there is. The parser's tree is walked, values are
JSON's and nothing else, a dot is a key of an object, and there is no way to call anything but the filters. No
arithmetic, no `range`, no macros, no includes, no assignments. Every part evaluated counts against the budget.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes

from pgrelay.payloads.budget import Budget
from pgrelay.payloads.event import Exact, Unrenderable
from pgrelay.payloads.filters import FILTERS
from pgrelay.payloads.text import in_words

Names = Mapping[str, Any]

#: Never renders anything: it has the syntax. Nothing of its globals, filters and tests is reachable from here.
_SYNTAX = Environment(keep_trailing_newline=True, autoescape=False)
_MARKS = ("{{", "{%", "{#")
_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "defined": lambda value: value is not None,
    "undefined": lambda value: value is None,
    "none": lambda value: value is None,
}
#: Values of `loop` within a for.
_LOOP = ("index", "index0", "first", "last", "length")
#: Loops within loops, and parentheses within parentheses.
_DEEPEST = 30
_LARGEST = 10**18 - 1


class Expression:
    """A string of a template that holds expressions."""

    __slots__ = ("_alone", "_parts")

    def __init__(self, parts: list[nodes.Node], alone: nodes.Node | None) -> None:
        self._parts = parts
        self._alone = alone

    def of(self, names: Names, budget: Budget) -> Any:
        """Its value for an event: of any type if the string is one expression, else text."""
        if self._alone is not None:
            return _value(self._alone, names, budget)
        written: list[str] = []
        _write(self._parts, names, budget, written)
        return "".join(written)


def has_expressions(text: str) -> bool:
    """Whether a string is more than itself."""
    return any(mark in text for mark in _MARKS)


def compiled(text: str) -> Expression | str:
    """What the text says; the text itself if it holds no expression. Raises Unrenderable."""
    if not has_expressions(text):
        return text
    try:
        parts = _SYNTAX.parse(text).body
    except TemplateSyntaxError as error:
        raise Unrenderable(str(error.message)) from None
    except (ValueError, OverflowError) as error:  # a number of thousands of digits
        raise Unrenderable(str(error)) from None
    for part in parts:
        _check(part, 0)
    alone = None
    if len(parts) == 1 and isinstance(parts[0], nodes.Output) and len(parts[0].nodes) == 1:
        alone = parts[0].nodes[0]
    return Expression(parts, None if isinstance(alone, nodes.TemplateData) else alone)


def _check(node: nodes.Node, depth: int) -> None:
    """Refuse what is not evaluated here, when the template is saved and not when it is used."""
    if (
        type(node) not in _VALUES
        and type(node) not in _WRITTEN
        and not isinstance(node, nodes.TemplateData | nodes.Operand | nodes.Slice)
    ):
        raise Unrenderable(f"{_spoken(node)} is not understood here")
    if depth > _DEEPEST:
        raise Unrenderable("it is nested too deeply")
    match node:
        case nodes.Filter(name=name) if (
            name not in FILTERS or node.kwargs or node.dyn_args or node.dyn_kwargs
        ):
            known = ", ".join(FILTERS)
            raise Unrenderable(f"filter {name!r} is not understood with these arguments; there are: {known}")
        case nodes.Filter(args=args, node=of) if of is None or len(args) > FILTERS[node.name].most:
            raise Unrenderable(f"filter {node.name!r} takes at most {FILTERS[node.name].most} arguments")
        case nodes.Test(name=name) if name not in _TESTS or node.args:
            raise Unrenderable(f"test {name!r} is none of: {', '.join(_TESTS)}")
        case nodes.For(target=target) if node.recursive or not _names_of(target):
            raise Unrenderable("a loop is {% for name in list %} or {% for key, value in object|items %}")
        case nodes.Const(value=int(value)) if abs(value) > _LARGEST:
            raise Unrenderable("a number has at most 18 digits")
        case nodes.Const(value=value) if not isinstance(value, str | int | float | bool | None):
            raise Unrenderable("a constant is a text, a number, true, false or none")
        case nodes.Slice(start=start, stop=stop, step=step) if step is not None or not (
            _is_place(start) and _is_place(stop)
        ):
            raise Unrenderable("a part of a text is [:10] or [2:10]")
    for child in node.iter_child_nodes(exclude=("target",)):
        _check(child, depth + 1)


def _is_place(end: nodes.Node | None) -> bool:
    return end is None or (isinstance(end, nodes.Const) and type(end.value) is int)


def _spoken(node: nodes.Node) -> str:
    return {"Call": "a call", "Assign": "{% set %}", "Mul": "*", "Add": "+", "Sub": "-", "Div": "/"}.get(
        type(node).__name__, type(node).__name__
    )


def _names_of(target: nodes.Node) -> list[str]:
    """Names that a loop gives to what it passes: one, or two for the pairs of an object."""
    given = target.items if isinstance(target, nodes.Tuple) else [target]
    return [name.name for name in given if isinstance(name, nodes.Name)] if len(given) <= 2 else []


# Text -------------------------------------------------------------------------------------------------------


def _write(parts: list[nodes.Node], names: Names, budget: Budget, written: list[str]) -> None:
    for part in parts:
        budget.step()
        _WRITTEN[type(part)](part, names, budget, written)


def _write_output(node: Any, names: Names, budget: Budget, written: list[str]) -> None:
    for part in node.nodes:
        if isinstance(part, nodes.TemplateData):
            budget.characters(len(part.data))
            written.append(part.data)
        else:
            written.append(in_words(_value(part, names, budget), budget))


def _write_if(node: Any, names: Names, budget: Budget, written: list[str]) -> None:
    for branch in (node, *node.elif_):
        if _true(_value(branch.test, names, budget)):
            return _write(branch.body, names, budget, written)
    return _write(node.else_, names, budget, written)


def _write_for(node: Any, names: Names, budget: Budget, written: list[str]) -> None:
    found = _value(node.iter, names, budget)
    items = list(found) if isinstance(found, list | dict) else []
    targets = _names_of(node.target)
    if node.test is not None:
        items = [item for item in items if _true(_value(node.test, _bound(names, targets, item), budget))]
    budget.step(len(items))
    if not items:
        return _write(node.else_, names, budget, written)
    for index, item in enumerate(items):
        loop = dict(
            zip(_LOOP, (index + 1, index, index == 0, index == len(items) - 1, len(items)), strict=True)
        )
        _write(node.body, {**_bound(names, targets, item), "loop": loop}, budget, written)
    return None


def _bound(names: Names, targets: list[str], item: Any) -> Names:
    if len(targets) == 1:
        return {**names, targets[0]: item}
    pair = item if isinstance(item, list) else []
    return {**names, **dict(zip(targets, [*pair, None, None], strict=False))}


# Values -----------------------------------------------------------------------------------------------------


def _value(node: nodes.Node, names: Names, budget: Budget) -> Any:
    budget.step()
    return _VALUES[type(node)](node, names, budget)


def _true(value: Any) -> bool:
    return bool(value)


def _item(node: Any, names: Names, budget: Budget) -> Any:
    of = _value(node.node, names, budget)
    if isinstance(node, nodes.Getattr):
        return _at(of, node.attr)
    if isinstance(node.arg, nodes.Slice):
        if not isinstance(of, str | list):
            return None
        start, stop = (getattr(end, "value", None) for end in (node.arg.start, node.arg.stop))
        cut = of[start:stop]
        budget.characters(len(cut))
        return cut
    return _at(of, _value(node.arg, names, budget))


def _at(of: Any, key: Any) -> Any:
    """A member of an object, or an item of a list; null if there is none."""
    if isinstance(of, dict):
        return of.get(key) if isinstance(key, str) else None
    if isinstance(of, list):
        if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10:
            key = int(key)
        if type(key) is int and -len(of) <= key < len(of):
            return of[key]
    return None


def _filtered(node: Any, names: Names, budget: Budget) -> Any:
    of = _value(node.node, names, budget)
    return FILTERS[node.name].work(budget, of, *(_value(given, names, budget) for given in node.args))


def _joined(node: Any, names: Names, budget: Budget) -> str:
    return "".join(in_words(_value(part, names, budget), budget) for part in node.nodes)


def _listed(node: Any, names: Names, budget: Budget) -> list[Any]:
    return [_value(item, names, budget) for item in node.items]


def _negative(node: Any, names: Names, budget: Budget) -> Any:
    value = _value(node.node, names, budget)
    return -value if type(value) is int else Exact(repr(-value)) if isinstance(value, float) else None


def _chosen(node: Any, names: Names, budget: Budget) -> Any:
    if _true(_value(node.test, names, budget)):
        return _value(node.expr1, names, budget)
    return None if node.expr2 is None else _value(node.expr2, names, budget)


def _compared(node: Any, names: Names, budget: Budget) -> bool:
    left = _value(node.expr, names, budget)
    for operand in node.ops:
        budget.step()
        right = _value(operand.expr, names, budget)
        if not _COMPARISONS[operand.op](left, right, budget):
            return False
        left = right
    return True


def _equal(left: Any, right: Any, budget: Budget) -> bool:
    """Of two single values; what has parts is equal to nothing."""
    if isinstance(left, str) and isinstance(right, str):
        budget.characters(min(len(left), len(right)))
        return left == right
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    return isinstance(left, int | float) and isinstance(right, int | float) and left == right


def _less(left: Any, right: Any, budget: Budget) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        budget.characters(min(len(left), len(right)))
        return left < right
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers and not isinstance(left, bool) and not isinstance(right, bool) and left < right


def _within(left: Any, right: Any, budget: Budget) -> bool:
    if isinstance(right, str):
        budget.characters(len(right))
        return isinstance(left, str) and left in right
    if isinstance(right, dict):
        return isinstance(left, str) and left in right
    if isinstance(right, list):
        budget.step(len(right))
        return any(_equal(left, item, budget) for item in right)
    return False


_COMPARISONS: Mapping[str, Callable[[Any, Any, Budget], bool]] = {
    "eq": _equal,
    "ne": lambda left, right, budget: not _equal(left, right, budget),
    "lt": _less,
    "gt": lambda left, right, budget: _less(right, left, budget),
    "lteq": lambda left, right, budget: _less(left, right, budget) or _equal(left, right, budget),
    "gteq": lambda left, right, budget: _less(right, left, budget) or _equal(left, right, budget),
    "in": _within,
    "notin": lambda left, right, budget: not _within(left, right, budget),
}


def _constant(node: Any, _names: Names, _budget: Budget) -> Any:
    return Exact(json.dumps(node.value)) if isinstance(node.value, float) else node.value


_VALUES: Mapping[type[nodes.Node], Callable[[Any, Names, Budget], Any]] = {
    nodes.Name: lambda node, names, budget: names.get(node.name),
    nodes.Const: _constant,
    nodes.Getattr: _item,
    nodes.Getitem: _item,
    nodes.Filter: _filtered,
    nodes.Test: lambda node, names, budget: _TESTS[node.name](_value(node.node, names, budget)),
    nodes.Concat: _joined,
    nodes.List: _listed,
    nodes.Tuple: _listed,
    nodes.Neg: _negative,
    nodes.CondExpr: _chosen,
    nodes.Compare: _compared,
    nodes.Not: lambda node, names, budget: not _true(_value(node.node, names, budget)),
    nodes.And: lambda node, names, budget: (
        left if not _true(left := _value(node.left, names, budget)) else _value(node.right, names, budget)
    ),
    nodes.Or: lambda node, names, budget: (
        left if _true(left := _value(node.left, names, budget)) else _value(node.right, names, budget)
    ),
}
_WRITTEN: Mapping[type[nodes.Node], Callable[[Any, Names, Budget, list[str]], None]] = {
    nodes.Output: _write_output,
    nodes.If: _write_if,
    nodes.For: _write_for,
}
