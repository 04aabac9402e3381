"""The tables of keys as text: config.example.yaml, and the reference for the documentation.

`python -m pgrelay.config.example` rewrites config.example.yaml of a source checkout.
"""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from pgrelay.config.keys import KEYS, SECTIONS, Key
from pgrelay.config.sample_sources import SAMPLE_SOURCES
from pgrelay.config.source_keys import EVENT_KEYS, PAYLOAD_KEYS, SOURCE_KEYS, TENANT_KEYS, SourceKey

EXAMPLE_FILE = Path(__file__).parents[3] / "config.example.yaml"
_WIDTH = 110

_HEADER = """\
# The configuration of pgrelay: every key, commented out, with its default. To set one, remove its "#".
#
# It is the file named by --config or PGRELAY_CONFIG, else ./pgrelay.yaml, else /etc/pgrelay/config.yaml.
# `pgrelay check` reads it and says all that is wrong with it.
#
# Durations are seconds, or a number with a unit: 100ms, 90s, 5m, 2h, 30d. Sizes are bytes, or 16KiB or 1MiB.
# Values are taken as they are written: nothing like ${NAME} is replaced. Quote what has " #" or ": " in it.
#
# Secrets need not stand here. An environment variable goes before a credential (a file in the directory that
# systemd makes for LoadCredential=), a credential before this file, and what is empty counts as absent.
# Keys marked "Reload" take effect on SIGHUP (systemctl reload), the others with the next start.
"""

_SOURCES_HEADER = """\
# What is watched. `pgrelay apply --plan` shows what would change in the database, `pgrelay apply` does it.
#
# SQL expressions see the row as new and what it was before as old; an insert has no old, a delete no new.
# They run in the application's transaction, as the role that ran `pgrelay apply`, and find no table without
# its schema: write public.branches, not branches.
#
"""


def example() -> str:
    """The text of config.example.yaml."""
    parts = [_HEADER, *(_key_lines(key, indent="") for key in KEYS if not key.section)]
    for section, about in SECTIONS.items():
        keys = "\n".join(_key_lines(key, indent="  ") for key in KEYS if key.section == section)
        parts.append(f"# {about}\n{section}:\n{keys}")
    parts.append(_SOURCES_HEADER + _source_key_lines() + SAMPLE_SOURCES)
    return "\n".join(parts)


def reference_table() -> str:
    """Every key but those of sources, as a Markdown table."""
    rows = [
        (
            f"`{key.name}`",
            key.kind.name,
            _default(key, code="`"),
            key.show_range(),
            "yes" if key.reloadable else "",
            " ".join([key.sentence, *_other_places(key, code="`")]),
        )
        for key in KEYS
    ]
    return _markdown(("Key", "Type", "Default", "Range", "Reload", "Meaning"), rows)


def sources_reference_table() -> str:
    """The keys of a source, as a Markdown table; the path of a nested key is dotted."""
    levels = (
        ("", SOURCE_KEYS),
        ("tenant.", TENANT_KEYS),
        ("payload.", PAYLOAD_KEYS),
        ("events[].", EVENT_KEYS),
    )
    rows = [
        (f"`{path}{key.name}`", key.kind, key.default, key.sentence) for path, keys in levels for key in keys
    ]
    return _markdown(("Key", "Type", "Default", "Meaning"), rows)


def _key_lines(key: Key, indent: str) -> str:
    text = _wrap(key.sentence, f"{indent}# ", f"{indent}# ")
    if key.empty_means is not None:
        text += f"{indent}# Empty: {key.empty_means}.\n"
    facts = [_range(key), *_other_places(key), "Reload." if key.reloadable else ""]
    if any(facts):
        text += _wrap(" ".join(fact for fact in facts if fact), f"{indent}# ", f"{indent}# ")
    return f"{text}{indent}#{key.field}: {key.show(key.default)}\n"


def _range(key: Key) -> str:
    """What may stand there, unless that is plain from the default."""
    shown = key.show_range()
    if key.choices:
        return f"One of {shown}."
    kind = key.kind.name.capitalize()
    if key.kind.many:
        return f"{kind}, each {shown}." if shown else f"{kind}."
    return f"{kind}, {shown}." if shown else ""


def _default(key: Key, code: str = "") -> str:
    return key.empty_means if key.empty_means is not None else f"{code}{key.show(key.default)}{code}"


def _other_places(key: Key, code: str = "") -> Iterator[str]:
    if key.environment:
        yield f"Environment: {code}{key.environment}{code}."
    if key.credential:
        yield f"Credential: {code}{key.credential}{code}."


def _source_key_lines() -> str:
    groups: Sequence[tuple[str, tuple[SourceKey, ...]]] = (
        ("A source:", SOURCE_KEYS),
        ("tenant, as a mapping, has one of:", TENANT_KEYS),
        ("payload:", PAYLOAD_KEYS),
        ("An event:", EVENT_KEYS),
    )
    lines = []
    for title, keys in groups:
        lines.append(f"# {title}\n")
        for key in keys:
            default = f" ({key.default})" if key.default else ""
            text = f"{key.name:<9} {key.sentence}{default}"
            lines.append(_wrap(text, "#   ", "#             "))
    return "".join(lines)


def _wrap(text: str, first: str, others: str) -> str:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines) + "\n"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    EXAMPLE_FILE.write_text(example(), encoding="utf-8")
