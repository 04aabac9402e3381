"""Requests over HTTP: `Transport.send` takes a Request and gives a Response or a Failure; `probe` takes one apart."""

from pgrelay.transport.certificate import Certificate
from pgrelay.transport.client import Transport
from pgrelay.transport.probing import Probe, probe
from pgrelay.transport.proxy import Proxy
from pgrelay.transport.tls import Tls, load_tls

__all__ = ["Certificate", "Probe", "Proxy", "Tls", "Transport", "load_tls", "probe"]
