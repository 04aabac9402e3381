"""Where the shipped SQL is, in which order it runs, and how a changed file is recognised.

`sql/install.sql` is the table of contents of everything that can be created again (functions, views, grants):
psql follows its `\\ir` lines, and so does this module. Tables change only through
`sql/migrations/NNNN_name.sql`, run once each in the order of their numbers. What of this a given database
still needs is decided in `db/migrations`.
"""

import hashlib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

#: Seconds that each statement of `install_script` waits for a lock before it gives up: long enough for a busy
#: moment, short enough that the application's own statements do not pile up behind a waiting ALTER TABLE.
LOCK_TIMEOUT = 5

_INCLUDE = re.compile(r"\\ir\s+(?P<path>\S+)")
_MIGRATION = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")


class SqlFile(NamedTuple):
    """One re-creatable object. `path` is relative to sql/, with forward slashes."""

    path: str
    text: str
    digest: str


class Migration(NamedTuple):
    """One numbered step of the tables' history."""

    number: int
    name: str
    text: str
    digest: str
    #: A daemon that does not ship this migration must not run against a database that has it.
    breaking: bool


def sql_root() -> Traversable:
    """Directory holding the SQL: inside the installed package, or beside src/ in a source checkout."""
    packaged = resources.files("pgrelay") / "sql"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "sql"
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError("no sql/ in the pgrelay package nor beside its source tree")


def files(root: Traversable | None = None) -> list[SqlFile]:
    """The files named in install.sql, in its order."""
    root = root or sql_root()
    found = []
    for path in included(root.joinpath("install.sql").read_text("utf-8")):
        text = root.joinpath(*path.split("/")).read_text("utf-8")
        found.append(SqlFile(path, text, digest(text)))
    return found


def included(contents: str) -> list[str]:
    """The paths of the `\\ir` lines of a table of contents.

    SQL that stands in the table of contents itself would be run by psql and missed here, so anything but
    includes, comments and psql's other commands (`\\set`, `\\echo`) raises ValueError; so does a path given
    twice.
    """
    paths: list[str] = []
    for number, line in enumerate(contents.splitlines(), start=1):
        include = _INCLUDE.fullmatch(line.strip())
        if include:
            if include["path"] in paths:
                raise ValueError(f"install.sql:{number}: {include['path']} is included twice")
            paths.append(include["path"])
        elif line.strip() and not line.startswith(("--", "\\set ", "\\echo ")):
            raise ValueError(f"install.sql:{number}: neither \\ir nor a comment: {line.strip()}")
    return paths


def migrations(root: Traversable | None = None) -> list[Migration]:
    """All migrations by number. ValueError when a name is malformed or the numbers are not 1, 2, 3 …"""
    found = []
    for entry in (root or sql_root()).joinpath("migrations").iterdir():
        named = _MIGRATION.fullmatch(entry.name)
        if not named:
            raise ValueError(f"sql/migrations/{entry.name}: a migration is named NNNN_name.sql")
        text = entry.read_text("utf-8")
        breaking = text.split("\n", 1)[0].strip() == "-- breaking"
        found.append(Migration(int(named["number"]), named["name"], text, digest(text), breaking))
    found.sort()
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(found) + 1)):
        raise ValueError(f"sql/migrations: numbers must be 1, 2, 3 … each once, not {numbers}")
    return found


def install_script(root: Traversable | None = None) -> str:
    """Everything for a database without pgrelay, as one transaction: for psql, or one simple query."""
    parts = ["begin;", f"set local lock_timeout = '{LOCK_TIMEOUT}s';"]
    parts += [
        f"-- migrations/{migration.number:04}_{migration.name}.sql\n{migration.text.rstrip()}"
        for migration in migrations(root)
    ]
    parts += [f"-- {file.path}\n{file.text.rstrip()}" for file in files(root)]
    return "\n\n".join([*parts, "commit;"]) + "\n"


def digest(text: str) -> str:
    """What changes when a file changes: SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
