"""Sources as the file writes them: what they mean, and the place of every mistake."""

import textwrap

import pytest

from pgrelay.config import load
from pgrelay.errors import ConfigError
from pgrelay.sources import EventRule, Operation, Payload, Record, Source, Tenant

HEAD = """\
sources:
  - name: orders
    table: public.orders
    tenant: company_id
"""
EVENTS = """\
    events:
      - event: order.created
        on: insert
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "pgrelay.yaml"
        path.write_text(text)
        return load(path, environ={}, credentials=None).sources

    return read


@pytest.fixture
def findings(read, tmp_path):
    """The findings about a text, without the name of the file before them."""

    def findings(text):
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [line.removeprefix(f"{tmp_path / 'pgrelay.yaml'}:") for line in str(caught.value).splitlines()]

    return findings


def rule_at_six(text):
    lines = textwrap.dedent(text).strip("\n").splitlines()
    return HEAD + "    events:\n      - " + "\n        ".join(lines) + "\n"


def test_the_shortest_source(read):
    assert read(HEAD + EVENTS) == (
        Source(
            name="orders",
            table="public.orders",
            tenant=Tenant(column="company_id"),
            events=(EventRule(event="order.created", on=(Operation.INSERT,)),),
        ),
    )


def test_every_key_of_a_source_is_taken(read):
    text = """\
sources:
  - name: orders
    table: sales."Orders"
    key: number
    tenant: {sql: new.a || new.b}
    resource: order
    prefix: ord
    timezone: Europe/Berlin
    record: always
    payload:
      row: (select r from (select new.id) r)
      exclude: [notes, internal]
      extra: {total: "new.net + new.tax"}
    events:
      - event: order.paid
        on: [insert, update]
        when: new.total > 0
        becomes: {status: [paid, settled], archived: no}
        changes: paid_at
        record: subscribed
        payload: {include: id}
      - event: shop.order.overdue
        at: due_at
        when: |
          new.status = 'open'
