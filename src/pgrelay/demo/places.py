"""As whom an embedded server runs, and which directories that account can reach.

Postgres refuses to run as root. When we are root it runs as `postgres`, else as `nobody`, whichever exists:
accounts are never created and no directory but our own changes owner or mode. Access lists are not
considered, only mode bits.
"""

import os
import pwd
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from pgrelay.errors import Refused


class Account(NamedTuple):
    """Whom to become before running the server."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Whom the server must run as, or None to run it as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise Refused(
        "Postgres refuses to run as root, and this machine has neither a user 'postgres' nor a user 'nobody'",
        "run this command as an ordinary user",
    )


def reachable(path: Path, account: Account | None) -> bool:
    """Whether `account` may enter `path` and every directory above it."""
    if account is None:
        return os.access(path, os.X_OK)
    return all(
        _may_enter(directory.stat(), account) for directory in (path.resolve(), *path.resolve().parents)
    )


def _may_enter(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def new_directory(account: Account | None, *, within: Path | None = None) -> Path:
    """Make a private directory owned by `account`: in `within` when given, else in the system's temporary
    place.

    A personal TMPDIR is often closed to other accounts, and so the usual shared places follow.
    """
    places = [within] if within else [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    for place in places:
        if place.is_dir() and reachable(place, account):
            directory = Path(tempfile.mkdtemp(prefix="pgrelay-", dir=place))
            give(directory, account)
            return directory
    tried = ", ".join(str(place) for place in places)
    who = f"user '{account.name}'" if account else "the current user"
    raise Refused(f"none of these directories can be entered by {who}: {tried}", "set TMPDIR to one that can")


def give(path: Path, account: Account | None) -> None:
    """Make `account` the owner of one file or directory of ours."""
    if account:
        os.chown(path, account.uid, account.gid)
