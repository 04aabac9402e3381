"""Document -> sources. Checks what can be known without the database; the rest is for pgrelay.watch() to say.

Text is taken as it was written: `on`, `yes` and `007` are names and values like any other.
"""

import re
from collections.abc import Mapping

from pgrelay.config.document import Findings, Node, Scalar, Sequence, Table, cited, is_null
from pgrelay.config.nearest import did_you_mean
from pgrelay.config.section import Check, Section, expect
from pgrelay.config.source_keys import EVENT_KEYS, PAYLOAD_KEYS, SOURCE_KEYS, TENANT_KEYS, names
from pgrelay.config.values import parse_duration
from pgrelay.sources import (
    DEFAULT_OPERATIONS,
    DEFAULT_TIMEZONE,
    EventRule,
    Operation,
    Payload,
    Record,
    Source,
    Tenant,
)

#: Postgres cuts longer names without an error.
_MAX_NAME_BYTES = 63
_IDENTIFIER = r'(?:[A-Za-z_\u0080-\U0010ffff][\w$]*|"(?:[^"]|"")+")'
_TABLE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}")
_BARE_TABLE = re.compile(_IDENTIFIER)


def read_sources(node: Node | None, findings: Findings) -> tuple[Source, ...]:
    """The sources of the file. What is wrong is in `findings`; a source with a fault is left out."""
    if node is None or is_null(node):
        return ()
    sequence = expect(node, Sequence, "sources", findings)
    sections = _sections(sequence, "sources", names(SOURCE_KEYS), findings)
    _check_unique(sections, "name", "is the name of another source")
    sources = [_source(section, findings) for section in sections]
    return tuple(source for source in sources if source is not None)


def _sections(
    sequence: Sequence | None, path: str, known: tuple[str, ...], findings: Findings
) -> list[Section]:
    """The mappings of a list, without the items that are none."""
    found = []
    for number, item in enumerate(sequence.items if sequence else ()):
        key = f"{path}[{number}]"
        table = expect(item, Table, key, findings)
        if table is not None:
            found.append(Section(table, key, known, findings))
    return found


def _check_unique(sections: list[Section], name: str, problem: str) -> None:
    """Each value of `name` once, also among sections that have other faults."""
    lines: dict[str, int] = {}
    for section in sections:
        entry = section.table.entries.get(name)
        if entry is not None and isinstance(entry.value, Scalar) and not entry.value.is_null:
            text, line = entry.value.text, entry.value.place.line
            if text in lines:
                section.wrong(name, f"{cited(text)} {problem}, on line {lines[text]}")
            lines.setdefault(text, line)


def _source(section: Section, findings: Findings) -> Source | None:
    before = len(findings)
    section.require("name", "what this source is called")
    section.require("table", "the table to watch, with its schema")
    section.require("tenant", "a column, {sql: an expression}, or {value: a name} for tables without tenants")
    section.require("events", "which changes are which events")
    source = Source(
        name=section.text("name", _matches(_WORD, _WORD_PROBLEM)) or "",
        table=section.text("table", _table_problem) or "",
        key=section.text("key", _column_problem),
        tenant=_tenant(section, findings),
        resource=section.text("resource", _matches(_WORD, _WORD_PROBLEM)),
        prefix=section.text("prefix", _matches(_WORD, _WORD_PROBLEM)),
        timezone=section.text("timezone", _matches(r"[A-Za-z0-9_+/-]+", _TIMEZONE)) or DEFAULT_TIMEZONE,
        record=_record(section) or Record.SUBSCRIBED,
        payload=_payload(section, findings),
        events=_events(section, findings),
    )
    return source if len(findings) == before else None


def _tenant(section: Section, findings: Findings) -> Tenant:
    node = section.node("tenant")
    if not isinstance(node, Table):
        return Tenant(column=section.text("tenant", _column_problem))
    inner = Section(node, section.key("tenant"), names(TENANT_KEYS), findings)
    if ("sql" in inner) == ("value" in inner):
        section.wrong("tenant", "needs one of sql and value")
    return Tenant(sql=inner.text("sql", _sql_problem), value=inner.text("value"))


def _payload(section: Section, findings: Findings) -> Payload:
    table = section.table_of("payload")
    if table is None:
        return Payload()
    inner = Section(table, section.key("payload"), names(PAYLOAD_KEYS), findings)
    if "include" in inner and "exclude" in inner:
        inner.wrong("exclude", "cannot stand beside include: what is not included is excluded")
    return Payload(
        row=inner.text("row", _sql_problem),
        include=inner.texts("include", _column_problem),
        exclude=inner.texts("exclude", _column_problem),
        extra=_extra(inner, findings),
    )


def _extra(section: Section, findings: Findings) -> Mapping[str, str]:
    table = section.table_of("extra")
    if table is None:
        return {}
    inner = Section(table, section.key("extra"), tuple(table.entries), findings)
    for name, entry in table.entries.items():
        if not name.strip():
            findings.add(entry.place, inner.path, "a name is empty")
    return {name: inner.text(name, _sql_problem) or "" for name in table.entries}


