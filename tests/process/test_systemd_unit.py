"""The unit file that is shipped, judged by systemd's own tools, and a process that talks as it must to be run by it.

Without systemd-analyze the judging is skipped: it comes with systemd, which not every machine has.
"""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pgrelay.config import Settings
from pgrelay.errors import ConfigError, NotTheOriginal

UNIT = Path(__file__).parents[2] / "contrib/systemd/pgrelay.service"
ANALYZE = shutil.which("systemd-analyze")

#: A service in short: starts, works, reloads, works, stops.
SERVICE = """
import sys
from pgrelay.systemd import Notifier, credentials_directory
notifier = Notifier()
notifier.status(f"interval {notifier.watchdog_interval}, credentials {credentials_directory()}")
notifier.ready()
for line in sys.stdin:
    if line == "work\\n":
        notifier.watchdog()
    elif line == "reload\\n":
        notifier.reloading()
        notifier.ready()
notifier.stopping()
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a command that exists here: the unit is judged, not whether pgrelay is installed."""
    if ANALYZE is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^(ExecStart=)\S+", r"\g<1>/bin/true", UNIT.read_text()))
    return copy


def directives(name: str) -> list[str]:
    return re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())


def test_systemd_understands_every_line_of_the_unit(installed):
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")


def test_a_line_that_systemd_does_not_understand_would_be_found(installed):
    installed.write_text(installed.read_text().replace("ProtectHome=", "ProtectHouse="))
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode != 0
    assert "ProtectHouse" in judged.stderr


def test_the_service_is_exposed_to_little(installed):
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


def test_the_unit_starts_the_command_on_the_configuration_that_is_looked_for():
    assert directives("ExecStart") == ["/opt/pgrelay/bin/pgrelay run --config /etc/pgrelay/config.yaml"]


def test_systemd_waits_longer_for_the_stop_than_the_daemon_drains():
    [stop] = directives("TimeoutStopSec")
    assert float(stop.removesuffix("s")) >= Settings().daemon.drain_timeout + 10.0


def test_what_needs_a_person_is_not_started_again():
    assert directives("Restart") == ["always"]
    assert directives("RestartPreventExitStatus") == [str(ConfigError.exit_code)]
    assert NotTheOriginal.exit_code == ConfigError.exit_code


def test_a_service_tells_its_whole_life_in_order(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20.0)
        environ = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "30000000",
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "PYTHONPATH": ":".join(path for path in sys.path if path),
        }
        with subprocess.Popen(
            [sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, text=True, env=environ
        ) as service:
            service.communicate("work\nreload\nwork\n", timeout=30)
        told = [systemd.recv(4096).decode() for _ in range(7)]
    assert service.returncode == 0
    assert told[0] == f"STATUS=interval 15.0, credentials {tmp_path}"
    assert told[1:3] == ["READY=1", "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", told[3])
    assert told[4:] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
