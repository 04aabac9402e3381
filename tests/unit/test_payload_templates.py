"""Templates: what they can say, that data cannot break out of them, and that no template or event makes them run away."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.payloads import About, Unrenderable, payload, problem
from pgrelay.payloads import budget as limits
from pgrelay.payloads.budget import Budget
from support.factories import claim

ABOUT = About(7, "CRM", "42")
DATA = {
    "callback_request": {
        "id": 12,
        "name": "Zoë",
        "note": None,
        "tags": ["a", "b"],
        "items": [{"n": 1}, {"n": 2}],
    },
    "flag": True,
    "empty": [],
}


def render(template: Any, data: Any = DATA, raw: str | None = None) -> Any:
    """What is sent, read again."""
    return json.loads(sent(template, data, raw))


def sent(template: Any, data: Any = DATA, raw: str | None = None) -> bytes:
    text = template if isinstance(template, str) and template[:1] in "{[" else json.dumps(template)
    found = payload(ABOUT, "template", text)
    assert found is not None
    body = f'{{"event":"order.paid","idempotency_key":"k","timestamp":"2026-11-27T00:21:11+00:00","data":{raw or json.dumps(data)}}}'
    return found.render(
        claim(
            body=body.encode(),
            source=b"orders",
            resource_id=b"12",
            event_type="order.paid",
            idempotency_key="k",
        )
    )


def said(expression: str, data: Any = DATA, raw: str | None = None) -> Any:
    """The value of one string of a template."""
    return render([expression], data, raw)[0]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("no expression", "no expression"),
        ("{{ data.callback_request.id }}", 12),
        ("id {{ data.callback_request.id }}", "id 12"),
        ("{{ data.callback_request }}", DATA["callback_request"]),
        ("x{{ data.callback_request.tags }}", 'x["a","b"]'),
        ("{{ data.flag }}", True),
        ("{{ data.flag }}!", "true!"),
        ("{{ data.callback_request.note }}", None),
        ("<{{ data.callback_request.note }}>", "<>"),
        ("{{ nobody.has.this[3]['x'] }}", None),
        ("{{ data.callback_request.items[1].n }}", 2),
        ("{{ data['callback_request']['name'] }}", "Zoë"),
        ("{{ data.callback_request.tags[-1] }}", "b"),
        ("{{ data.callback_request.tags[9] }}", None),
        ("{{ timestamp[:10] }}", "2026-11-27"),
        ("{{ event }} {{ idempotency_key }} {{ source }} {{ resource_id }}", "order.paid k orders 12"),
        ("{{ company_id }} {{ webhook.id }} {{ webhook.name }}", "42 7 CRM"),
        ("{{ data.callback_request.note|default('none') }}", "none"),
        ("{{ data.empty|default('none', true) }}", "none"),
        ("{{ data.callback_request.name|upper|lower|capitalize }}", "Zoë"),
        ("{{ 'abcdef'|truncate(4) }}", "abc…"),
        ("{{ 'abcdef'|truncate(0, 'xyz') }}", ""),
        ("{{ 'a-b-c'|replace('-', '+') }}", "a+b+c"),
        ("{{ 'abc'|replace('', 'x') }}", "abc"),
        ("{{ data.callback_request.tags|join(' & ') }}", "a & b"),
        ("{{ data.callback_request.tags|length }}", 2),
        ("{{ data.callback_request.tags|first }}{{ data.callback_request.tags|last }}", "ab"),
        ("{{ data.callback_request.id|string }}", "12"),
        ("{{ ' x '|trim }}", "x"),
        ("{{ 'a b/ü'|urlencode }}", "a%20b%2F%C3%BC"),
        ("{{ '<!channel>'|slack }}", "&lt;!channel&gt;"),
        ("{{ data.callback_request.items|tojson }}", '[{"n":1},{"n":2}]'),
        ("{{ 'yes' if data.flag else 'no' }}", "yes"),
        ("{{ 'yes' if data.nothing }}", None),
        ("{{ data.callback_request.id > 11 and data.callback_request.id <= 12.5 }}", True),
        ("{{ not (1 == '1') }}", True),
        ("{{ 'a' < 'b' < 'c' }}", True),
        ("{{ event in ['order.paid', 'order.sent'] }}", True),
        ("{{ 'z' not in data.callback_request.name|lower }}", False),
        ("{{ 'id' in data.callback_request }}", True),
        ("{{ data.nothing is defined }}", False),
        ("{{ data.callback_request.note is none }}", True),
        ("{{ -1 }}", -1),
        ("{{ 'a' ~ 1 ~ none }}", "a1"),
        ("{{ data.nothing or 'other' }}", "other"),
        ("{% if data.flag %}a{% elif true %}b{% else %}c{% endif %}", "a"),
        ("{% if data.empty %}a{% elif data.nothing %}b{% else %}c{% endif %}", "c"),
        ("{% for tag in data.callback_request.tags %}{{ loop.index }}{{ tag }}{% if not loop.last %},{% endif %}{% endfor %}", "1a,2b"),
        ("{% for i in data.callback_request.items if i.n > 1 %}{{ i.n }}{% endfor %}", "2"),
        ("{% for key, value in data.callback_request|items if key == 'id' %}{{ key }}={{ value }}{% endfor %}", "id=12"),
        ("{% for x in data.empty %}a{% else %}nothing{% endfor %}", "nothing"),
        ("{% raw %}{{ as it is }}{% endraw %}{# said to nobody #}", "{{ as it is }}"),
        ("line\n", "line\n"),
    ],
)  # fmt: skip
def test_an_expression_says_what_it_says_in_jinja(expression: str, value: Any):
    assert said(expression) == value


def test_numbers_keep_the_digits_that_postgres_wrote():
    raw = '{"a":0.10,"b":12345678901234567890123.45000,"c":123456789012345678901234567890,"d":1e400,"e":-0.0}'
    assert sent(["{{ data }}"], raw=raw).decode() == f"[{raw}]"
    assert said("{{ data.a }} {{ data.c }}", raw=raw) == "0.10 123456789012345678901234567890"
    assert said("{{ data.a == 0.1 and data.c > 5 and data.a < data.b }}", raw=raw) is True


@given(st.text(), st.text())
def test_data_can_neither_end_a_string_nor_add_a_key(value: str, key: str):
    template = {"text": "{{ data.v }} and {{ data.v|upper }}", "kept": "{{ data.v }}", "data": "{{ data }}"}
    data = {"v": value, key: {"text": 1}}
    made = render(template, data)
    assert list(made) == ["text", "kept", "data"]
    assert made["kept"] == data["v"]
    if isinstance(data["v"], str):
        assert made["text"] == f"{value} and {value.upper()}"
    assert made["data"] == data


@given(st.text(alphabet="{}%#'\" a.|()[]<>=~1-", max_size=40))
def test_any_text_is_a_template_or_is_refused_and_nothing_else_happens(text: str):
    wrong = problem("template", json.dumps([text]))
    if wrong is None:
        try:
            first = sent([text])
        except Unrenderable:
            return
        assert sent([text]) == first
        json.loads(first)
    else:
        assert wrong.startswith("payload_template")


@pytest.mark.parametrize(
    "expression",
    [
        "{{ range(10**9) }}", "{{ 'a' * 10000000000 }}", "{{ 2 ** 99999999 }}", "{{ 1 + 1 }}", "{{ 1 // 1 }}", "{{ x.y() }}",
        "{{ ''.join(x) }}", "{{ x|attr('y') }}", "{{ x|format('%s') }}", "{{ x|map('upper') }}", "{% set x = 1 %}",
        "{% macro a() %}{% endmacro %}", "{% call a() %}{% endcall %}", "{% include 'x' %}", "{% import 'x' as y %}",
        "{% extends 'x' %}", "{% block a %}{% endblock %}", "{% filter upper %}{% endfilter %}", "{% with %}{% endwith %}",
        "{% autoescape true %}{% endautoescape %}", "{% for a in b recursive %}{% endfor %}", "{% for a.b in c %}{% endfor %}",
        "{% for a, b, c in d %}{% endfor %}", "{{ x[::2] }}", "{{ x[a:] }}", "{{ {'a': 1} }}", "{{ x|truncate(1, 2, 3) }}",
        "{{ x|truncate(length=1) }}", "{{ x|truncate(*y) }}", "{{ x is string }}", "{{ x is divisibleby 2 }}", "{{", "{% if %}",
        "{{ a b }}", "{{ 1" + "0" * 4000 + "5 }}", "{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "not " * 200 + "1 }}",
        "{{ a" + ".b" * 400 + " }}", "{{ a" + "|upper" * 100 + " }}", "{% if a %}" * 100 + "{% endif %}" * 100,
        "{{ a }}" * 1000,
    ],
)  # fmt: skip
def test_what_could_run_away_or_reach_out_is_refused_when_it_is_saved(expression: str):
    assert problem("template", json.dumps({"x": expression})) is not None


@pytest.mark.parametrize(
    "expression",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__ }}", "{{ data.__class__ }}", "{{ data.items }}", "{{ data.keys }}",
        "{{ self.__init__ }}", "{{ self }}", "{{ cycler }}", "{{ lipsum }}", "{{ namespace }}", "{{ config }}", "{{ request }}",
        "{{ loop }}", "{{ caller }}", "{{ data['__class__'] }}", "{{ event['__len__'] }}", "{{ webhook.secret_key }}",
    ],
)  # fmt: skip
def test_nothing_of_python_or_of_the_daemon_is_within_reach(expression: str):
    assert said(expression, {"a": 1}) is None


def test_a_wrong_template_says_where_it_is_wrong():
    assert (
        problem("template", '{"a": [1, {"b": "{{ x() }}"}]}')
        == "payload_template: at /a/1/b: a call is not understood here"
    )
    assert (
        problem("template", '{"a": ') == "payload_template is not JSON: Expecting value in line 1, column 7"
    )
    assert problem("template", '"text"') == "payload_template must be a JSON object or array"
    assert problem("template", "[" * 100_000) == "payload_template is longer than 16,384 characters"
    assert problem("template", "[" * 10_000) == "payload_template is nested too deeply"
    assert problem("template", None) == "it is needed where payload_format is template"
    assert problem("slack", None) is None


class Counted(Budget):
    """What a rendering spent, for all that are made while it is patched in."""

    steps = 0
    read = 0

    def step(self, count: int = 1) -> None:
        Counted.steps += count
        super().step(count)

    def characters(self, count: int) -> None:
        Counted.read += count
        super().characters(count)


ITEMS = {"l": list(range(50_000)), "d": {str(number): number for number in range(2_000)}, "s": "x" * 400_000}


@pytest.mark.parametrize(
    "expression",
    [
        "{% for a in data.l %}{% for b in data.l %}{% for c in data.l %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        "{% for k, v in data.d|items %}{% for k, v in data.d|items %}{% endfor %}{% endfor %}",
        "{% for k, v in data.d|items %}{{ data.s }}{% endfor %}",
        "{% for k, v in data.d|items %}{{ data.s|length }}{{ data.s|upper|truncate(3) }}{% endfor %}",
        "{% for k, v in data.d|items %}{{ data.s == data.s }}{% endfor %}",
        "{% for k, v in data.d|items %}{{ k in data.s }}{% endfor %}",
        "{{ data.s|replace('x', data.s) }}",
        "{{ data.l|join(data.s) }}",
        "{{ data.s ~ data.s ~ data.s }}",
        "{{ data|tojson|tojson|tojson|tojson }}",
        "{{ data }}",
        "{{ 7 in data.l and 8 in data.l }}",
    ],
)
def test_a_hostile_template_ends_within_its_budget_and_says_so(
    expression: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pgrelay.payloads.template.Budget", Counted)
    Counted.steps = Counted.read = 0
    with pytest.raises(Unrenderable, match=r"payload_template (does more|reads and writes more)"):
        said(expression, ITEMS)
    # what broke the budget was counted before it was done
    assert min(Counted.steps / limits.STEPS, Counted.read / limits.CHARACTERS) <= 1


def test_what_is_made_has_a_limit_of_its_own():
    with pytest.raises(Unrenderable, match="262,144 are allowed"):
        sent({"a": "{{ data.s }}", "b": "x"}, {"s": "x" * limits.LONGEST})
