"""Names and keys that a careless generator would trip over."""

import re
from collections.abc import Iterator

import pytest

from support.watched import MADE, Shop

#: Words of the generated functions, SQL words, and characters with a meaning in formats, quotes and JSON.
COLUMNS = [
    "new", "old", "rule", "operation", "idempotency_key", "occurred_at", "pgrelay_object", "pgrelay_op", "pgrelay_at",
    "pgrelay_r", "pgrelay_o", "pgrelay_body", "error", "tg_op", "select", "Order", "with space", "100%", "%s", "%1$s",
    "it's", 'say "hi"', "back\\slash", "a.b", "$pgrelay$", "$_pgrelay$", "$$", "tränen", "日本", "{}", "--", "/*", ";",
    "sqlstate", "sqlerrm", "row",
]  # fmt: skip


TABLE = {"table": '"Shöp.100%"."Or.der\'s"'}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def strange(shop: Shop) -> Shop:
    """A table, a schema and columns with strange names."""
    columns = ", ".join(f"{quoted(name)} text" for name in COLUMNS)
    shop.db.execute(
        f'create schema "Shöp.100%"; create table {TABLE["table"]} (id int primary key, {columns})'.encode()
    )
    return shop


@pytest.fixture(autouse=True)
def cleared(shop: Shop) -> Iterator[None]:
    yield
    shop.run('drop schema if exists "Shöp.100%" cascade')


def insert(shop: Shop, number: int) -> None:
    """A row in which each column holds its own name."""
    columns = ", ".join(map(quoted, COLUMNS))
    values = ", ".join("'" + name.replace("'", "''") + "'" for name in COLUMNS)
    shop.db.execute(f"insert into {TABLE['table']} (id, {columns}) values ({number}, {values})".encode())


def test_the_whole_row_has_all_names_as_they_are(strange: Shop) -> None:
    strange.watch("", **TABLE)
    insert(strange, 1)
    (event,) = strange.events()
    assert event.resource == {"id": 1} | {name: name for name in COLUMNS}


def test_listed_columns_deletes_and_extras_have_all_names_as_they_are(strange: Shop) -> None:
    rules = [
        {"event": "order.made", "on": ["insert", "update", "delete"], "payload": {"exclude": ["id"]}},
        {"event": "order.part", "on": "insert", "payload": {"include": COLUMNS[:25]}},
        {
            "event": "order.extra",
            "on": "insert",
            "payload": {"include": ["id"], "extra": {n: f"new.{quoted(n)}" for n in COLUMNS}},
        },
        {"event": "order.gone", "on": "delete", "payload": {"extra": {"new": "old.old"}}},
    ]
    strange.watch("", *rules, **TABLE)
    insert(strange, 1)
    assert strange.errors() == []
    made, part, extra = strange.taken()
    assert made.resource == {name: name for name in COLUMNS}
    assert part.resource == {name: name for name in COLUMNS[:25]}
    assert extra.resource == {"id": 1} | {name: name for name in COLUMNS}
    strange.run(f"delete from {TABLE['table']}")
    made, gone = strange.taken()
    assert made.resource == {name: name for name in COLUMNS}
    assert gone.resource == {"id": 1} | {name: name for name in COLUMNS} | {"new": "old"}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_name_can_be_asked_for_and_identify(strange: Shop, name: str) -> None:
    rules = [
        {"event": "order.changed", "changes": [name]},
        {
            "event": "order.named",
            "becomes": {name: name},
            "when": f"new.{quoted(name)} is not null -- and so on",
        },
    ]
    strange.watch("", *rules, **TABLE, key=name, tenant=name)
    insert(strange, 1)
    changed, named = strange.taken()
    assert (changed.resource_id, changed.company_id, named.resource_id) == (name, name, name)
    assert strange.errors() == []


