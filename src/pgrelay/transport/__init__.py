"""Requests over HTTP: `Transport.send` takes a Request and gives a Response or a Failure."""

from pgrelay.transport.client import Transport
from pgrelay.transport.proxy import Proxy
from pgrelay.transport.tls import Tls, load_tls

__all__ = ["Proxy", "Tls", "Transport", "load_tls"]