"""
    assert read(text) == (
        Source(
            name="orders",
            table='sales."Orders"',
            key="number",
            tenant=Tenant(sql="new.a || new.b"),
            resource="order",
            prefix="ord",
            timezone="Europe/Berlin",
            record=Record.ALWAYS,
            payload=Payload(
                row="(select r from (select new.id) r)",
                exclude=("notes", "internal"),
                extra={"total": "new.net + new.tax"},
            ),
            events=(
                EventRule(
                    event="order.paid",
                    on=(Operation.INSERT, Operation.UPDATE),
                    when="new.total > 0",
                    becomes={"status": ("paid", "settled"), "archived": ("no",)},
                    changes=("paid_at",),
                    record=Record.SUBSCRIBED,
                    payload=Payload(include=("id",)),
                ),
                EventRule(event="shop.order.overdue", at="due_at", when="new.status = 'open'"),
            ),
        ),
    )


def test_a_rule_with_becomes_or_changes_looks_at_inserts_and_updates_by_itself(read):
    for condition in ("becomes: {status: paid}", "changes: [status]"):
        (source,) = read(rule_at_six(f"event: order.paid\n{condition}"))
        assert source.events[0].on == (Operation.INSERT, Operation.UPDATE)


def test_values_of_becomes_are_text_as_written_or_null(read):
    (source,) = read(rule_at_six("event: a.b\nbecomes: {x: [yes, 007, '', ' a ', 'null', null, ~], y: null}"))
    assert source.events[0].becomes == {"x": ("yes", "007", "", " a ", "null", None), "y": (None,)}


def test_on_is_a_word_here_and_not_true(read):
    (source,) = read(rule_at_six("event: on.off\non: delete"))
    assert (source.events[0].event, source.events[0].on) == ("on.off", (Operation.DELETE,))


def test_the_same_payload_serves_two_sources_through_an_anchor(read):
    text = HEAD + "    payload: &payload {exclude: [notes]}\n" + EVENTS
    text += HEAD.split("\n", 1)[1].replace("orders", "offers") + "    payload: *payload\n" + EVENTS
    assert [source.payload.exclude for source in read(text)] == [("notes",), ("notes",)]


SQL_TABLES = [
    "public.orders",
    "Sales.Orders",
    'sales."Order Lines"',
    '"my ""schema"".x"."a.b"',
    "füße.größe",
    "a.b$1",
]


@pytest.mark.parametrize("table", SQL_TABLES)
def test_tables_are_spelled_as_in_sql(read, table):
    (source,) = read(HEAD.replace("public.orders", f"'{table}'") + EVENTS)
    assert source.table == table


NO_TABLES = ["a.b.c", "public.", ".orders", "public.1st", 'public."orders', "public. orders", "my table"]


@pytest.mark.parametrize("table", NO_TABLES)
def test_what_is_no_table_with_its_schema_is_refused(findings, table):
    assert findings(HEAD.replace("public.orders", f"'{table}'") + EVENTS) == [
        f"3:12: sources[0].table: '{table}' is not a table with its schema: "
        'write it as in SQL, like public.orders or app."Orders"'
    ]


SOURCE_MISTAKES = {
    "sources that are a mapping": (
        "sources:\n  orders: {}\n",
        ["2:3: sources: is a mapping, and should be a list"],
    ),
    "source that is a word": (
        "sources:\n  - orders\n",
        ["2:5: sources[0]: is a single value, and should be a mapping"],
    ),
    "unknown key": (
        HEAD + "    tennant: x\n" + EVENTS,
        ["5:5: sources[0].tennant: unknown key, did you mean 'tenant'?"],
    ),
    "missing keys": (
        "sources:\n  - resource: order\n",
        [
            "2:5: sources[0].name: is missing: what this source is called",
            "2:5: sources[0].table: is missing: the table to watch, with its schema",
            "2:5: sources[0].tenant: is missing: "
            "a column, {sql: an expression}, or {value: a name} for tables without tenants",
            "2:5: sources[0].events: is missing: which changes are which events",
        ],
    ),
    "name twice": (
        HEAD + EVENTS + HEAD.split("\n", 1)[1] + EVENTS,
        ["8:11: sources[1].name: 'orders' is the name of another source, on line 2"],
    ),
    "name with capitals": (
        HEAD.replace("name: orders", "name: Orders") + EVENTS,
        [
            "2:11: sources[0].name: 'Orders' does not do: "
            "use up to 40 lower case letters, digits and underscores, a letter first"
        ],
    ),
    "prefix with a hyphen": (
        HEAD + "    prefix: my-order\n" + EVENTS,
        [
            "5:13: sources[0].prefix: 'my-order' does not do: "
            "use up to 40 lower case letters, digits and underscores, a letter first"
        ],
    ),
    "table without its schema": (
        HEAD.replace("public.orders", "orders") + EVENTS,
        ["3:12: sources[0].table: 'orders' has no schema; write it like public.orders"],
    ),
    "empty tenant": (
        HEAD.replace(" company_id", "") + EVENTS,
        ["4:5: sources[0].tenant: has no value; give it one, or remove the line"],
    ),
    "tenant that is both": (
        HEAD.replace("company_id", "{sql: new.a, value: b}") + EVENTS,
        ["4:13: sources[0].tenant: needs one of sql and value"],
    ),
    "tenant that is neither": (
        HEAD.replace("company_id", "{column: a}") + EVENTS,
        [
            "4:13: sources[0].tenant: needs one of sql and value",
            "4:14: sources[0].tenant.column: unknown key; known here: sql, value",
        ],
    ),
    "tenant that is a list": (
        HEAD.replace("company_id", "[a]") + EVENTS,
        ["4:13: sources[0].tenant: is a list, and should be a single value"],
    ),
    "quoted column": (
        HEAD + "    key: '\"Id\"'\n" + EVENTS,
        ["5:10: sources[0].key: '\"Id\"' has quotes in it; write the name as \\d shows it, without them"],
    ),
    "column with a long name": (
        HEAD + f"    key: {'ü' * 32}\n" + EVENTS,
        [f"5:10: sources[0].key: '{'ü' * 32}' is longer than 63 bytes, and no column's name is"],
    ),
    "record": (
        HEAD + "    record: allways\n" + EVENTS,
        ["5:13: sources[0].record: 'allways' is not one of subscribed, always, did you mean 'always'?"],
    ),
    "time zone": (
        HEAD + "    timezone: Berlin, Germany\n" + EVENTS,
        [
            "5:15: sources[0].timezone: 'Berlin, Germany' is not the name of a time zone: "
            "write it like Europe/Berlin"
        ],
    ),
    "include beside exclude": (
        HEAD + "    payload:\n      include: [a]\n      exclude: [b]\n" + EVENTS,
        ["7:16: sources[0].payload.exclude: cannot stand beside include: what is not included is excluded"],
    ),
    "column twice": (
        HEAD + "    payload: {include: [a, b, a]}\n" + EVENTS,
        ["5:31: sources[0].payload.include: 'a' stands here twice"],
    ),
    "include of nothing": (
        HEAD + "    payload: {include: []}\n" + EVENTS,
        ["5:24: sources[0].payload.include: is an empty list; name something, or remove the line"],
    ),
    "extra that is a list": (
        HEAD + "    payload: {extra: [a]}\n" + EVENTS,
        ["5:22: sources[0].payload.extra: is a list, and should be a mapping"],
    ),
    "extra without an expression": (
        HEAD + "    payload:\n      extra:\n        total:\n        sum: ''\n" + EVENTS,
        [
            "7:9: sources[0].payload.extra.total: has no value; give it one, or remove the line",
            "8:14: sources[0].payload.extra.sum: is empty",
        ],
    ),
    "extra without a name": (
        HEAD + "    payload: {extra: {'': new.a}}\n" + EVENTS,
        ["5:23: sources[0].payload.extra: a name is empty"],
    ),
    "expression with a semicolon": (
        HEAD + "    payload: {row: 'select 1;'}\n" + EVENTS,
        ["5:20: sources[0].payload.row: 'select 1;' ends in a semicolon; an expression has none"],
    ),
    "no events": (
        HEAD + "    events: []\n",
        ["5:13: sources[0].events: is empty: a source without events watches nothing"],
    ),
    "events that are a mapping": (
        HEAD + "    events: {event: a.b}\n",
        ["5:13: sources[0].events: is a mapping, and should be a list"],
    ),
}


@pytest.mark.parametrize(("text", "expected"), SOURCE_MISTAKES.values(), ids=SOURCE_MISTAKES)
def test_a_mistake_in_a_source_is_told_with_its_place_and_key(findings, text, expected):
    assert findings(text) == expected


#: The rule begins on line 6, column 9.
RULE_MISTAKES = {
    "unknown key": (
        "event: order.paid\nwehn: new.paid\non: update",
        "7:9: wehn: unknown key, did you mean 'when'?",
    ),
    "no event": ("on: insert", "6:9: event: is missing: the type of the event"),
    "event of one word": (
        "event: paid\non: insert",
        "6:16: event: 'paid' is not an event type: "
        "write two or three lower case words with dots, like order.paid",
    ),
    "event of four words": (
        "event: a.b.c.d\non: insert",
        "6:16: event: 'a.b.c.d' is not an event type: "
        "write two or three lower case words with dots, like order.paid",
    ),
    "event in capitals": (
        "event: Order.Paid\non: insert",
        "6:16: event: 'Order.Paid' is not an event type: "
        "write two or three lower case words with dots, like order.paid",
    ),
    "never": (
        "event: order.paid",
        "6:9: on: is missing: say when it happens with on, becomes, changes or at",
    ),
    "only a condition": (
        "event: order.paid\nwhen: new.paid",
        "6:9: on: is missing: say when it happens with on, becomes, changes or at",
    ),
    "unknown operation": (
        "event: order.paid\non: [insert, updated]",
        "7:22: on: 'updated' is not one of insert, update, delete, did you mean 'update'?",
    ),
    "operation twice": (
        "event: order.paid\non: [insert, insert]",
        "7:22: on: 'insert' stands here twice",
    ),
    "at beside on": (
        "event: order.overdue\nat: due_at\non: insert",
        "8:13: on: cannot stand beside at: a deadline passes without a write",
    ),
    "at beside becomes": (
        "event: order.overdue\nbecomes: {status: open}\nat: due_at",
        "7:18: becomes: cannot stand beside at: a deadline passes without a write",
    ),
    "at beside changes": (
        "event: order.overdue\nat: due_at\nchanges: [status]",
        "8:18: changes: cannot stand beside at: a deadline passes without a write",
    ),
    "becomes of a deleted row": (
        "event: order.gone\non: delete\nbecomes: {status: gone}",
        "7:13: on: a delete leaves no row of which becomes could be true; use when, over old",
    ),
    "changes of a deleted row": (
        "event: order.gone\non: [update, delete]\nchanges: [status]",
        "7:13: on: a delete leaves no row of which changes could be true; use when, over old",
    ),
    "becomes without a value": (
        "event: order.paid\nbecomes: {status: }",
        "7:19: becomes.status: has no value; write null if that is meant",
    ),
    "becomes of nothing": (
        "event: order.paid\nbecomes: {}",
        "7:18: becomes: is empty: give a column and a value",
    ),
    "becomes of no values": (
        "event: order.paid\nbecomes: {status: []}",
        "7:27: becomes.status: is an empty list: name a value",
    ),
    "becomes of a mapping": (
        "event: order.paid\nbecomes: {status: {is: paid}}",
        "7:27: becomes.status: is a mapping, and should be a single value",
    ),
    "becomes of a word": (
        "event: order.paid\nbecomes: paid",
        "7:18: becomes: is a single value, and should be a mapping",
    ),
    "becomes of a quoted column": (
        "event: order.paid\nbecomes: {'\"Status\"': paid}",
        '7:19: becomes."Status": has quotes in it; write the name as \\d shows it, without them',
    ),
    "payload of a rule": (
        "event: order.paid\non: update\npayload: {exlude: [a]}",
        "8:19: payload.exlude: unknown key, did you mean 'exclude'?",
    ),
}


@pytest.mark.parametrize(("text", "expected"), RULE_MISTAKES.values(), ids=RULE_MISTAKES)
def test_a_mistake_in_a_rule_is_told_with_its_place_and_key(findings, text, expected):
    place, rest = expected.split(" ", 1)
    assert findings(rule_at_six(text)) == [f"{place} sources[0].events[0].{rest}"]


def test_an_event_belongs_to_one_rule_of_a_source(findings):
    text = HEAD + EVENTS + "      - event: order.created\n        at: due_at\n"
    assert findings(text) == [
        "8:16: sources[0].events[1].event: 'order.created' is the event of another rule "
        "(join their conditions with or), on line 6"
    ]


def test_two_sources_may_make_the_same_event(read):
    text = HEAD + EVENTS + HEAD.split("\n", 1)[1].replace("name: orders", "name: imports") + EVENTS
    assert [source.events[0].event for source in read(text)] == ["order.created", "order.created"]
