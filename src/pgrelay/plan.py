"""What `apply` does: the difference between the sources of a configuration and those installed, as ordered changes.

Pure: what is installed is handed in, as db/ read it. Nothing here knows how a source is watched; the statements come
from the database itself (pgrelay.watch_sql). Sources of another owner are never changed: they are left, and if the
configuration uses the name of one, that is a clash and nothing is applied at all.

Order: first what is unwatched, then what is watched, each by table. Unwatching takes the strongest lock, and a lock
that grows while it is held is how deadlocks are made; one order of tables for everybody is how they are avoided.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pgrelay.sources import Source

_SHOWN_LENGTH = 70


class Kind(StrEnum):
    """What happens to a source."""

    #: It was installed by this configuration's owner, and is not in the file any more.
    UNWATCH = "unwatch"
    #: It is new.
    WATCH = "watch"
    #: Its definition differs.
    CHANGE = "change"
    #: Its definition is the same, but the database is not as it should be for it.
    MEND = "mend"
    SAME = "same"
    #: Another owner's.
    LEAVE = "leave"
    #: The file uses the name of another owner's source.
    CLASH = "clash"


#: Kinds that change the database, in the order in which they do.
ACTIVE = (Kind.UNWATCH, Kind.WATCH, Kind.CHANGE, Kind.MEND)


@dataclass(frozen=True, slots=True)
class Installed:
    """A source as the database has it, and what is not as pgrelay.watch() left it."""

    name: str
    owner: str
    #: As Postgres spells it.
    table: str
    definition: Mapping[str, Any]
    table_exists: bool = True
    #: What a table is called now that is not called `table` any more and still has its triggers.
    renamed_to: str | None = None
    triggers_missing: tuple[str, ...] = ()
    #: There, but not firing for ordinary writes.
    triggers_disabled: tuple[str, ...] = ()
    functions_missing: tuple[str, ...] = ()
    #: Made from the same definition by another version of the compiler.
    functions_stale: tuple[str, ...] = ()
    columns_added: tuple[str, ...] = ()
    columns_gone: tuple[str, ...] = ()
    #: Why its definition does not fit its table any more; empty if it does, or if this role cannot tell.
    misfit: str = ""

    def broken(self) -> tuple[str, ...]:
        """Why captures fail or do not happen."""
        if not self.table_exists:
            now = f"is called {self.renamed_to} now" if self.renamed_to else "is gone"
            return (f"table {self.table} {now}",)
        return (
            *(f"trigger {name} is missing" for name in self.triggers_missing),
            *(f"trigger {name} is disabled" for name in self.triggers_disabled),
            *(f"function pgrelay.{name} is missing" for name in self.functions_missing),
            *([f"its rules do not fit the table any more: {self.misfit}"] if self.misfit else []),
        )

    def outdated(self) -> tuple[str, ...]:
        """What works, but not as it would if it were installed now."""
        if not self.table_exists:
            return ()
        return (
            *([f"columns added to the table: {', '.join(self.columns_added)}"] if self.columns_added else []),
            *([f"columns gone from the table: {', '.join(self.columns_gone)}"] if self.columns_gone else []),
            *(f"function pgrelay.{name} was made by another version" for name in self.functions_stale),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one source, and why."""

    kind: Kind
    name: str
    table: str
    owner: str
    reasons: tuple[str, ...] = ()
    #: What to install; None where nothing is.
    definition: Mapping[str, Any] | None = None
    #: What is installed; None where nothing is.
    installed: Installed | None = None

    @property
    def active(self) -> bool:
        return self.kind in ACTIVE


def plan(owner: str, sources: Sequence[Source], installed: Iterable[Installed]) -> list[Change]:
    """A change for each source, in the file or installed, in the order in which to make them."""
    there = {source.name: source for source in installed}
    wanted = {source.name for source in sources}
    changes = [_wanted(owner, source, there.get(source.name)) for source in sources]
    for known in there.values():
        if known.name not in wanted:
            kind = Kind.UNWATCH if known.owner == owner else Kind.LEAVE
            reasons = (
                ("not in the file any more",) if kind is Kind.UNWATCH else (f"belongs to {known.owner}",)
            )
            changes.append(Change(kind, known.name, known.table, known.owner, reasons, installed=known))
    return sorted(changes, key=lambda change: (_turn(change), change.table, change.name))


def _turn(change: Change) -> int:
    if change.kind is Kind.UNWATCH:
        return 0
    return 1 if change.active else 2


def _wanted(owner: str, source: Source, known: Installed | None) -> Change:
    definition = source.definition()
    if known is None:
        rules = tuple(rule.event for rule in source.events)
        return Change(Kind.WATCH, source.name, source.table, owner, rules, definition)
    if known.owner != owner:
        reason = f"a source of this name belongs to {known.owner}, not to {owner}"
        return Change(Kind.CLASH, source.name, source.table, known.owner, (reason,), installed=known)
    changed = differences(known.definition, definition)
    if changed:
        return Change(Kind.CHANGE, source.name, source.table, owner, changed, definition, known)
    faults = known.broken() + known.outdated()
    kind = Kind.MEND if faults else Kind.SAME
    return Change(kind, source.name, source.table, owner, faults, definition, known)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two definitions, a line a key: `callback.created: when: … → …`."""
    found: list[str] = []
    for key in _keys(before, after):
        if key == "events":
            found += _event_differences(before.get(key, []), after.get(key, []))
        else:
            found += _differences(key, before.get(key), after.get(key))
    return tuple(found)


def _event_differences(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[str]:
    old = {rule["event"]: rule for rule in before}
    new = {rule["event"]: rule for rule in after}
    found = []
    for event in _keys(old, new):
        if event not in old:
            found.append(f"{event}: added")
        elif event not in new:
            found.append(f"{event}: removed")
        else:
            for key in _keys(old[event], new[event]):
                found += _differences(f"{event}: {key}", old[event].get(key), new[event].get(key))
    if not found and list(before) != list(after):
        found.append("events: in another order")
    return found


def _differences(key: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        nested = [
            _differences(f"{key}.{inner}", before.get(inner), after.get(inner))
            for inner in _keys(before, after)
        ]
        return [line for lines in nested for line in lines]
    if before is None:
        return [f"{key}: added: {_shown(after)}"]
    if after is None:
        return [f"{key}: removed, was: {_shown(before)}"]
    return [f"{key}: {_shown(before)} → {_shown(after)}"]


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*before, *after]))


def _shown(value: Any) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


class Lock(StrEnum):
    """What a statement locks of the application's table until the transaction ends."""

    NONE = "no lock"
    #: Reads go on, writes wait.
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    #: Reads and writes wait.
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"


def lock_of(statement: str) -> Lock:
    """The lock that a statement of pgrelay.watch_sql() or pgrelay.unwatch_sql() takes on the watched table."""
    words = statement.replace("create or replace", "create", 1).split(maxsplit=2)[:2]
    if words in (["create", "trigger"], ["alter", "table"]):
        return Lock.SHARE_ROW_EXCLUSIVE
    if words == ["drop", "trigger"] or (words == ["drop", "function"] and statement.endswith(" cascade")):
        return Lock.ACCESS_EXCLUSIVE
    return Lock.NONE
