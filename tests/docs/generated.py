"""The parts of the documentation that are written from the code. `python tests/docs/generated.py` writes them.

In a document such a part stands between two comments, `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
"""

import argparse
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import psycopg
import yaml

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.blocks import DOCUMENTS, ROOT
from docs.receivers import LANGUAGES as RECEIVERS
from docs.receivers import verification
from pgrelay import errors, logs, observation
from pgrelay.api.table import ROUTES
from pgrelay.cli import main as command_line
from pgrelay.cli.arguments import build_parser
from pgrelay.config.example import reference_table, sources_reference_table
from pgrelay.delivery import TRANSITIONS, Status
from pgrelay.metrics.counted import Metrics
from unit.test_floors import FLOORS, SRC

_PART = re.compile(r"(<!-- generated: (?P<name>[a-z ]+) -->\n).*?(\n?<!-- end of (?P=name) -->)", re.S)

ROLES = ("pgrelay_daemon", "pgrelay_admin", "pgrelay_reader", "pgrelay_tenant")
#: Functions for people that are granted to nobody: only the owner of the schema may change what is watched.
OWNERS = {"watch", "unwatch", "watch_sql", "unwatch_sql"}
#: Granted to the daemon, and for people as well.
SHARED = {"adopt"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n"
    )


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def sentence(thing: object) -> str:
    """The first paragraph of a docstring that somebody wrote; nothing for a dataclass's own."""
    text = inspect.getdoc(thing) or ""
    return (
        ""
        if text.startswith(f"{getattr(thing, '__name__', '')}(")
        else " ".join(text.split("\n\n")[0].split())
    )


# From the program ------------------------------------------------------------------------------------------------


def states() -> str:
    """TRANSITIONS as a diagram, and as a table of verbs."""
    arrows = [
        f"    {origin} --> {end}: {verb}"
        for verb, (origins, ends) in TRANSITIONS.items()
        for origin in Status
        for end in Status
        if origin in origins and end in ends
    ]
    finished = [f"    {status} --> [*]" for status in (Status.SUCCEEDED,)]
    diagram = "\n".join(
        ["```mermaid", "stateDiagram-v2", "    [*] --> pending: expand", *arrows, *finished, "```"]
    )
    rows = [
        (code(verb), *(", ".join(code(status) for status in Status if status in side) for side in sides))
        for verb, sides in TRANSITIONS.items()
    ]
    return f"{diagram}\n\n{table(('Verb', 'From', 'To'), rows)}"


def floors() -> str:
    """The floors that tests/unit/test_floors.py holds the code to; rooms that exist."""
    built = [
        sorted(room for room in rooms if (SRC / room).is_dir() or (SRC / f"{room}.py").is_file())
        for rooms in FLOORS
    ]
    numbered = [
        (str(len(built) - 1 - number), ", ".join(map(code, rooms))) for number, rooms in enumerate(built)
    ]
    return table(("Floor", "Rooms"), [row for row in numbered if row[1]])


def log_events() -> str:
    """Every observation as a log line: its name, its level, its keys."""
    kinds = [
        kind
        for kind in vars(observation).values()
        if inspect.isclass(kind) and kind.__module__ == observation.__name__
    ]
    rows = [
        (
            code(re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()),
            logging.getLevelName(logs.LEVELS.get(kind, logs.INFO)).lower(),
            ", ".join(code(field.name) for field in fields(kind)),
            sentence(kind),
        )
        for kind in kinds
        if kind is not observation.Observation
    ]
    return table(("Event", "Level", "Keys", "Meaning"), rows)


