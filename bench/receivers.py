"""Who the requests go to: nginx for rates, our own receiver for moments. Both end with the benchmark."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# One worker, connections kept for ever, no more logged than asked: as little of the machine as a receiver can take.
_NGINX = """
worker_processes 1; daemon off; pid {directory}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  log_format key '$http_x_webhook_idempotency_key'; access_log {log};
  keepalive_requests 100000000; client_body_buffer_size 64k;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  {certificate}
  server {{ listen 127.0.0.1:{port}{ssl} backlog=1024; location / {{ return 200 'ok'; }} }}
}}
"""


class Arrival(NamedTuple):
    """One request that came whole."""

    path: str
    key: str
    #: time.monotonic_ns() at the receiver.
    at: int

    @property
    def resource_id(self) -> int:
        """The row it tells of: the second word of keys such as callback_17_created_1."""
        return int(self.key.split("_")[1])


class Recording:
    """Our own receiver, at `url`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def arrivals(self) -> list[Arrival]:
        """All that came since `forget`."""
        with urllib.request.urlopen(f"{self.url}/arrivals", timeout=30) as answer:
            return [Arrival(*found) for found in json.load(answer)]

    def forget(self) -> None:
        """Begin anew."""
        urllib.request.urlopen(f"{self.url}/forget", timeout=30).close()


@contextmanager
def recording() -> Iterator[Recording]:
    """Run our own receiver."""
    port = _free_port()
    script = Path(__file__).with_name("receiver.py")
    with subprocess.Popen([sys.executable, str(script), str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Recording(port)
        finally:
            process.terminate()


@contextmanager
def fast() -> Iterator[tuple[str, str]]:
    """What it is, and its URL: nginx where it is installed, else our own receiver, which can take less."""
    nginx = _nginx()
    if nginx is None:
        with recording() as receiver:
            yield "receiver.py", receiver.url + "/ok"
        return
    with (
        tempfile.TemporaryDirectory(prefix="pgrelay-nginx-") as directory,
        _serving(nginx, directory) as port,
    ):
        yield "nginx", f"http://127.0.0.1:{port}/ok"


class Counting(NamedTuple):
    """A receiver as fast as `fast`, and it keeps the idempotency key of each request."""

    what: str
    url: str
    #: Of all that came since `forget`; the last second may be missing.
    keys: Callable[[], list[str]]
    forget: Callable[[], None]


@contextmanager
def counting() -> Iterator[Counting]:
    """Run one: nginx writes the keys into its log, which costs it next to nothing."""
    nginx = _nginx()
    if nginx is None:
        with recording() as receiver:
            yield Counting(
                "receiver.py",
                receiver.url + "/ok",
                lambda: [arrival.key for arrival in receiver.arrivals()],
                receiver.forget,
            )
        return
    with tempfile.TemporaryDirectory(prefix="pgrelay-nginx-") as directory:
        log = Path(directory, "keys")
        with _serving(nginx, directory, log=f"{log} key buffer=64k flush=1s") as port:
            yield Counting(
                "nginx",
                f"http://127.0.0.1:{port}/ok",
                lambda: log.read_text().splitlines(),
                lambda: os.truncate(log, 0),
            )


@contextmanager
def fast_over_tls() -> Iterator[tuple[str, Path] | None]:
    """The URL of an nginx that speaks TLS, and the certificate to trust; None without nginx or openssl."""
    nginx = _nginx()
    if nginx is None or shutil.which("openssl") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pgrelay-nginx-") as directory:
        certificate, key = Path(directory, "certificate.pem"), Path(directory, "key.pem")
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        words += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"]
        words += ["-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(words, check=True, capture_output=True)
        with _serving(nginx, directory, f"ssl_certificate {certificate}; ssl_certificate_key {key};") as port:
            yield f"https://127.0.0.1:{port}/ok", certificate


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def _serving(nginx: str, directory: str, certificate: str = "", log: str = "off") -> Iterator[int]:
    port = _free_port()
    config = Path(directory, "nginx.conf")
    config.write_text(
        _NGINX.format(
            directory=directory,
            port=port,
            certificate=certificate,
            ssl=" ssl" if certificate else "",
            log=log,
        )
    )
    with subprocess.Popen([nginx, "-e", "stderr", "-c", str(config)]) as process:
        try:
            _wait_until_open(port)
            yield port
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_open(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")
