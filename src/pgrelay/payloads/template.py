"""payload_template: a JSON document, in whose strings expressions stand.

`{"text": "New: {{ data.callback_request.customer_name }}", "id": "{{ data.callback_request.id }}"}`

The document is parsed first and the strings are filled in afterwards, so the result is JSON whatever the event holds:
data can neither end a string nor add a key. A string that is one expression and nothing else becomes its value, a
number or a whole object too; in any other, values are written as text. Keys are taken as they stand.

Besides what the body has (event, idempotency_key, timestamp, data) there are resource_id, source, company_id,
webhook.id and webhook.name. What is not there is null.
"""

import json
from typing import Any

from pgrelay.delivery import Claim
from pgrelay.payloads.budget import LONGEST, Budget
from pgrelay.payloads.event import About, Unrenderable, parsed, read_json, readable
from pgrelay.payloads.expressions import Expression, compiled, has_expressions
from pgrelay.payloads.text import as_json

#: Characters of a template; the table of webhooks has the same limit.
LONGEST_TEMPLATE = 16_384
#: Characters of its strings that hold expressions: parsing them takes 10 ms.
_LONGEST_EXPRESSIONS = 4_096


class Template:
    """One template, parsed. Raises Unrenderable if it cannot be."""

    def __init__(self, text: str, about: About) -> None:
        if len(text) > LONGEST_TEMPLATE:
            raise Unrenderable(f"payload_template is longer than {LONGEST_TEMPLATE:,} characters")
        try:
            document = read_json(text)
            if not isinstance(document, dict | list):
                raise Unrenderable("payload_template must be a JSON object or array")
            _refuse_too_much(document)
            self._document = _compiled(document)
        except RecursionError:
            raise Unrenderable("payload_template is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise Unrenderable(
                f"payload_template is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
            ) from None
        except ValueError as error:
            raise Unrenderable(f"payload_template is not JSON: {error}") from None
        self._about = about

    def render(self, claim: Claim) -> bytes:
        """What is sent of this event. Raises Unrenderable."""
        body = parsed(claim)
        names = {
            **(body if isinstance(body, dict) else {}),
            "event": claim.event_type,
            "idempotency_key": claim.idempotency_key,
            "resource_id": readable(claim.resource_id),
            "source": readable(claim.source),
            "company_id": self._about.company_id,
            "webhook": {"id": self._about.webhook_id, "name": self._about.webhook_name},
        }
        budget = Budget()
        try:
            made = as_json(_filled(self._document, names, budget), budget).encode("ascii")
        except RecursionError:
            raise Unrenderable("the event's body is nested too deeply for payload_template") from None
        if len(made) > LONGEST:
            raise Unrenderable(
                f"payload_template makes {len(made):,} bytes of this event; {LONGEST:,} are allowed"
            )
        return made


def _refuse_too_much(document: Any) -> None:
    expressions = 0
    left = [document]
    while left:
        value = left.pop()
        if isinstance(value, str):
            expressions += len(value) if has_expressions(value) else 0
        elif isinstance(value, dict | list):
            left += value.values() if isinstance(value, dict) else value
    if expressions > _LONGEST_EXPRESSIONS:
        raise Unrenderable(
            f"payload_template has {expressions:,} characters in strings with expressions;"
            f" {_LONGEST_EXPRESSIONS:,} are allowed"
        )


def _compiled(value: Any, place: str = "") -> Any:
    """The document, its strings that hold expressions compiled."""
    if isinstance(value, str):
        try:
            return compiled(value)
        except Unrenderable as error:
            raise Unrenderable(f"payload_template: at {place}: {error.message}") from None
    if isinstance(value, dict):
        return {name: _compiled(item, f"{place}/{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_compiled(item, f"{place}/{number}") for number, item in enumerate(value)]
    return value


def _filled(value: Any, names: dict[str, Any], budget: Budget) -> Any:
    if isinstance(value, Expression):
        return value.of(names, budget)
    if isinstance(value, dict):
        return {name: _filled(item, names, budget) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names, budget) for item in value]
    return value
