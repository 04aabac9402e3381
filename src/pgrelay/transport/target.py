"""Where requests for one URL go, and the beginning of what is written there. Pure."""

from dataclasses import dataclass
from typing import Self

from yarl import URL


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be called, as far as it tells by itself, taken apart."""

    #: As it is spelled: a name, or an address without brackets.
    host: str
    port: int
    tls: bool
    #: What stands in the header Host.
    authority: str
    #: Path and query, exactly as given.
    path: str
    #: The first lines of a request: `POST … HTTP/1.1` and `Host`.
    opening: str
    #: The same for a proxy that forwards requests: it is told the whole URL.
    absolute_opening: str

    @classmethod
    def of(cls, text: str) -> Self:
        """From a URL that `check_url` has passed; ValueError if there is something wrong with it still."""
        url = URL(text, encoded=True)
        host, port = url.raw_host, url.port
        if not host or not port:
            raise ValueError("the URL has no host")
        authority = url.host_port_subcomponent or host
        path = url.raw_path_qs
        rest = f" HTTP/1.1\r\nHost: {authority}\r\n"
        return cls(
            host=host,
            port=port,
            tls=url.scheme == "https",
            authority=authority,
            path=path,
            opening=f"POST {path}{rest}",
            absolute_opening=f"POST {url.scheme}://{authority}{path}{rest}",
        )

    @property
    def place(self) -> tuple[bool, str, int]:
        """What targets that may share a connection have in common."""
        return self.tls, self.host, self.port

    @property
    def server_name(self) -> str:
        """What the certificate has to be for."""
        return self.host.rstrip(".")
