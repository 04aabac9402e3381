"""What a row holds is what is sent, whatever its types are and whatever the writer's session is set to."""

import json
from typing import Any

import pytest

from support.watched import MADE, Shop

TYPES = """
create type shop.mood as enum ('sad', 'so so');
create type shop.address as (street text, number int, extra json);
create domain shop.percent as numeric(5, 2) check (value between 0 and 100);
"""

#: Type, what is written, and the JSON text that must come out of it, character for character.
RENDERED = [
    ("numeric", "1.500", "1.500"),
    ("numeric(30,10)", "12345678901234567890.1234567890", "12345678901234567890.1234567890"),
    ("numeric", "NaN", '"NaN"'),
    ("float8", "Infinity", '"Infinity"'),
    ("float8", "0.1", "0.1"),
    ("float4", "0.1", "0.1"),
    ("float8", "1e300", "1e+300"),
    ("bigint", "9223372036854775807", "9223372036854775807"),
    ("bigint", "9007199254740993", "9007199254740993"),
    ("boolean", "yes", "true"),
    (
        "json",
        '{"b": 1,  "a":[1,null], "b":2, "z":"\\u0000"}',
        '{"b": 1,  "a":[1,null], "b":2, "z":"\\u0000"}',
    ),
    ("jsonb", '{"b": 1.500, "a": null}', '{"a": null, "b": 1.500}'),
    ("shop.mood", "so so", '"so so"'),
    ("int[]", "{1,NULL,3}", "[1,null,3]"),
    ("text[]", '{"a,b","c\\"d",NULL,"NULL"}', '["a,b","c\\"d",null,"NULL"]'),
    ("int[][]", "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
    ("json[]", '{"{\\"a\\": 1}"}', '[{"a": 1}]'),
    (
        "shop.address",
        '("Main St, ""3""",7,"{""x"": 1}")',
        '{"street":"Main St, \\"3\\"","number":7,"extra":{"x": 1}}',
    ),
    ("shop.percent", "7.5", "7.50"),
    ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"'),
    ("bytea", "\\x00ff10", '"\\\\x00ff10"'),
    ("timestamptz", "2026-07-01 12:00:00.5+02", '"2026-07-01T10:00:00.5+00:00"'),
    ("timestamp", "2026-07-01 12:00", '"2026-07-01T12:00:00"'),
    ("timestamptz", "infinity", '"infinity"'),
    ("date", "2026-07-01", '"2026-07-01"'),
    ("time", "12:00", '"12:00:00"'),
    ("interval", "1 day 02:03", '"1 day 02:03:00"'),
    ("tstzrange", "[2026-07-01 12:00+02,)", '"[\\"2026-07-01 10:00:00+00\\",)"'),
    ("daterange", "[2026-07-01,2026-07-03)", '"[2026-07-01,2026-07-03)"'),
    ("inet", "10.0.0.1/8", '"10.0.0.1/8"'),
    ("char(5)", "ab", '"ab   "'),
    ("text", 'a"b\\c\n\t\u2028 </x> \U0001f600 \x7f', '"a\\"b\\\\c\\n\\t\u2028 </x> \U0001f600 \x7f"'),
    ("text", "", '""'),
    ("text", None, "null"),
    ("point", "(1,2.5)", '"(1,2.5)"'),
    ("bit(3)", "101", '"101"'),
    ("tsvector", "a b", "\"'a' 'b'\""),
]

STRANGE = """
set timezone = 'Asia/Kathmandu'; set datestyle = 'German, DMY'; set intervalstyle = 'iso_8601';
set extra_float_digits = -10; set bytea_output = 'escape'; set lc_monetary = 'C'; set xmloption = document;
set default_transaction_isolation = 'repeatable read';
"""


@pytest.mark.parametrize("session", ["", STRANGE], ids=["plain", "strange"])
def test_every_type_is_rendered_as_it_is_stored_in_any_session(shop: Shop, session: str) -> None:
    shop.run(TYPES)
    shop.table(
        "orders", "id int primary key" + "".join(f", c{n} {kind}" for n, (kind, _, _) in enumerate(RENDERED))
    )
    shop.watch("orders")
    if session:
        shop.run(session)
    places = ", ".join(["%s"] * len(RENDERED))
    shop.run(f"insert into orders values (1, {places})", *(value for _, value, _ in RENDERED))
    (event,) = shop.events()
    expected = "".join(f',"c{n}":{text}' for n, (_, _, text) in enumerate(RENDERED))
    assert event.text.endswith('"data":{"orders":{"id":1' + expected + "}}}")
    assert json.loads(event.text, strict=True)


def test_listed_columns_and_extras_are_rendered_alike_in_any_session(shop: Shop) -> None:
    shop.orders(at="timestamptz", span="interval", part="float8", raw="bytea")
    payload = {"exclude": ["status"], "extra": {"again": "new.at", "text": "new.span::text || new.at::text"}}
    shop.watch("orders", {**MADE, "payload": payload})
    shop.run(STRANGE)
    shop.run(
        "insert into orders (id, at, span, part, raw) values (1, '2026-07-01 12:00Z', 'P1DT2H', 0.1::float4, 'a')"
    )
    (event,) = shop.events()
    assert event.text.endswith(
        '{"orders":{"id":1,"company_id":"1","total":null,"at":"2026-07-01T12:00:00+00:00","span":"1 day 02:00:00",'
        '"part":0.10000000149011612,"raw":"\\\\x61","again":"2026-07-01T12:00:00+00:00","text":"1'
        ' day 02:00:002026-07-01 12:00:00+00"}}}'
    )


def test_money_is_rendered_in_the_locale_in_which_the_table_was_watched(shop: Shop) -> None:
    shop.table("orders", "id int primary key, price money")
    shop.run("set lc_monetary = 'C'")
    shop.watch("orders")
    (settings,) = shop.run("select proconfig from pg_proc where proname = 'body_orders'")[0]
    assert "lc_monetary=C" in settings
    assert shop.made("insert into orders values (1, 12.5)").resource["price"] == "$12.50"


def test_a_stored_generated_column_is_sent_with_its_value(shop: Shop) -> None:
    shop.orders(gross="numeric generated always as (total * 1.19) stored")
    shop.watch("orders", MADE, {"event": "order.big", "changes": ["gross"]})
    shop.run("insert into orders (id, total) values (1, 100)")
    assert [event.resource["gross"] for event in shop.taken()] == [119.0, 119.0]


def test_a_virtual_generated_column_is_sent_with_its_value(shop: Shop) -> None:
    if shop.db.info.server_version < 180000:
        pytest.skip("VIRTUAL generated columns came with PostgreSQL 18")
    shop.run("create function shop.vat(numeric) returns numeric immutable language sql as 'select $1 * 1.19'")
    shop.orders(gross="numeric generated always as (total * 1.19) virtual", **{"\"100% 'net'\"": "int"})
    shop.watch(
        "orders", MADE, {"event": "order.gone", "on": "delete", "payload": {"include": ["gross", "id"]}}
    )
    assert shop.made("insert into orders (id, total) values (1, 100)").resource == {
        "id": 1, "company_id": "1", "status": None, "total": 100, "gross": 119.0, "100% 'net'": None
    }  # fmt: skip
    assert list(shop.made("delete from orders").resource.items()) == [("id", 1), ("gross", 119.0)]
    for rule in (
        {"event": "order.big", "changes": ["gross"]},
        {"event": "order.big", "on": "update", "when": 'new."gross" > 3'},
        {**MADE, "payload": {"extra": {"x": "1 + new.gross"}}},
    ):
        with shop.refused("PGR10") as said:
            shop.watch("orders", rule)
        assert "VIRTUAL" in str(said[0].message_primary)


@pytest.mark.parametrize(
    ("kind", "first", "second", "same"),
    [
        ("json", '{"a": 1}', '{"a": 2}', None),
        ("json[]", '{"{\\"a\\": 1}"}', '{"{\\"a\\": 2}"}', None),
        ("point", "(1,2)", "(1,3)", None),
        ("box", "(1,4),(0,0)", "(2,2),(0,0)", None),
        ("shop.address", "(a,1,{})", "(a,2,{})", None),
        ("shop.address", "(a,1,{})", "(a,,{})", None),
        ("shop.mood", "sad", "so so", None),
        ("jsonb", '{"a": 1}', '{"a": 2}', '{"a":   2}'),
        ("numeric", "1.0", "2", "2.00"),
        ("text[]", "{a}", "{a,b}", '{"a","b"}'),
        ("int4range", "[1,3)", "[1,4)", "[1,3]"),
        ("shop.percent", "1", "2", "2.0"),
        ("varchar(9)", "a", "b", None),
    ],
)
def test_a_change_of_any_type_is_noticed_and_an_equal_value_is_none(
    shop: Shop, kind: str, first: str, second: str, same: str | None
) -> None:
    shop.run(TYPES)
    shop.orders(value=kind)
    shop.watch(
        "orders",
        {"event": "order.changed", "changes": "value"},
        {"event": "order.emptied", "becomes": {"value": None}},
    )
    assert shop.fired("insert into orders (id, value) values (1, %s)", first) == ["order.changed"]
    assert shop.fired("update orders set value = %s", second) == ["order.changed"]
    assert shop.fired("update orders set value = %s, total = 1", same or second) == []
    assert shop.fired("update orders set value = null") == ["order.changed", "order.emptied"]
    assert shop.fired("insert into orders (id) values (2)") == ["order.emptied"]
    assert shop.errors() == []


@pytest.mark.parametrize(
    ("kind", "wanted", "written"),
    [
        ("boolean", True, "t"),
        ("int", 3, "3"),
        ("shop.mood", "so so", "so so"),
        ("text", "it's \\ %s {}", "it's \\ %s {}"),
        ("text", ["a", "b"], "b"),
        ("numeric", 1.5, "1.50"),
        ("jsonb", {"a": 1}, '{"a":1}'),
        ("text", [None, "x"], None),
    ],
)
def test_becoming_a_value_of_any_type_is_noticed(
    shop: Shop, kind: str, wanted: Any, written: str | None
) -> None:
    shop.run(TYPES)
    shop.orders(value=kind)
    shop.watch("orders", {"event": "order.there", "becomes": {"value": wanted}})
    assert shop.fired("insert into orders (id, value) values (1, %s)", written) == ["order.there"]
    assert shop.fired("update orders set total = 1") == []


def test_a_type_of_an_extension_is_compared_as_text(shop: Shop) -> None:
    if not shop.value("select exists (select from pg_available_extensions where name = 'hstore')"):
        pytest.skip("this server has no contrib modules")
    shop.run("create extension hstore schema shop")
    shop.orders(value="hstore")
    shop.watch("orders", {"event": "order.changed", "changes": ["value"]})
    assert shop.fired("insert into orders (id, value) values (1, 'a=>1')") == ["order.changed"]
    assert shop.fired("update orders set value = 'a=>1', total = 2") == []
    assert shop.fired("update orders set value = 'a=>2'") == ["order.changed"]


def test_a_row_too_big_to_be_sent_fails_no_statement(shop: Shop) -> None:
    shop.orders(blob="text")
    shop.watch(
        "orders", {**MADE, "payload": {"include": ["id"], "extra": {"blob": "repeat(new.blob, 3000000)"}}}
    )
    shop.run("insert into orders (id, blob) values (1, repeat('x', 400))")
    (error,) = shop.errors()
    assert (error.sqlstate, json.loads(error.new_row or "")["id"]) == ("54000", 1)
