"""pgrelay: row changes in Postgres become signed webhook deliveries, recorded in Postgres.

A receiver written in Python takes `verify` from here. It is imported at first use, so that `import pgrelay`, which
every command begins with, reads no other module of ours.
"""

from importlib import import_module

__version__ = "0.1.0"

#: What is for receivers, all of it from pgrelay.signing; types in __init__.pyi.
__all__ = ["Scheme", "WrongSignature", "__version__", "examine", "verify"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("pgrelay.signing"), name)
