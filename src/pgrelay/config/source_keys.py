"""The table of the keys of a source: what each is called, its default, and its meaning.

Reading (read_sources.py), the example file and the reference come from here. The nouns: pgrelay.sources.
"""

from typing import NamedTuple


class SourceKey(NamedTuple):
    name: str
    #: How it is written.
    kind: str
    #: As people read it; empty when the key may be left out and then says nothing.
    default: str
    sentence: str


SOURCE_KEYS = (
    SourceKey("name", "name", "required", "Up to 40 lower case letters, digits and underscores; unique."),
    SourceKey("table", "table", "required", "The table with its schema, spelled as in SQL."),
    SourceKey("key", "column", "the primary key", "The column whose value identifies the resource."),
    SourceKey(
        "tenant",
        "column or mapping",
        "required",
        "Whose the row is: a column, {sql: an expression over new}, or {value: a fixed name}.",
    ),
    SourceKey("resource", "name", "the name", 'What the object under "data" is called.'),
    SourceKey("prefix", "name", "the resource", "First word of the idempotency keys."),
    SourceKey("timezone", "time zone", "UTC", "Zone of deadline columns that are timestamps without one."),
    SourceKey(
        "record",
        "subscribed or always",
        "subscribed",
        "always also writes events that nobody subscribes to, for replay to a later webhook.",
    ),
    SourceKey(
        "payload", "mapping", "the changed row", "What is sent, where the event does not say otherwise."
    ),
    SourceKey("events", "list", "required", "The rules: which changes are which events."),
)

TENANT_KEYS = (
    SourceKey("sql", "SQL expression", "", "Yields the tenant, from new."),
    SourceKey("value", "text", "", "The tenant of every row, for tables that know no tenants."),
)

EVENT_KEYS = (
    SourceKey("event", "event type", "required", "Two or three lower case words with dots between them."),
    SourceKey(
        "on",
        "list of insert, update, delete",
        "insert and update with becomes or changes",
        "Which writes to look at; needed unless becomes, changes or at is there.",
    ),
    SourceKey("when", "SQL condition", "", "What must hold of new and old; with at, still hold of new."),
    SourceKey(
        "becomes",
        "mapping",
        "",
        "Column and value (or list, or null): it has that now and had another before, or the row is new.",
    ),
    SourceKey(
        "changes",
        "list of columns",
        "",
        "At least one of these columns changed, or is not null in a new row.",
    ),
    SourceKey(
        "at",
        "column",
        "",
        "A deadline: the event happens when the moment in this column comes, without any write.",
    ),
    SourceKey("record", "subscribed or always", "the source's", "Overrides the source's."),
    SourceKey(
        "valid_for",
        "duration",
        "for ever",
        "How long the event is worth sending, such as 1h; undelivered by then, it expires.",
    ),
    SourceKey(
        "payload",
        "mapping",
        "the source's",
        "Goes over the source's: extra by name, row by replacing it, include or exclude by replacing both.",
    ),
)

PAYLOAD_KEYS = (
    SourceKey("row", "SQL expression", "the changed row", "Yields the row, or json, to send."),
    SourceKey("include", "list of columns", "all", "The columns to send."),
    SourceKey("exclude", "list of columns", "none", "The columns not to send; not beside include."),
    SourceKey("extra", "mapping", "none", "Name and SQL expression, merged into the object."),
)


def names(keys: tuple[SourceKey, ...]) -> tuple[str, ...]:
    return tuple(key.name for key in keys)
