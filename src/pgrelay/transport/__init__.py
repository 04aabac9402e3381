"""Requests over HTTP: `Transport.send` takes a Request and gives a Response or a Failure."""

from pgrelay.transport.client import Transport

__all__ = ["Transport"]
