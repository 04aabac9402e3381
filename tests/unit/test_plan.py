"""What apply would do, for every way in which a file and a database can differ."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.plan import ACTIVE, Installed, Kind, Lock, differences, lock_of, plan
from pgrelay.sources import EventRule, Operation, Payload, Record, Source, Tenant


def source(name="orders", *, table="public.orders", events=("order.placed",), **options):
    rules = tuple(
        event if isinstance(event, EventRule) else EventRule(event, on=(Operation.INSERT,))
        for event in events
    )
    return Source(name, table, Tenant(column="company_id"), rules, **options)


def installed(of, *, owner="main", **faults):
    """As pgrelay.watch() would have left it: the definition made the journey through jsonb."""
    definition = json.loads(json.dumps(of.definition(), sort_keys=True))
    return Installed(of.name, owner, of.table, definition, **faults)


def kinds(changes):
    return {change.name: change.kind for change in changes}


# Which kind of change -------------------------------------------------------------------------------------------


def test_what_is_installed_as_the_file_says_stays_the_same():
    orders = source(payload=Payload(extra={"b": "2", "a": "1"}))
    (change,) = plan("main", [orders], [installed(orders)])
    assert (change.kind, change.reasons, change.active) == (Kind.SAME, (), False)


def test_a_new_source_is_watched_and_its_events_are_named():
    (change,) = plan("main", [source(events=("order.placed", "order.paid"))], [])
    assert (change.kind, change.reasons) == (Kind.WATCH, ("order.placed", "order.paid"))


def test_a_source_that_left_the_file_is_unwatched_by_its_owner_alone():
    there = [
        installed(source("mine")),
        installed(source("theirs"), owner="shop"),
        installed(source("hand"), owner="sql"),
    ]
    assert kinds(plan("main", [], there)) == {"mine": Kind.UNWATCH, "theirs": Kind.LEAVE, "hand": Kind.LEAVE}


def test_the_name_of_another_owners_source_is_a_clash_even_if_it_is_defined_alike():
    (change,) = plan("main", [source()], [installed(source(), owner="shop")])
    assert change.kind is Kind.CLASH
    assert not change.active
    assert change.reasons == ("a source of this name belongs to shop, not to main",)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"table_exists": False}, "table public.orders is gone"),
        (
            {"table_exists": False, "renamed_to": "public.sales"},
            "table public.orders is called public.sales now",
        ),
        ({"triggers_missing": ("zz_pgrelay_orders_insert",)}, "trigger zz_pgrelay_orders_insert is missing"),
        (
            {"triggers_disabled": ("zz_pgrelay_orders_insert",)},
            "trigger zz_pgrelay_orders_insert is disabled",
        ),
        ({"functions_missing": ("body_orders",)}, "function pgrelay.body_orders is missing"),
        ({"functions_stale": ("body_orders",)}, "function pgrelay.body_orders was made by another version"),
        ({"columns_added": ("note", "tax")}, "columns added to the table: note, tax"),
        ({"columns_gone": ("note",)}, "columns gone from the table: note"),
        ({"misfit": "no column x"}, "its rules do not fit the table any more: no column x"),
    ],
)
def test_what_is_not_as_watch_left_it_is_mended(faults, reason):
    (change,) = plan("main", [source()], [installed(source(), **faults)])
    assert (change.kind, change.reasons) == (Kind.MEND, (reason,))
    assert change.definition == source().definition()


def test_a_changed_definition_is_a_change_whatever_else_is_broken():
    broken = installed(source(), triggers_missing=("t",))
    (change,) = plan("main", [source(events=("order.paid",))], [broken])
    assert change.kind is Kind.CHANGE


def test_the_strongest_locks_come_first_and_then_each_table_in_one_order():
    there = [installed(source("gone", table="public.z")), installed(source("kept", table="public.a"))]
    file = [
        source("kept", table="public.a"),
        source("new", table="public.y"),
        source("first", table="public.b"),
    ]
    changes = plan("main", file, there)
    assert [change.name for change in changes] == ["gone", "first", "new", "kept"]


@given(
    file=st.sets(st.sampled_from("abcdef")),
    mine=st.sets(st.sampled_from("abcdef")),
    theirs=st.sets(st.sampled_from("abcdef")),
)
def test_every_source_has_one_change_and_nobody_elses_is_touched(file, mine, theirs):
    there = [installed(source(name)) for name in mine - theirs]
    there += [installed(source(name), owner="shop") for name in theirs]
    changes = plan("main", [source(name) for name in file], there)
    assert sorted(kinds(changes)) == sorted(file | mine | theirs)
    assert len(changes) == len(file | mine | theirs)
    assert not [change for change in changes if change.active and change.name in theirs]
    assert {change.name for change in changes if change.kind is Kind.UNWATCH} == mine - theirs - file
    done = [installed(source(name)) for name in file - theirs] + [
        known for known in there if known.owner == "shop"
    ]
    assert not [
        change for change in plan("main", [source(name) for name in file], done) if change.kind in ACTIVE
    ]


# What the difference is -----------------------------------------------------------------------------------------


def test_differences_name_the_rule_and_the_key():
    before = source(
        events=(
            EventRule("order.placed", on=(Operation.INSERT,)),
            EventRule("order.paid", becomes={"status": ("paid",)}, when="new.total > 0"),
        ),
        payload=Payload(extra={"shop": "'a'", "old": "1"}),
    )
    after = source(
        events=(
            EventRule("order.paid", becomes={"status": ("paid", "settled")}, when="new.total > 1"),
            EventRule("order.lost", on=(Operation.DELETE,)),
        ),
        payload=Payload(extra={"shop": "'b'", "new": "2"}),
        record=Record.ALWAYS,
    )
    assert set(differences(before.definition(), after.definition())) == {
        "payload.extra.shop: 'a' → 'b'",
        "payload.extra.old: removed, was: 1",
        "payload.extra.new: added: 2",
        "record: added: always",
        "order.placed: removed",
        "order.lost: added",
        'order.paid: becomes.status: ["paid"] → ["paid", "settled"]',
        "order.paid: when: new.total > 0 → new.total > 1",
    }


def test_another_order_of_the_same_rules_is_a_difference():
    before, after = (
        source(events=("order.placed", "order.paid")),
        source(events=("order.paid", "order.placed")),
    )
    assert differences(before.definition(), after.definition()) == ("events: in another order",)


def test_a_long_expression_is_cut_and_shown_on_one_line():
    before, after = source(key="a\n" * 90), source(key="id")
    (line,) = differences(before.definition(), after.definition())
    assert "\n" not in line
    assert "…" in line
    assert len(line) < 100


@given(st.dictionaries(st.sampled_from(["name", "table", "key", "tenant"]), st.text(max_size=5)))
def test_a_definition_does_not_differ_from_itself(definition):
    assert differences(definition, dict(reversed(definition.items()))) == ()


# What is locked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "lock"),
    [
        ("create or replace function pgrelay.f() …", Lock.NONE),
        ("revoke execute on function pgrelay.f() from public", Lock.NONE),
        ("drop function if exists pgrelay.f()", Lock.NONE),
        ("create trigger t after insert on public.orders …", Lock.SHARE_ROW_EXCLUSIVE),
        ("create or replace trigger t after insert on public.orders …", Lock.SHARE_ROW_EXCLUSIVE),
        ("alter table public.orders enable trigger t", Lock.SHARE_ROW_EXCLUSIVE),
        ("drop trigger t on public.orders", Lock.ACCESS_EXCLUSIVE),
        ("drop function if exists pgrelay.capture_orders() cascade", Lock.ACCESS_EXCLUSIVE),
    ],
)
def test_each_statement_says_what_it_locks(statement, lock):
    assert lock_of(statement) is lock
