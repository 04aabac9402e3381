"""An application whose tables pgrelay watches: make a table, watch it, write, and see what was captured.

shop.table("orders", "id int primary key, status text")
shop.watch("orders", {"event": "order.paid", "becomes": {"status": "paid"}})
assert shop.fired("insert into orders values (1, 'paid')") == ["order.paid"]
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

from support.database import Database

#: What a rule of these tests makes of a write that is looked at in full: every insert and update.
MADE: Mapping[str, Any] = {"event": "order.made", "on": ["insert", "update"]}

#: Everything of one test goes, the generated functions and what was written included; sequences run on.
CLEAR = """
do $$
declare
    v_function regprocedure;
begin
    for v_function in select oid from pg_proc where pronamespace = 'pgrelay'::regnamespace
                      and proname ~ '^(capture|body|recapture|fire)_' and prosrc ~ '^\\s*-- Generated' loop
        execute format('drop function %s cascade', v_function);
    end loop;
end $$;
drop schema if exists shop cascade;
delete from pgrelay.sources;
delete from pgrelay.webhook_configurations;
delete from pgrelay.deadlines;
delete from pgrelay.deadline_fires;
delete from pgrelay.capture_errors;
delete from pgrelay.outbox;
select setval('pgrelay.wake', 1);
create schema shop;
grant usage on schema shop to public;
"""


class Event(NamedTuple):
    """One row of the outbox, in the order in which events were captured."""

    id: int
    type: str
    resource_id: str | None
    company_id: str
    key: str
    occurred_at: str
    text: str

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    @property
    def resource(self) -> Any:
        """The one object under data."""
        (found,) = self.body["data"].values()
        return found


class CaptureError(NamedTuple):
    id: int
    event_type: str
    operation: str
    resource_id: str | None
    sqlstate: str
    message: str
    old_row: str | None
    new_row: str | None
    recaptured: bool


class Shop:
    """The application, its superuser's connection (autocommit, search_path shop), and what was made of its writes."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.db = self.connect()

    def connect(self, **settings: Any) -> psycopg.Connection:
        """One more of the same."""
        return self.database.connect(
            options="-c search_path=shop,public -c client_min_messages=warning", **settings
        )

    def run(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Its rows; several statements at once are allowed without parameters."""
        cursor = self.db.execute(query.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *parameters: Any) -> Any:
        return self.run(query, *parameters)[0][0]

    def table(self, name: str, columns: str, rest: str = "") -> None:
        self.run(f"create table shop.{name} ({columns}) {rest}")

    def orders(self, **columns: str) -> None:
        """The table that most tests watch."""
        more = "".join(f", {name} {definition}" for name, definition in columns.items())
        self.table(
            "orders", f"id int primary key, company_id text default '1', status text, total numeric{more}"
        )

    def watch(self, table: str, /, *rules: Mapping[str, Any], **keys: Any) -> int:
        """Watch shop.<table>; every event is kept for a tenant "1" unless the keys say otherwise."""
        given = {
            "name": "orders",
            "table": f"shop.{table}",
            "tenant": {"value": "1"},
            "record": "always",
            "events": list(rules or [MADE]),
            **keys,
        }
        return int(self.value("select pgrelay.watch(%s)", json.dumps(given)))

    def subscribe(self, *patterns: str, company_id: str = "1") -> int:
        return int(
            self.value(
                "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
                " values (%s, 'w', 'https://example.com/', %s) returning id",
                company_id,
                list(patterns or ("*",)),
            )
        )

    def events(self) -> list[Event]:
        """All that is in the outbox."""
        return [
            Event._make(row)
            for row in self.run(
                "select id, event_type, resource_id, company_id, idempotency_key, to_json(occurred_at)::text, body"
                " from pgrelay.outbox order by id"
            )
        ]

    def taken(self) -> list[Event]:
        """All that is in the outbox, which is empty then."""
        found = self.events()
        self.run("delete from pgrelay.outbox")
        return found

    def fired(self, query: str, *parameters: Any) -> list[str]:
        """The types of the events that a statement made."""
        self.taken()
        self.run(query, *parameters)
        return [event.type for event in self.taken()]

    def made(self, query: str, *parameters: Any) -> Event:
        """The one event that a statement made."""
        self.taken()
        self.run(query, *parameters)
        assert not self.errors(), self.errors()
        (event,) = self.taken()
        return event

    def fire(self) -> list[str]:
        """The types of the events of the deadlines that are due."""
        return self.fired("select pgrelay.fire_deadlines()")

    def armed(self) -> int:
        return int(self.value("select count(*) from pgrelay.deadlines"))

    def errors(self) -> list[CaptureError]:
        return [
            CaptureError._make(row)
            for row in self.run(
                "select id, event_type, operation, resource_id, sqlstate, message, old_row, new_row,"
                " recaptured_at is not null from pgrelay.capture_errors order by id"
            )
        ]

    @contextmanager
    def refused(self, sqlstate: str) -> Iterator[list[psycopg.errors.Diagnostic]]:
        """What is done inside is refused with this SQLSTATE; the list has the message and its hint then."""
        said: list[psycopg.errors.Diagnostic] = []
        try:
            yield said
        except psycopg.Error as error:
            assert error.sqlstate == sqlstate, error
            said.append(error.diag)
            return
        raise AssertionError(f"nothing was refused with {sqlstate}")

    def clear(self) -> None:
        self.db.close()
        with self.database.connect(options="-c client_min_messages=warning") as connection:
            connection.execute(CLEAR.encode())
