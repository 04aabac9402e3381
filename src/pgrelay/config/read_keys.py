"""Document -> values of the keys, by the table in keys.py. Says nothing of sources."""

from collections.abc import Callable, Mapping
from typing import Any

from pgrelay.config.document import Findings, Scalar, Table, cited, is_null
from pgrelay.config.keys import KEY_BY_NAME, KEYS, SECTIONS, Key
from pgrelay.config.section import Section, expect


def read_keys(top: Section, overrides: Mapping[str, Scalar], findings: Findings) -> dict[str, Any]:
    """Values by dotted name, of the keys that stand in the file or in `overrides` (which win); no defaults.

    What the file says is checked even where it is overridden.
    """
    values: dict[str, Any] = {}
    sections = {"": top} | _sections(top, findings)
    for key in KEYS:
        section = sections.get(key.section)
        if section is not None and key.field in section:
            values[key.name] = _value_in(section, key, findings)
        if key.name in overrides:
            values[key.name] = _parse(overrides[key.name], key, findings)
    if len(findings) == 0 and "delivery" in sections:
        _check_waits(sections["delivery"], values)
    return values


def top_level_names() -> tuple[str, ...]:
    return (*(key.field for key in KEYS if not key.section), *SECTIONS, "sources")


def _sections(top: Section, findings: Findings) -> dict[str, Section]:
    """The sections that the file has; a name without anything under it is an empty section."""
    found = {}
    for name in SECTIONS:
        entry = top.table.entries.get(name)
        if entry is not None and not is_null(entry.value):
            table = expect(entry.value, Table, name, findings)
            if table is not None:
                fields = tuple(key.field for key in KEYS if key.section == name)
                found[name] = Section(table, name, fields, findings, elsewhere=KEY_BY_NAME)
    return found


def _value_in(section: Section, key: Key, findings: Findings) -> Any:
    """The value, or None where something was wrong with it."""
    if key.kind.many:
        scalars = section.scalars(key.field, key.at_least) or ()
        return tuple(value for scalar in scalars for value in _parse_item(scalar, key, findings))
    node = section.table.entries[key.field].value
    if key.empty_means is not None and isinstance(node, Scalar) and (node.is_null or not node.text):
        return key.default
    scalar = section.scalar(key.field)
    return None if scalar is None else _parse(scalar, key, findings)


def _parse(scalar: Scalar, key: Key, findings: Findings) -> Any:
    """One value."""
    return _read(key.parse, scalar, key, findings)


def _parse_item(scalar: Scalar, key: Key, findings: Findings) -> tuple[Any, ...]:
    """What one item of a list stands for."""
    values: tuple[Any, ...] | None = _read(key.parse_item, scalar, key, findings)
    return () if values is None else values


def _read(parse: Callable[[str], Any], scalar: Scalar, key: Key, findings: Findings) -> Any:
    """None where something was wrong with it."""
    if scalar.quoted and not key.kind.may_be_quoted:
        findings.add(scalar.place, key.name, "is in quotes, which makes it text: write it without them")
        return None
    try:
        return parse(scalar.text.strip())
    except ValueError as error:
        findings.add(scalar.place, key.name, f"{'the value' if key.secret else cited(scalar.text)} {error}")
        return None


def _check_waits(delivery: Section, values: Mapping[str, Any]) -> None:
    """A schedule beyond the longest wait would be cut without a word."""
    schedule, most = KEY_BY_NAME["delivery.retry_schedule"], KEY_BY_NAME["delivery.max_retry_wait"]
    longest = max(values.get(schedule.name, schedule.default))
    limit = values.get(most.name, most.default)
    if longest > limit:
        field = schedule.field if schedule.field in delivery else most.field
        wait = schedule.kind.show(longest)
        delivery.wrong(field, f"a wait of {wait} is longer than max_retry_wait, {most.show(limit)}")
