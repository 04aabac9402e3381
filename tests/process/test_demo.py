"""`pgrelay demo` keeps its promises, says so when one is not kept, and leaves nothing behind however it ends."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import psycopg
import pytest

from support.database import in_memory

DEMO = [sys.executable, "-m", "pgrelay", "demo", "--fast"]
EVENTS = {"created", "assigned", "contacted", "completed", "cancelled", "expired", "overdue", "escalated"}
#: The demonstration with a part of it exchanged first.
MEDDLED = """
import sys
from pgrelay.cli.main import main
{meddling}
sys.exit(main(["demo", "--fast"]))
"""
WITHOUT_POSTGRES = """
import shutil
from pgrelay.demo import binaries
binaries._PACKAGED, binaries.WHEEL = (), "no_such_wheel"
binaries.shutil.which = lambda name: None
"""
WITH_WRONG_SECRET = """
from pgrelay.demo import hooks
opening = hooks.Hook.open
async def open_with_another_secret(hook):
    hook.secret = "whsec_" + "A" * 32
    await opening(hook)
hooks.Hook.open = open_with_another_secret
"""


@contextmanager
def temporary_place() -> Iterator[Path]:
    """Where temporary files go: a place that the server's account can enter too, which pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=in_memory()))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        rmtree(directory)


@pytest.fixture
def place() -> Iterator[Path]:
    with temporary_place() as directory:
        yield directory


@pytest.fixture(scope="module")
def shown() -> Iterator[str]:
    """What one whole demonstration prints; it ended well, said nothing on standard error, and left nothing."""
    with temporary_place() as place:
        done = subprocess.run(
            DEMO, capture_output=True, text=True, timeout=300, check=False, env=environment(place)
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert left_behind(place) == []
        yield done.stdout


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(place), "PYTHONUNBUFFERED": "1", "DEMO_TEST": str(place)}


@contextmanager
def start(place: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """As from a terminal: what runs in the background, as these tests may, is born deaf to Ctrl-C."""
    with subprocess.Popen(
        [*DEMO, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(place),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()  # a test that fails leaves it running, and would wait for it for ever


def run_meddled(place: Path, meddling: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MEDDLED.format(meddling=meddling)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(place),
    )


def read_until(demo: subprocess.Popen[str], moment: str) -> str:
    """What it said up to the line with `moment`."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if moment in line:
            return said
    raise AssertionError(f"it ended before it said {moment!r}:\n{said}")


def left_behind(place: Path) -> list[str]:
    """Files of a demonstration, and its processes, which all inherit its environment."""
    mark = f"DEMO_TEST={place}".encode()
    processes = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (directory / "environ").read_bytes():
                processes.append((directory / "cmdline").read_text())
        except OSError:
            continue  # it has just ended, or is somebody else's
    return processes + [str(path) for path in place.iterdir()]


@pytest.mark.slow
def test_it_shows_all_events_a_retry_a_dead_letter_and_its_rescue_and_ends_well(shown):
    assert set(re.findall(r"event +callback\.(\w+)", shown)) == EVENTS
    assert re.search(r"recv +crm.example +200 .* after commit +verified \(standard \+ sha256\)", shown)
    assert re.search(r"retry +mail.example .* status 500; next attempt in", shown)
    assert re.search(r"recv +mail.example +200 +completed #\d+ +attempt 2", shown)
    assert len(re.findall(r"dead +port.example .* attempt 3 of 3 .* dead letter", shown)) == 2
    assert len(re.findall(r"recv +port.example +200", shown)) == 2
    assert re.search(r"kill +process \d+", shown) and "all 301 arrived" in shown
    assert "\x1b" not in shown


@pytest.mark.slow
def test_its_closing_numbers_agree_with_each_other(shown):
    made = int(re.search(r"(\d+) deliveries owed and \1 made, every signature right", shown)[1])
    figures = re.findall(r"\.example +\d +(\d+) +(\d+) +(\d+) +0\n", shown)
    attempts, successes, failures = (sum(map(int, column)) for column in zip(*figures, strict=True))
    assert (len(figures), successes, failures) == (3, made, 2)
    assert re.search(rf"status +count\n +succeeded +{made}\n", shown)
    outcomes = dict(re.findall(r"\n {10}(success|lapsed|connect|status)(?: +\d+)?? +(\d+)(?=\n)", shown))
    assert sum(map(int, outcomes.values())) == attempts
    assert int(outcomes["success"]) == made and int(outcomes["connect"]) == 6


@pytest.mark.slow
def test_kept_it_shows_what_arrives_until_it_is_interrupted(place):
    with start(place, "--keep") as demo:
        said = read_until(demo, "tail -f")
        dsn = re.search(r"psql '(host=.*)'", said)[1]
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'You', '1')"
            )
        assert "verified" in read_until(demo, "recv   crm.example")
        config = re.search(r"PGRELAY_CONFIG=(.*)", said)[1]
        explained = subprocess.run(
            [sys.executable, "-m", "pgrelay", "--config", config, "webhooks", "test", "1", "--explain"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert explained.returncode == 0, explained.stdout + explained.stderr
        assert "webhook.test" in read_until(demo, "recv   crm.example")
        os.kill(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0 and "all gone" in rest
    assert left_behind(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["A Postgres of its own", "its files", "pgrelay migrate", "dead "])
def test_ctrl_c_at_any_moment_leaves_no_process_and_no_file(place, moment):
    with start(place) as demo:
        read_until(demo, moment)
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    assert "Nothing is left behind" in rest and "Traceback" not in rest
    assert left_behind(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_else_ends_it_nothing_is_left_behind(place, number):
    with start(place) as demo:
        read_until(demo, "recv   crm.example   200")
        os.kill(demo.pid, number)
        # the guardian of the server has the same standard error: what is read here ends when it has ended
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode in (-number, 128 + number)
    assert "Traceback" not in rest
    assert left_behind(place) == []


def test_without_a_postgres_it_names_the_one_command_that_brings_one(place):
    done = run_meddled(place, WITHOUT_POSTGRES)
    assert done.returncode == 1
    assert "pip install 'pgrelay[demo]'" in done.stderr and "Traceback" not in done.stderr
    assert left_behind(place) == []


@pytest.mark.slow
def test_a_signature_that_is_wrong_ends_it_with_a_clear_word_and_exit_code_1(place):
    done = run_meddled(place, WITH_WRONG_SECRET)
    assert done.returncode == 1
    assert re.search(r"crm.example received callback.created \S+, and its signature is wrong", done.stderr)
    assert left_behind(place) == []