def metrics() -> str:
    """Every metric that a daemon serves, as its registry knows it."""
    made = Metrics(name="", version="", webhooks=0)
    labels = {
        name: getattr(collector, "_labelnames", ())
        for collector, names in made.registry._collector_to_names.items()
        for name in names
    }
    rows = [
        (
            code(family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")),
            family.type,
            ", ".join(map(code, labels.get(family.name) or getattr(family, "_labelnames", ()))),
            f"{family.documentation}.",
        )
        for family in made.registry.collect()
        if family.name.startswith("pgrelay_")
    ]
    return table(("Metric", "Type", "Labels", "Meaning"), rows)


def alerts() -> str:
    """Every alert of contrib/prometheus: when it fires, and what to do."""
    (group,) = yaml.safe_load((ROOT / "contrib/prometheus/pgrelay.rules.yaml").read_text("utf-8"))["groups"]
    rows = [
        (
            code(rule["alert"]),
            rule["labels"]["severity"],
            f"{code(' '.join(rule['expr'].split()))}" + (f", for {rule['for']}" if "for" in rule else ""),
            rule["annotations"]["action"],
        )
        for rule in group["rules"]
    ]
    return table(("Alert", "Severity", "Fires when", "What to do"), rows)


def exit_codes() -> str:
    """Exit codes: those of the errors, and those that only the command line has."""
    kinds = [
        kind for kind in vars(errors).values() if inspect.isclass(kind) and kind.__module__ == errors.__name__
    ]
    meanings: dict[int, list[str]] = {
        0: ["Fine."],
        2: ["Wrong usage of the command line; or `check` found errors."],
        command_line.INTERNAL: ["A fault of pgrelay's own."],
        command_line.CANNOT_WRITE: ["The output cannot be written, as to a full disk."],
        command_line.INTERRUPTED: ["Interrupted with Ctrl-C."],
        command_line.NOBODY_READS: ["Whoever read the output went away, such as `head`."],
    }
    for kind in kinds:
        if kind is not errors.PgrelayError:
            meanings.setdefault(kind.exit_code, []).append(sentence(kind))
    meanings[errors.Refused.exit_code].append(
        "Or `check` found warnings, or `verify` or `webhooks test` say no."
    )
    return table(
        ("Code", "Meaning"), [(str(number), " ".join(meanings[number])) for number in sorted(meanings)]
    )


def commands() -> str:
    """Every command and its verbs."""

    def walk(parser: argparse.ArgumentParser) -> Iterable[tuple[str, str]]:
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            assert isinstance(action.choices, Mapping)
            about = {choice.dest: choice.help or "" for choice in action._get_subactions()}
            for name, below in action.choices.items():
                if below._subparsers is None:
                    yield below.prog, about[name]
                yield from walk(below)

    return table(
        ("Command", "What it is for"),
        [(code(prog), f"{text[0].upper()}{text[1:]}.") for prog, text in walk(build_parser())],
    )


def routes() -> str:
    """The REST API's routes, as their table has them."""
    return table(
        ("Route", "Name", "What it does"),
        [(code(f"{route.method} {route.path}"), code(route.name), f"{route.summary}.") for route in ROUTES],
    )


# From the database -----------------------------------------------------------------------------------------------

_RELATIONS = """
select c.relname, obj_description(c.oid, 'pg_class') as comment
from pg_class c where c.relnamespace = 'pgrelay'::regnamespace and c.relkind::text = any (%s) and not c.relispartition order by 1
"""
_FUNCTIONS = """
select p.proname, p.proname || '(' || pg_get_function_arguments(p.oid) || ')' as call, pg_get_function_result(p.oid) as result,
       obj_description(p.oid, 'pg_proc') as comment, array(select r from unnest(%s::text[]) as r where has_function_privilege(r, p.oid, 'execute')) as roles
from pg_proc p where p.pronamespace = 'pgrelay'::regnamespace and not p.proname ~ '^(body|capture|recapture|fire)_(callback)'
    and p.prorettype <> 'trigger'::regtype
order by p.proname
"""
_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), coalesce(pg_get_expr(d.adbin, d.adrelid), ''), col_description(a.attrelid, a.attnum)
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


def relations(db: psycopg.Connection, kinds: list[str]) -> str:
    rows = db.execute(_RELATIONS, [kinds]).fetchall()
    return table(("Name", "What it holds"), [(code(name), comment or "") for name, comment in rows])


def verbs(db: psycopg.Connection, *, people: bool) -> str:
    """Functions that people call, or those that the daemon calls."""
    rows = db.execute(_FUNCTIONS, [list(ROLES)]).fetchall()
    shown = []
    for name, call, result, comment, roles in rows:
        if people and ({"pgrelay_admin", "pgrelay_tenant"} & set(roles) or name in OWNERS | SHARED):
            who = ", ".join(map(code, roles)) or "the owner of the schema"
            shown.append((code(call), code(result), who, comment or ""))
        elif not people and roles == ["pgrelay_daemon"] and name not in SHARED:
            shown.append((code(name), comment or ""))
    return table(
        ("Call", "Returns", "Who may", "What it does") if people else ("Function", "What it does"), shown
    )


def columns(db: psycopg.Connection, name: str) -> str:
    rows = db.execute(_COLUMNS, [name]).fetchall()
    return table(
        ("Column", "Type", "Default", "Meaning"),
        [
            (code(column), kind, code(default.removeprefix("pg_catalog.")), comment or "")
            for column, kind, default, comment in rows
        ],
    )


PROGRAM: Mapping[str, Callable[[], str]] = {
    "configuration keys": reference_table,
    "source keys": sources_reference_table,
    "states": states,
    "floors": floors,
    "log events": log_events,
    "exit codes": exit_codes,
    "metrics": metrics,
    "alerts": alerts,
    "commands": commands,
    "routes": routes,
    **{f"verification in {name}": partial(verification, name) for name in RECEIVERS},
}
DATABASE: Mapping[str, Callable[[psycopg.Connection], str]] = {
    "tables": lambda db: relations(db, ["r", "p"]),
    "views": lambda db: relations(db, ["v"]),
    "verbs": lambda db: verbs(db, people=True),
    "daemon verbs": lambda db: verbs(db, people=False),
    "webhook columns": lambda db: columns(db, "pgrelay.webhook_configurations"),
    "attempt columns": lambda db: columns(db, "pgrelay.delivery_attempts"),
}


def parts(text: str) -> list[str]:
    """The names of the generated parts of a document."""
    return [part["name"] for part in _PART.finditer(text)]


def renewed(text: str, db: psycopg.Connection) -> str:
    """A document with its generated parts written anew."""

    def renew(part: re.Match[str]) -> str:
        name = part["name"]
        made = PROGRAM[name]() if name in PROGRAM else DATABASE[name](db)
        return f"{part[1]}\n{made}\n<!-- end of {name} -->"

    return _PART.sub(renew, text)


def write_all() -> None:
    """Write every generated part, from an embedded Postgres where one is needed."""
    import asyncio

    from pgrelay.db.migrations import migrate
    from pgrelay.demo.cluster import Cluster

    async def install(dsn: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await migrate(connection)

    with Cluster.start(tuned="throwaway") as cluster:
        asyncio.run(install(cluster.dsn("postgres")))
        with psycopg.connect(cluster.dsn("postgres")) as db:
            for path in DOCUMENTS:
                text = path.read_text("utf-8")
                path.write_text(renewed(text, db), "utf-8")


if __name__ == "__main__":
    write_all()
