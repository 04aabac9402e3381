"""What was found: a level, a subject, what it is and how to mend it."""

from dataclasses import dataclass
from enum import StrEnum

#: Seconds before its end from which a certificate is worth a warning.
CERTIFICATE_ENDS_SOON = 14 * 86_400.0


class Level(StrEnum):
    OK = "ok"
    #: Worth knowing; nothing to do.
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    subject: str
    message: str
    mend: str = ""

    def as_row(self) -> dict[str, str | None]:
        return {
            "level": self.level,
            "subject": self.subject,
            "message": self.message,
            "mend": self.mend or None,
        }
