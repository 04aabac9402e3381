"""Log lines: what was observed, and what libraries have to say, as JSON or as text for a terminal.

Decides how important an observation is, and how lines look; not what is worth telling, which is what
`observation` holds. The event's name is the observation's in snake_case, its fields are the keys.

A line that goes to the journal begins with its syslog priority (`<4>`), which journald takes off again: so
`journalctl -p warning` works, and what is left is JSON. Lines hold no secrets, for observations do not; what
looks like one all the same is masked here, the last place before the line is out.

Logging never fails: a line that cannot be written is lost, for there is nowhere left to complain.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from functools import lru_cache
from json import JSONEncoder
from typing import Any, TextIO

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import TimeStamper, add_log_level, format_exc_info

from pgrelay.observation import (
    ApiFailed,
    AttemptFailed,
    CaptureErrorsSeen,
    CircuitOpened,
    Claimed,
    ConfigRejected,
    DaemonDeclaredDead,
    DatabaseIsStandby,
    DatabaseLost,
    DeadlinesFired,
    Delivered,
    DeliveriesExpired,
    DeliveryFailed,
    Expanded,
    LeaseLost,
    LeasesLapsed,
    LoginRefused,
    NotificationsMissing,
    Observation,
    ProcessEnded,
    ProcessStuck,
    RecordingDelayed,
    ReplayStopped,
    UpkeepFailed,
    WebhookDisabled,
    WebhookUnsignable,
)

DEBUG, INFO, WARNING = logging.DEBUG, logging.INFO, logging.WARNING
ERROR, CRITICAL = logging.ERROR, logging.CRITICAL

#: All others are INFO.
LEVELS: Mapping[type[Observation], int] = {
    Claimed: DEBUG,
    Delivered: DEBUG,
    DeadlinesFired: DEBUG,
    Expanded: DEBUG,
    AttemptFailed: WARNING,
    DatabaseIsStandby: WARNING,
    LeaseLost: WARNING,
    LeasesLapsed: WARNING,
    LoginRefused: WARNING,
    NotificationsMissing: WARNING,
    CircuitOpened: WARNING,
    DeliveriesExpired: WARNING,
    WebhookDisabled: ERROR,
    RecordingDelayed: WARNING,
    ReplayStopped: WARNING,
    ApiFailed: ERROR,
    CaptureErrorsSeen: ERROR,
    ConfigRejected: ERROR,
    DaemonDeclaredDead: ERROR,
    DatabaseLost: ERROR,
    ProcessEnded: ERROR,
    ProcessStuck: ERROR,
    UpkeepFailed: ERROR,
    WebhookUnsignable: ERROR,
    DeliveryFailed: CRITICAL,
}

MASK = "***"

_NAMES = ((CRITICAL, "critical"), (ERROR, "error"), (WARNING, "warning"), (INFO, "info"))
# As syslog(3) numbers them.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_SECRET_NAME = re.compile(
    r"secret|passw|token|authori[sz]ation|cookie|signature|credential|api_?key|private_?key|\bdsn\b", re.I
)
# What a text must hold, in lower case, for the pattern to be worth trying; the pattern; what replaces it.
_SECRETS = (
    ("whsec_", re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), f"whsec_{MASK}"),
    ("pgrelay_", re.compile(r"pgrelay_[A-Za-z0-9_-]{43}"), f"pgrelay_{MASK}"),
    ("sha256=", re.compile(r"sha256=[0-9A-Fa-f]{16,}"), f"sha256={MASK}"),
    ("v1,", re.compile(r"\bv1,[A-Za-z0-9+/=]{16,}"), f"v1,{MASK}"),
    ("bearer ", re.compile(r"\b(bearer) [^\s\"',;]{8,}", re.I), rf"\1 {MASK}"),
    ("basic ", re.compile(r"\b(basic) [A-Za-z0-9+/=]{8,}", re.I), rf"\1 {MASK}"),
    ("://", re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)"), rf"\1{MASK}"),
    ("?", re.compile(r"(\bhttps?://[^\s?#\"'<>]*\?)[^\s\"'<>]+", re.I), rf"\1{MASK}"),
    ("password", re.compile(r"\b(password *= *)('(?:[^'\\]|\\.)*'|[^\s'\"]+)", re.I), rf"\1{MASK}"),
)

_to_json = JSONEncoder().encode  # kept, for json.dumps would make one for every line

_Event = MutableMapping[str, Any]


class _Log:
    """Where lines go now."""

    def __init__(self) -> None:
        self.threshold = INFO
        self.logger: Any = structlog.get_logger()


_log = _Log()


def configure(
    level: str = "info",
    format: str = "auto",
    stream: TextIO | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Write lines of this level and above to the stream, standard output by default.

    `format` is `json`, `console` or `auto`: console on a terminal, json elsewhere. Of what libraries log, and of
    Python's warnings, everything from WARNING on is written too. May be called again.
    """
    stream = sys.stdout if stream is None else stream
    environ = os.environ if environ is None else environ
    renderers: list[Any]
    if format == "console" or (format == "auto" and stream.isatty()):
        colors = stream.isatty() and not environ.get("NO_COLOR")
        console = ConsoleRenderer(colors=colors, sort_keys=False, exception_formatter=plain_traceback)
        renderers = [_without_control_characters, console]
    else:
        renderers = [_as_json]
    if _is_journal(stream, environ):
        renderers.append(_with_priority)
    _log.logger = structlog.wrap_logger(
        _Sink(stream),
        processors=[add_log_level, TimeStamper(fmt="iso", utc=True), format_exc_info, _masked, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(DEBUG),
    ).bind()
    set_level(level)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _FromLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibraries())
    root.setLevel(WARNING)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Write lines of this level and above from now on."""
    _log.threshold = logging.getLevelNamesMapping()[level.upper()]


def is_told(kind: type[Observation]) -> bool:
    """Whether observations of this kind are important enough, as things are."""
    return LEVELS.get(kind, INFO) >= _log.threshold


def log_observation(observation: Observation) -> None:
    """One line, if it is important enough. Costs next to nothing if it is not."""
    kind = type(observation)
    level = LEVELS.get(kind, INFO)
    if level >= _log.threshold:
        event, names = _shape(kind)
        _write(level, event, {name: getattr(observation, name) for name in names})


class _FromLibraries(logging.Handler):
    """Takes what aiohttp, psycopg, asyncio and others log by the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < _log.threshold:
            return
        try:
            found: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                found["exc_info"] = record.exc_info
            _write(record.levelno, record.getMessage(), found)
        except Exception:
            # As the standard library has it: a malformed message is shown where it was made, and goes no further.
            self.handleError(record)


