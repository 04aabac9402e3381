"""Failures of pgrelay itself, each with its exit code and what a person can do about it.

What a receiver does wrong is never an exception: it is data (`delivery.Failure`). The classes here are raised
where nothing sensible can be done on the spot, and end in one line on standard error.
"""


class PgrelayError(Exception):
    """Something that stops a command. `message` says what and where, `remedy` what to do next."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  {self.remedy}" if self.remedy else self.message


class ConfigError(PgrelayError):
    """The configuration is wrong. Carries every finding at once, one per line, each with file, line and key."""

    exit_code = 78


class DatabaseUnavailable(PgrelayError):
    """No connection, or a lost one. The daemon retries it; only a command lets it out."""

    exit_code = 69


class SchemaMismatch(PgrelayError):
    """The schema in the database is missing, too old, from a newer program that breaks this one, or altered."""

    exit_code = 3


class NotPermitted(PgrelayError):
    """A privilege is missing; `remedy` is the GRANT that mends it."""

    exit_code = 77


class Refused(PgrelayError):
    """An operator's request that cannot be done, or not now.

    `constraint` names the rule of the schema that it breaks, if it is one.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "", *, constraint: str | None = None) -> None:
        super().__init__(message, remedy)
        self.constraint = constraint


class NotTheOriginal(PgrelayError):
    """The database is a copy, or not the environment this daemon was configured for: nothing is sent from it."""

    exit_code = 78
