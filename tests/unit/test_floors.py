"""The floors of docs/architecture.md: a module imports only what lies below it.

A room is a module or a package directly in src/pgrelay; the files of one package may import each other. Read
by syntax, so that imports inside functions count too.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pgrelay

SRC = Path(pgrelay.__file__).parent

#: From the top down. A name that is missing here fails the test: a new room is given a floor first.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"daemon"},
    {"engine", "page"},
    {"deliverer", "policies", "recorder", "supervisor", "upkeep", "watchman", "api", "demo"},
    {"holdings", "doctor"},  # what is leased: attempts, in slots, of lanes; a request past them
    {"db", "transport", "receiver", "logs", "metrics", "systemd"},
    {"config"},
    {"attempt", "slots", "telling"},
    {"lanes"},  # holds what is claimed, and how to build its requests
    {"request", "sealing"},  # sign, and make secrets
    {"circuit", "payloads", "ratelimit", "signing", "retry", "addresses", "pacing", "plan", "sqlfiles"},
    {"masking", "spans"},  # what all others may show, and how long it is
    {"sources", "delivery", "observation", "errors"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

#: Rooms, or single files of rooms, that speak HTTP.
HTTP = {"transport", "receiver", "api", "page", "demo"}
#: Where each library may be imported.
LIBRARIES = {
    "psycopg": {"db"},
    "aiohttp": HTTP - {"transport"},
    "httptools": {"transport"},
    "aiohappyeyeballs": {"transport"},
    "multidict": HTTP,  # headers, in which one name may come twice
    "yarl": HTTP,  # URLs
    "yaml": {"config/load"},
    "structlog": {"logs"},
    "jsonschema": {"api"},
    "jinja2": {"page", "payloads/expressions"},
    "markupsafe": {"page"},  # what jinja2 escapes with
    "cryptography": {"sealing"},
    "prometheus_client": {"metrics"},
    "uvloop": {"cli", "daemon"},
}


def imported(source: str) -> Iterator[str]:
    """Dotted names of all imports of a file: `from a import b` gives a.b, for b may be a module; relative
    ones begin with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(source: str) -> set[str]:
    """Rooms of pgrelay that a file imports; a name of the package itself (its version) is no room."""
    names = [name.split(".") for name in imported(source)]
    used = {parts[1] for parts in names if parts[0] == "pgrelay" and len(parts) > 1}
    return {name for name in used if name in LEVEL or (SRC / name).is_dir() or (SRC / f"{name}.py").is_file()}


def files() -> Iterator[tuple[str, str]]:
    """Every module as its name below src/pgrelay without suffix ("db/store"), and its text."""
    for path in sorted(SRC.rglob("*.py")):
        yield path.relative_to(SRC).with_suffix("").as_posix(), path.read_text("utf-8")


def wrongly_imported(name: str, source: str) -> list[str]:
    """Rooms that the file imports and that do not lie below its own."""
    room = name.split("/", maxsplit=1)[0]
    own = LEVEL.get(room, -1)
    return sorted(used for used in rooms_imported(source) - {room} if LEVEL.get(used, -1) <= own)


def test_every_room_stands_on_a_floor():
    rooms = {name.split("/", maxsplit=1)[0] for name, _ in files()} - {"__init__"}
    assert rooms <= set(LEVEL)


def test_no_module_imports_its_own_floor_or_a_higher_one():
    wrong = {name: wrongly_imported(name, source) for name, source in files() if name != "__init__"}
    assert {name: rooms for name, rooms in wrong.items() if rooms} == {}


def test_an_upward_import_is_seen_wherever_it_stands():
    assert wrongly_imported("retry", "def f():\n    from pgrelay.db import store\n") == ["db"]
    assert wrongly_imported("db/store", "from pgrelay import retry, daemon\n") == ["daemon"]
    assert wrongly_imported("deliverer", "import pgrelay.recorder as r\n") == ["recorder"]
    assert wrongly_imported("db/store", "from pgrelay import __version__\nimport pgrelay.db.connect\n") == []


def test_the_package_itself_imports_only_decisions_and_words():
    rooms = rooms_imported((SRC / "__init__.py").read_text())
    assert [room for room in rooms if LEVEL[room] < LEVEL["signing"]] == []


def test_libraries_stay_in_their_rooms():
    strangers = []
    for name, source in files():
        for library in {dotted.split(".", maxsplit=1)[0] for dotted in imported(source)} - {"pgrelay"}:
            rooms = LIBRARIES.get(library, set())
            if library not in sys.stdlib_module_names and not {name, name.split("/", maxsplit=1)[0]} & rooms:
                strangers.append(f"{name} imports {library}")
    assert strangers == []


def test_imports_are_absolute_and_not_hidden_behind_type_checking():
    hidden = [
        f"{name}: {dotted}"
        for name, source in files()
        for dotted in imported(source)
        if dotted.startswith(".") or dotted == "typing.TYPE_CHECKING"
    ]
    assert hidden == []
