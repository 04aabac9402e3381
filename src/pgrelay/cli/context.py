"""What a command is given: its arguments, where to print, and on demand the settings and a connection."""

import argparse
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pgrelay.cli.output import Output
from pgrelay.config import Settings, load
from pgrelay.db.admin import Admin, open_admin
from pgrelay.db.guard import refuse_unknown_schema
from pgrelay.sealing import Keyring


class Context:
    """One run of one command."""

    def __init__(self, arguments: argparse.Namespace, out: Output, environ: Mapping[str, str]) -> None:
        self.arguments = arguments
        self.out = out
        self.environ = environ

    def argument(self, name: str) -> Any:
        return getattr(self.arguments, name)

    @cached_property
    def settings(self) -> Settings:
        """The configuration as it stands now. Raises ConfigError."""
        return self.read_settings()

    def read_settings(self) -> Settings:
        credentials = self.environ.get("CREDENTIALS_DIRECTORY")
        return load(
            self.arguments.config,
            environ=self.environ,
            credentials=Path(credentials) if credentials else None,
        )

    @cached_property
    def keys(self) -> Keyring:
        """The keys that webhooks' secrets are sealed with. Raises ConfigError."""
        return Keyring(self.settings.secrets.key)

    @asynccontextmanager
    async def admin(self, *, any_schema: bool = False, listening: bool = False) -> AsyncIterator[Admin]:
        """A connection, to a schema that this program knows unless `any_schema`; `listening`: as the daemon listens."""
        database = self.settings.database
        admin = await open_admin(
            database.listen_dsn or database.dsn if listening else database.dsn,
            application_name=f"pgrelay {self.arguments.command}",
            connect_timeout=database.connect_timeout,
            statement_timeout=database.statement_timeout,
        )
        try:
            if not any_schema:
                with admin.translated():
                    await refuse_unknown_schema(admin.connection)
            yield admin
        finally:
            await admin.close()