def _events(section: Section, findings: Findings) -> tuple[EventRule, ...]:
    sequence = expect(section.node("events"), Sequence, section.key("events"), findings)
    if sequence is None:
        return ()
    if not sequence.items:
        section.wrong("events", "is empty: a source without events watches nothing")
    sections = _sections(sequence, section.key("events"), names(EVENT_KEYS), findings)
    _check_unique(sections, "event", "is the event of another rule (join their conditions with or)")
    return tuple(_rule(inner, findings) for inner in sections)


def _rule(section: Section, findings: Findings) -> EventRule:
    section.require("event", "the type of the event")
    on = tuple(Operation(text) for text in section.texts("on", _one_of(Operation)))
    rule = EventRule(
        event=section.text("event", _matches(r"[a-z0-9_]+(\.[a-z0-9_]+){1,2}", _EVENT)) or "",
        on=on or (DEFAULT_OPERATIONS if "becomes" in section or "changes" in section else ()),
        when=section.text("when", _sql_problem),
        becomes=_becomes(section, findings),
        changes=section.texts("changes", _column_problem),
        at=section.text("at", _column_problem),
        record=_record(section),
        valid_for=_valid_for(section),
        payload=_payload(section, findings),
    )
    _check_occasion(section, rule)
    return rule


def _check_occasion(section: Section, rule: EventRule) -> None:
    """Whether the keys that say when it happens go together."""
    watched = [name for name in ("on", "becomes", "changes") if name in section]
    if "at" in section:
        for name in watched:
            section.wrong(name, "cannot stand beside at: a deadline passes without a write")
    elif not watched:
        section.require("on", "say when it happens with on, becomes, changes or at")
    elif Operation.DELETE in rule.on and len(watched) > 1:
        section.wrong("on", f"a delete leaves no row of which {watched[1]} could be true; use when, over old")


def _becomes(section: Section, findings: Findings) -> Mapping[str, tuple[str | None, ...]]:
    table = section.table_of("becomes")
    if table is None:
        return {}
    inner = Section(table, section.key("becomes"), tuple(table.entries), findings)
    if not table.entries:
        section.wrong("becomes", "is empty: give a column and a value")
    found = {}
    for column, entry in table.entries.items():
        problem = _column_problem(column)
        if problem is not None:
            findings.add(entry.place, inner.key(column), problem)
        found[column] = _becomes_values(inner, column)
    return found


def _becomes_values(section: Section, column: str) -> tuple[str | None, ...]:
    """Values keep their spaces, '' is one, and null is one too if it is spelled out."""
    node = section.table.entries[column].value
    items = node.items if isinstance(node, Sequence) else (node,)
    if not items:
        section.wrong(column, "is an empty list: name a value")
    found: list[str | None] = []
    for item in items:
        scalar = expect(item, Scalar, section.key(column), section.findings)
        if scalar is not None and scalar.is_null and not scalar.text:
            section.wrong(column, "has no value; write null if that is meant")
        elif scalar is not None:
            found.append(None if scalar.is_null else scalar.text)
    return tuple(dict.fromkeys(found))


def _valid_for(section: Section) -> float | None:
    text = section.text("valid_for", _duration_problem)
    return None if text is None else parse_duration(text)


def _duration_problem(text: str) -> str | None:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        return str(error)
    return None if 1.0 <= seconds <= _LONGEST_VALIDITY else "is out of range: 1s to 3650d"


def _record(section: Section) -> Record | None:
    text = section.text("record", _one_of(Record))
    return None if text is None else Record(text)


_LONGEST_VALIDITY = 3650 * 86_400.0
_WORD = r"[a-z][a-z0-9_]{0,39}"
_WORD_PROBLEM = "does not do: use up to 40 lower case letters, digits and underscores, a letter first"
_TIMEZONE = "is not the name of a time zone: write it like Europe/Berlin"
_EVENT = "is not an event type: write two or three lower case words with dots, like order.paid"


def _matches(pattern: str, problem: str) -> Check:
    compiled = re.compile(pattern)
    return lambda text: None if compiled.fullmatch(text) else problem


def _one_of(words: type[Operation] | type[Record]) -> Check:
    known = [str(word) for word in words]

    def check(text: str) -> str | None:
        return None if text in known else f"is not one of {', '.join(known)}{did_you_mean(text, known)}"

    return check


def _table_problem(text: str) -> str | None:
    if _TABLE.fullmatch(text):
        return None
    if _BARE_TABLE.fullmatch(text):
        return f"has no schema; write it like public.{text}"
    return 'is not a table with its schema: write it as in SQL, like public.orders or app."Orders"'


def _column_problem(text: str) -> str | None:
    if '"' in text:
        return "has quotes in it; write the name as \\d shows it, without them"
    if len(text.encode()) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes, and no column's name is"
    return None


def _sql_problem(text: str) -> str | None:
    return "ends in a semicolon; an expression has none" if text.endswith(";") else None