def test_a_joined_tables_columns_are_not_taken_for_variables(strange: Shop) -> None:
    strange.table(
        "joined", "id int primary key, " + ", ".join(f"{quoted(name)} text" for name in COLUMNS[:14])
    )
    strange.run(
        "insert into shop.joined (id, new, old, rule, operation, idempotency_key, tg_op, pgrelay_op)"
        " values (1, 'N', 'O', 'R', 'P', 'I', 'T', 'G')"
    )
    names = ("new", "old", "rule", "operation", "idempotency_key", "tg_op", "pgrelay_op")
    held = dict(zip(names, "NORPITG", strict=True))
    extra = {f"x_{name}": f"(select {name} from shop.joined j where j.id = new.id)" for name in held}
    when = "exists (select from shop.joined where operation = 'P' and tg_op = 'T' and joined.id = new.id)"
    strange.watch("", {**MADE, "when": when, "payload": {"include": ["id"], "extra": extra}}, **TABLE)
    insert(strange, 1)
    (event,) = strange.events()
    assert event.resource == {"id": 1} | {f"x_{name}": value for name, value in held.items()}


def test_errors_deadlines_and_recapture_take_strange_names_too(strange: Shop) -> None:
    strange.run(f'alter table {TABLE["table"]} add "d%u e" timestamptz')
    rule = {"event": "order.due", "at": "d%u e", "when": '1 / (length(new."100%") - 4) <> 0'}
    strange.watch("", rule, {**MADE, "when": rule["when"]}, **TABLE, key="it's")
    insert(strange, 1)
    strange.run(f'update {TABLE["table"]} set "d%u e" = now()')
    assert strange.fire() == []
    assert {error.sqlstate for error in strange.errors()} == {"22012"}
    strange.watch("", {"event": "order.due", "at": "d%u e"}, MADE, **TABLE, key="it's")
    strange.run("select pgrelay.recapture()")
    strange.run("select pgrelay.fire_deadlines()")
    assert sorted(event.type for event in strange.events()) == ["order.due", "order.made", "order.made"]


@pytest.mark.parametrize(
    ("kind", "key", "in_key"),
    [
        ("text", "a.b/c d", "a_b_c_d"),
        ("text", "Zoë😀%_-", "Zo____-"),
        ("text", "", ""),
        ("text", "x" * 500, "x" * 120),
        ("text", 'it\'s "quoted" \\ {}', "it_s__quoted______"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("numeric", "1.50", "1_50"),
        ("varchar(10)", "a:b", "a_b"),
    ],
)
def test_any_key_makes_an_idempotency_key_without_dots_and_stays_itself(
    shop: Shop, kind: str, key: str, in_key: str
) -> None:
    shop.table("orders", f"id {kind} primary key, due timestamptz")
    shop.watch("orders", MADE, {"event": "order.due", "at": "due"}, prefix="order")
    event = shop.made("insert into orders values (%s, now())", key)
    assert event.resource_id == key
    assert re.fullmatch("[A-Za-z0-9_-]+", event.key)
    assert re.fullmatch(f"order_{re.escape(in_key)}_made_[0-9]+", event.key)
    assert event.body["idempotency_key"] == event.key
    assert shop.made("select pgrelay.fire_deadlines()").resource_id == key


def test_a_row_without_a_key_is_an_event_without_one(shop: Shop) -> None:
    shop.table("orders", "id int, number int")
    shop.watch("orders", key="number")
    event = shop.made("insert into orders values (1, null)")
    assert event.resource_id is None
    assert re.fullmatch("orders__made_[0-9]+", event.key)


def test_an_event_type_of_three_words_ends_the_key_with_its_last(shop: Shop) -> None:
    shop.orders()
    shop.watch("orders", {"event": "shop.order.made", "on": "insert"}, prefix="o", resource="thing")
    event = shop.made("insert into orders (id) values (7)")
    assert re.fullmatch("o_7_made_[0-9]+", event.key)
    assert list(event.body["data"]) == ["thing"]