class _Sink:
    """The end of the chain: writes finished lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def msg(self, line: str) -> None:
        if not line.isascii():
            line = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream has been closed
            return

    debug = info = warning = error = critical = msg


def _write(level: int, event: str, found: dict[str, Any]) -> None:
    # Libraries may use levels in between.
    name = next((name for least, name in _NAMES if level >= least), "debug")
    getattr(_log.logger, name)(event, **found)


def _shape(kind: type[Observation]) -> tuple[str, tuple[str, ...]]:
    """The event's name, and the names of its fields."""
    if kind not in _shapes:
        event = re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
        _shapes[kind] = event, tuple(field.name for field in fields(kind))
    return _shapes[kind]


_shapes: dict[type[Observation], tuple[str, tuple[str, ...]]] = {}


# Processors, as structlog calls them: (sink, name of the level, event or line) -> event or line


def _masked(sink: _Sink, level: str, event: _Event) -> _Event:
    """Without secrets, whether it is the name or the look of a value that gives it away."""
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: Any) -> Any:
    """The value as JSON knows it, masked."""
    if _is_secret(name):
        return MASK
    if isinstance(value, float):
        return round(value, 6)  # durations: beyond microseconds there is only noise
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {str(inner): _safe(str(inner), found) for inner, found in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe("", found) for found in value]
    return _without_secrets(str(value))


@lru_cache(1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _without_secrets(text: str) -> str:
    lower = text.lower()
    for needle, pattern, masked in _SECRETS:
        if needle in lower:
            text = pattern.sub(masked, text)
    return text


def _as_json(sink: _Sink, level: str, event: _Event) -> str:
    first = {name: event.pop(name) for name in ("timestamp", "level", "event")}
    return _to_json({**first, **event})


def _without_control_characters(sink: _Sink, level: str, event: _Event) -> _Event:
    """What others wrote (names of webhooks, answers) must not move the cursor, nor look like another line."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception" and not value.isprintable():
            event[name] = "".join(
                character if character.isprintable() else repr(character)[1:-1] for character in value
            )
    return event


def _with_priority(sink: _Sink, level: str, line: str) -> str:
    # The journal makes a record of every line; a traceback is several.
    return "\n".join(f"<{_PRIORITIES[level]}>{part}" for part in line.splitlines())


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file at all
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
