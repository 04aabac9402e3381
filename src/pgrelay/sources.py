"""What is watched: sources, their event rules, what is sent.

Nouns only, the same for configuration, planner and SQL; nothing here reads a file or judges a value.
`Source.definition()` is the one form in which a source travels: the mapping that pgrelay.watch() takes as
jsonb, and by which two sources are compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Record(StrEnum):
    """Which events are written to the outbox."""

    #: Those that somebody subscribes to.
    SUBSCRIBED = "subscribed"
    #: All, so that they can be replayed to a webhook made later.
    ALWAYS = "always"


class Operation(StrEnum):
    """What the application did to the row, in the order in which a list of them is written."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


#: When a rule with `becomes` or `changes` fires if it does not say `on`.
DEFAULT_OPERATIONS = (Operation.INSERT, Operation.UPDATE)
DEFAULT_TIMEZONE = "UTC"


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose a row is: exactly one of a column, an SQL expression over new, and a fixed value."""

    column: str | None = None
    sql: str | None = None
    value: str | None = None

    def definition(self) -> str | dict[str, object]:
        if self.column is not None:
            return self.column
        return {"sql": self.sql} if self.sql is not None else {"value": self.value}


@dataclass(frozen=True, slots=True)
class Payload:
    """What is sent of a row. Expressions are SQL over new and old."""

    #: Yields a row or json; None sends the changed row itself.
    row: str | None = None
    #: Columns to send; empty sends all but `exclude`. At most one of the two is given.
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: Name -> expression, merged into the resource object.
    extra: Mapping[str, str] = field(default_factory=dict)

    def definition(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if self.row is not None:
            found["row"] = self.row
        if self.include:
            found["include"] = list(self.include)
        if self.exclude:
            found["exclude"] = list(self.exclude)
        if self.extra:
            found["extra"] = dict(self.extra)
        return found


@dataclass(frozen=True, slots=True)
class EventRule:
    """When a change of the row, or a moment in it, is an event."""

    event: str
    #: Empty with `at`, which fires by itself; empty with `becomes` or `changes` is DEFAULT_OPERATIONS.
    on: tuple[Operation, ...] = ()
    #: SQL condition over new and old; with `at`, what must still hold of the row when the moment comes.
    when: str | None = None
    #: Column -> values (None is null): it has one of them now, and had another before or the row is new.
    becomes: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    #: Columns of which at least one changed (or is not null in a new row).
    changes: tuple[str, ...] = ()
    #: Column that holds the deadline.
    at: str | None = None
    #: None takes the source's.
    record: Record | None = None
    #: Seconds after which the event is not sent any more; None: sent however late.
    valid_for: float | None = None
    #: Merged over the source's: `extra` by name; `row` replaces; `include` or `exclude` replaces both.
    payload: Payload = field(default_factory=Payload)

    def definition(self, source_record: Record = Record.SUBSCRIBED) -> dict[str, object]:
        """This rule as a mapping, without what it has anyway in a source that records `source_record`."""
        found: dict[str, object] = {"event": self.event}
        default_on = DEFAULT_OPERATIONS if self.becomes or self.changes else ()
        # In the order of Operation, so that [update, insert] is not a change of [insert, update].
        on = tuple(operation for operation in Operation if operation in self.on) or default_on
        if on != default_on:
            found["on"] = [str(operation) for operation in on]
        if self.when is not None:
            found["when"] = self.when
        if self.becomes:
            found["becomes"] = {column: list(values) for column, values in self.becomes.items()}
        if self.changes:
            found["changes"] = list(self.changes)
        if self.at is not None:
            found["at"] = self.at
        if self.record not in (None, source_record):
            found["record"] = str(self.record)
        if self.valid_for is not None:
            found["valid_for"] = int(self.valid_for) if self.valid_for.is_integer() else self.valid_for
        payload = self.payload.definition()
        if payload:
            found["payload"] = payload
        return found


@dataclass(frozen=True, slots=True)
class Source:
    """A watched table and its rules."""

    name: str
    #: Schema-qualified, as SQL spells it: public.orders, app."Orders".
    table: str
    tenant: Tenant
    events: tuple[EventRule, ...]
    #: Column whose value is the resource_id; None takes the primary key.
    key: str | None = None
    #: Name of the object under "data"; None takes the source's name.
    resource: str | None = None
    #: First word of idempotency keys; None takes the resource.
    prefix: str | None = None
    #: Time zone of deadline columns of type `timestamp without time zone`.
    timezone: str = DEFAULT_TIMEZONE
    record: Record = Record.SUBSCRIBED
    #: Holds for every rule that does not say otherwise.
    payload: Payload = field(default_factory=Payload)

    def definition(self) -> dict[str, object]:
        """This source as pgrelay.watch() takes it: JSON types, no defaults, one form for one meaning."""
        found: dict[str, object] = {"name": self.name, "table": self.table}
        if self.key is not None:
            found["key"] = self.key
        found["tenant"] = self.tenant.definition()
        resource = self.resource or self.name
        if resource != self.name:
            found["resource"] = resource
        if self.prefix not in (None, resource):
            found["prefix"] = self.prefix
        if self.timezone != DEFAULT_TIMEZONE:
            found["timezone"] = self.timezone
        if self.record is not Record.SUBSCRIBED:
            found["record"] = str(self.record)
        payload = self.payload.definition()
        if payload:
            found["payload"] = payload
        found["events"] = [rule.definition(self.record) for rule in self.events]
        return found
