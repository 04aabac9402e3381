"""The configuration as the program sees it: checked, units resolved, one frozen dataclass a section.

Durations are seconds, sizes bytes. What each value means, and its default, stands in the table of keys
(keys.py) under the same name. Only the composition root sees all of it; everything below is handed the values
it needs.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pgrelay.config.keys import KEY_BY_NAME, KEYS, Key
from pgrelay.sources import Source


def _default(key: str) -> Any:
    return KEY_BY_NAME[key].default


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    #: May hold a password, so it is never printed. Empty: libpq's own environment.
    dsn: str = field(default=_default("database.dsn"), repr=False)
    #: None: the same as dsn.
    listen_dsn: str | None = field(default=_default("database.listen_dsn"), repr=False)
    connect_timeout: float = _default("database.connect_timeout")
    statement_timeout: float = _default("database.statement_timeout")


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    #: load() puts the host name here when the file gives none.
    name: str = _default("daemon.name")
    lease: float = _default("daemon.lease")
    poll_interval: float = _default("daemon.poll_interval")
    fallback_poll_interval: float = _default("daemon.fallback_poll_interval")
    drain_timeout: float = _default("daemon.drain_timeout")
    batch_size: int = _default("daemon.batch_size")
    max_in_flight: int = _default("daemon.max_in_flight")
    max_buffered_outcomes: int = _default("daemon.max_buffered_outcomes")


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    max_concurrency: int = _default("delivery.max_concurrency")
    user_agent: str = _default("delivery.user_agent")
    max_response_bytes: int = _default("delivery.max_response_bytes")
    retry_schedule: tuple[float, ...] = _default("delivery.retry_schedule")
    retry_jitter: float = _default("delivery.retry_jitter")
    max_retry_wait: float = _default("delivery.max_retry_wait")


@dataclass(frozen=True, slots=True)
class CircuitSettings:
    #: In the order of CircuitLimits.
    open_after: int = _default("circuit.open_after")
    first_wait: float = _default("circuit.first_wait")
    longest_wait: float = _default("circuit.longest_wait")
    disable_after: float = _default("circuit.disable_after")
    disable_deliveries: int = _default("circuit.disable_deliveries")


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    allow_http: bool = _default("network.allow_http")
    #: Networks as ipaddress.ip_network() reads and writes them.
    allowed_networks: tuple[str, ...] = _default("network.allowed_networks")
    #: Absolute paths; empty: none.
    ca_file: str = _default("network.ca_file")
    client_certificate: str = _default("network.client_certificate")
    client_key: str = _default("network.client_key")
    #: May hold a password, so it is never printed. Empty: none.
    proxy: str = field(default=_default("network.proxy"), repr=False)


@dataclass(frozen=True, slots=True)
class SecretsSettings:
    #: As sealing.Keyring reads it; never printed.
    key: str = field(default=_default("secrets.key"), repr=False)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    #: "HOST:PORT", the host an address; None: nothing is served.
    listen: str | None = _default("http.listen")
    metrics_webhooks: int = _default("http.metrics_webhooks")


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = _default("log.level")
    format: str = _default("log.format")


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    events: float = _default("retention.events")
    deliveries: float = _default("retention.deliveries")
    attempts: float = _default("retention.attempts")


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `Settings()` is what an empty file gives, but for the name of the daemon."""

    #: The file that was read; None when there was none.
    path: Path | None = None
    owner: str = _default("owner")
    environment: str = _default("environment")
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    circuit: CircuitSettings = field(default_factory=CircuitSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    secrets: SecretsSettings = field(default_factory=SecretsSettings)
    log: LogSettings = field(default_factory=LogSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)
    #: What `pgrelay apply` installs; the daemon goes by what is installed, and does not look here.
    sources: tuple[Source, ...] = ()

    def value(self, key: Key) -> Any:
        holder = getattr(self, key.section) if key.section else self
        return getattr(holder, key.field)

    def with_values(self, values: dict[str, Any]) -> "Settings":
        """A copy in which the keys of `values`, by dotted name, have those values."""
        changed: dict[str, Any] = {}
        for name, value in values.items():
            key = KEY_BY_NAME[name]
            if key.section:
                section = changed.get(key.section, getattr(self, key.section))
                changed[key.section] = replace(section, **{key.field: value})
            else:
                changed[key.field] = value
        return replace(self, **changed)


def changed_keys(before: Settings, after: Settings) -> tuple[Key, ...]:
    """The keys whose values differ, in the order of the table. Sources are not among them: see `apply`."""
    return tuple(key for key in KEYS if before.value(key) != after.value(key))


def reloaded(before: Settings, after: Settings) -> Settings:
    """What a running daemon goes by once `after` was read: its reloadable keys, and all else as it was."""
    return before.with_values({key.name: after.value(key) for key in KEYS if key.reloadable})
