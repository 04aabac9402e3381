"""The configuration: `load()` reads it, `Settings` holds it, the table in keys.py says what there is.

Whoever changes a key changes its line in keys.py and the field of the same name in settings.py, and runs
`python -m pgrelay.config.example`.
"""

from pgrelay.config.keys import KEYS, Key
from pgrelay.config.load import load
from pgrelay.config.settings import (
    CircuitSettings,
    DaemonSettings,
    DatabaseSettings,
    DeliverySettings,
    HttpSettings,
    LogSettings,
    NetworkSettings,
    RetentionSettings,
    Settings,
    changed_keys,
    reloaded,
)

__all__ = [
    "KEYS",
    "CircuitSettings",
    "DaemonSettings",
    "DatabaseSettings",
    "DeliverySettings",
    "HttpSettings",
    "Key",
    "LogSettings",
    "NetworkSettings",
    "RetentionSettings",
    "Settings",
    "changed_keys",
    "load",
    "reloaded",
]
