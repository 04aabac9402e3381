"""What a command is given: its arguments, where to print, and on demand the settings and a connection."""

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path

from pgrelay.cli.output import Output
from pgrelay.config.settings import Settings
from pgrelay.db.admin import Admin
from pgrelay.errors import PgrelayError


class UsageError(PgrelayError):
    """Arguments that do not fit together, seen only when they are used."""

    exit_code = 2
