"""How observations and the words of libraries become lines, and what of them never gets out."""

import asyncio
import io
import json
import logging
import os
import pty
import tempfile
import timeit
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgrelay import logs, observation
from pgrelay.delivery import ErrorKind
from pgrelay.logs import configure, log_observation, set_level
from pgrelay.observation import (
    AttemptFailed,
    ConfigReloaded,
    DaemonStarted,
    DatabaseLost,
    Delivered,
    DeliveryFailed,
    NotificationsArriving,
    Observation,
    UpkeepFailed,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STARTED = DaemonStarted(daemon_id=7, name="app-1", version="1.2.3")
DELIVERED = Delivered(1, 2, 3, "callback.created", "callback_2_created_1", 1, 200, 0.0123, 0.002)
FAILED = AttemptFailed(
    1, 2, 3, "callback.created", "callback_2_created_1", 1, ErrorKind.STATUS, "HTTP 503", 503, 0.1, 60.0
)


@pytest.fixture(autouse=True)
def afterwards_as_before() -> Iterator[None]:
    root, threshold, logger = logging.getLogger(), logs._log.threshold, logs._log.logger
    handlers, level = list(root.handlers), root.level
    yield
    logs._log.threshold, logs._log.logger = threshold, logger
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def written(*observations: Observation, level: str = "debug") -> list[dict[str, Any]]:
    """What these observations are as lines of JSON."""
    stream = io.StringIO()
    configure(level, "json", stream)
    for each in observations:
        log_observation(each)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def on_console(*observations: Observation) -> str:
    stream = io.StringIO()
    configure("debug", "console", stream)
    for each in observations:
        log_observation(each)
    return stream.getvalue()


# Observations


def test_a_line_is_an_object_that_begins_with_time_level_and_event_and_holds_every_field():
    [line] = written(FAILED)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "level": "warning",
        "event": "attempt_failed",
        "delivery_id": 1,
        "event_id": 2,
        "webhook_id": 3,
        "event_type": "callback.created",
        "idempotency_key": "callback_2_created_1",
        "attempt": 1,
        "error_kind": "status",
        "error_message": "HTTP 503",
        "status_code": 503,
        "duration": 0.1,
        "retry_in": 60.0,
        "waited": 0.0,
    }


def test_an_observation_without_fields_and_one_with_lists_are_lines_too():
    empty, lists = written(NotificationsArriving(), ConfigReloaded(("log.level",), ()))
    assert empty["event"] == "notifications_arriving"
    assert (lists["changed"], lists["needs_restart"]) == (["log.level"], [])


def test_what_is_lost_for_good_is_critical_and_what_went_well_is_hardly_worth_a_line():
    failed = DeliveryFailed(1, 2, 3, "crm", "callback.created", "key", 3, "timeout", "slow", None)
    lost, upkeep = DatabaseLost("claim", "gone", 1.0), UpkeepFailed("retention", "gone")
    lines = written(failed, FAILED, DELIVERED, STARTED, lost, upkeep)
    assert [line["level"] for line in lines] == ["critical", "warning", "debug", "info", "error", "error"]


def test_every_level_is_one_of_an_observation_that_exists():
    assert {kind for kind in logs.LEVELS if getattr(observation, kind.__name__, None) is not kind} == set()


@pytest.mark.parametrize(
    ("level", "events"),
    [
        ("debug", ["delivered", "daemon_started", "attempt_failed", "delivery_failed"]),
        ("info", ["daemon_started", "attempt_failed", "delivery_failed"]),
        ("warning", ["attempt_failed", "delivery_failed"]),
        ("error", ["delivery_failed"]),
    ],
)
def test_lines_below_the_level_are_not_written(level, events):
    failed = DeliveryFailed(1, 2, 3, "crm", "callback.created", "key", 3, "timeout", "slow", None)
    assert [line["event"] for line in written(DELIVERED, STARTED, FAILED, failed, level=level)] == events


def test_the_level_can_change_while_the_daemon_runs():
    stream = io.StringIO()
    configure("info", "json", stream)
    log_observation(DELIVERED)
    set_level("debug")
    log_observation(DELIVERED)
    set_level("error")
    log_observation(FAILED)
    assert len(stream.getvalue().splitlines()) == 1


def test_an_observation_below_the_level_costs_a_small_part_of_a_line():
    configure("info", "json", io.StringIO())
    skipped = min(timeit.repeat(lambda: log_observation(DELIVERED), number=1000, repeat=5))
    made = min(timeit.repeat(lambda: log_observation(FAILED), number=1000, repeat=5))
    assert skipped < made / 10


# Secrets


@dataclass(frozen=True, slots=True)
class Leak(Observation):
    text: Any = ""
    secret_key: Any = None
    webhook_signature: Any = None
    Authorization: Any = None
    nested: Any = None


@pytest.mark.parametrize(
    "text",
    [
        f"the secret is {SECRET}.",
        f'{{"secret": "{SECRET}"}}',
        "X-Webhook-Signature: sha256=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,h0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "Authorization: Bearer g0hM9SsE.h0hM9SsE-1",
        "authorization: basic g0hM9SsE+h0hM9SsE==",
        "no such token: pgrelay_g0hM9SsE-h0hM9SsE_g0hM9SsE-h0hM9SsE_0123456x",
        "postgresql://relay:g0hM9SsE%20h0hM9SsE@db.internal/app",
        "connection failed: host=db password=g0hM9SsE-h0hM9SsE user=relay",
        r"password = 'g0hM9SsE \' h0hM9SsE' user=relay",
        "PASSWORD=g0hM9SsEüh0hM9SsE",
        "see https://example.com/a?key=g0hM9SsE&b=h0hM9SsE for more",
    ],
)
@pytest.mark.parametrize("place", ["text", "nested"])
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(text, place):
    found = text if place == "text" else {"answer": [text, (text,)]}
    [line] = written(Leak(**{place: found}))
    console = on_console(Leak(**{place: found}))
    for shown in (json.dumps(line, ensure_ascii=False), console):
        assert "***" in shown
        for part in (SECRET[6:], "80ec8a89ce3c", "0hM9SsE", "c94c"):
            assert part not in shown


@pytest.mark.parametrize("place", ["secret_key", "webhook_signature", "Authorization"])
def test_what_is_called_a_secret_is_masked_whatever_it_looks_like(place):
    assert written(Leak(**{place: "plain"}))[0][place] == "***"
    nested = written(Leak(nested=MappingProxyType({"headers": [{place: "plain"}]})))[0]
    assert nested["nested"] == {"headers": [{place: "***"}]}


def test_what_is_no_secret_is_left_as_it_is():
    text = "callback_2_created_1: https://receiver.example:8443/a, b=c@d, v1,short, sha256=abc, basic needs"
    [line] = written(Leak(text=text))
    assert line["text"] == text
    assert written(FAILED)[0]["idempotency_key"] == "callback_2_created_1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.text(max_size=5))
def test_whatever_stands_around_a_secret_a_line_is_one_object_and_does_not_hold_it(value, around):
    stream = io.StringIO()
    configure("debug", "json", stream)
    log_observation(Leak(text=f"{around} {SECRET}", nested=value))
    assert stream.getvalue().count("\n") == 1
    line = json.loads(stream.getvalue())
    assert SECRET not in line["text"]


# Forms


def test_console_lines_are_for_people_and_json_for_programs():
    assert "daemon_started" in on_console(STARTED)
    assert "name=app-1" in on_console(STARTED)
    assert "\x1b" not in on_console(STARTED)


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\r\nb\x9bd\u2028e", "\x00"])
def test_what_a_tenant_or_a_library_wrote_cannot_steer_the_terminal_nor_forge_a_line(text):
    stream = io.StringIO()
    configure("info", "console", stream)
    logging.getLogger(text).warning("%s", text)
    for line in (stream.getvalue(), on_console(Leak(text=text)), on_console(Leak(nested=[text]))):
        assert line.count("\n") == 1
        assert line.removesuffix("\n").isprintable()


def open_terminal() -> tuple[int, TextIO]:
    there, here = pty.openpty()
    return there, os.fdopen(here, "w", encoding="utf-8")


def test_auto_is_console_in_colours_on_a_terminal_unless_no_color_is_set():
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        there, terminal = open_terminal()
        with terminal:
            configure("info", "auto", terminal, environ=environ)
            log_observation(STARTED)
            shown = os.read(there, 4096).decode()
        os.close(there)
        assert "daemon_started" in shown
        assert not shown.startswith("{")
        assert ("\x1b[" in shown) is coloured


def test_auto_is_json_anywhere_else(tmp_path):
    with (tmp_path / "log").open("w") as stream:
        configure("info", "auto", stream, environ={})
        log_observation(STARTED)
    assert json.loads((tmp_path / "log").read_text())["event"] == "daemon_started"


def as_journal(stream: Any) -> dict[str, str]:
    """The environment in which systemd has connected this stream to the journal."""
    found = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_journal_is_told_the_priority_of_every_line(form):
    with tempfile.TemporaryFile("w+") as stream:
        configure("debug", form, stream, environ=as_journal(stream))
        for each in (DELIVERED, STARTED, FAILED, DatabaseLost("claim", "gone", 1.0)):
            log_observation(each)
        log_observation(DeliveryFailed(1, 2, 3, "crm", "e.x", "key", 3, "timeout", "slow", None))
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("asyncio").exception("unexpected")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert [line[:3] for line in lines[:6]] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert {line[:3] for line in lines[6:]} <= {"<3>"}
    if form == "json":
        assert json.loads(lines[5][3:])["exception"].endswith("ValueError: two\nlines")


def test_a_stream_that_is_not_the_journal_gets_no_priority_even_under_systemd(tmp_path):
    with tempfile.TemporaryFile("w+") as journal, (tmp_path / "log").open("w") as stream:
        configure("info", "json", stream, environ=as_journal(journal))
        log_observation(STARTED)
    assert (tmp_path / "log").read_text().startswith("{")


def test_standard_output_is_the_default(capsys):
    configure("info", "json")
    log_observation(STARTED)
    assert json.loads(capsys.readouterr().out)["event"] == "daemon_started"


def test_a_stream_that_knows_ascii_only_gets_the_rest_escaped():
    taken = io.BytesIO()
    configure("info", "console", io.TextIOWrapper(taken, encoding="ascii", write_through=True))
    log_observation(DaemonStarted(7, "büro", "1"))
    assert b"name=b\\xfcro" in taken.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_text_that_is_no_unicode_is_written_all_the_same(form):
    taken = io.BytesIO()
    configure("info", form, io.TextIOWrapper(taken, encoding="utf-8", write_through=True))
    log_observation(DaemonStarted(7, "b\udcffro", "1"))
    assert b"udcff" in taken.getvalue()


def test_a_stream_that_cannot_be_written_is_no_failure():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", buffering=1) as stream:
        configure("info", "json", stream)
        os.close(reading)
        log_observation(STARTED)
        with pytest.raises(BrokenPipeError):
            stream.flush()  # what we wrote is still in the buffer, and leaves no better now
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    log_observation(STARTED)  # closed by now


# Libraries


def from_libraries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_what_libraries_warn_of_is_a_line_like_any_other_and_masked_like_any_other():
    stream = io.StringIO()
    configure("info", "json", stream)
    logging.getLogger("aiohttp.client").info("not this")
    logging.getLogger("psycopg.pool").warning("error connecting: %s", "postgresql://u:t0psecret@h/db")
    logging.getLogger("aiohttp.server").critical("worse")
    logging.getLogger("odd").log(35, "in between")
    [warning, critical, between] = from_libraries(stream)
    assert (warning["level"], warning["logger"]) == ("warning", "psycopg.pool")
    assert warning["event"] == "error connecting: postgresql://u:***@h/db"
    assert (critical["level"], critical["event"]) == ("critical", "worse")
    assert between["level"] == "warning"


def test_what_libraries_say_at_debug_stays_with_them_at_any_level():
    stream = io.StringIO()
    configure("debug", "json", stream)
    logging.getLogger("asyncio").debug("Using selector: EpollSelector")
    logging.getLogger("asyncio").info("more")
    assert stream.getvalue() == ""


def test_libraries_are_held_to_the_level_too():
    stream = io.StringIO()
    configure("error", "json", stream)
    logging.getLogger("asyncio").warning("slow")
    logging.getLogger("asyncio").error("broken")
    assert [line["event"] for line in from_libraries(stream)] == ["broken"]


def test_an_exception_that_no_task_caught_is_a_line_with_its_traceback():
    stream = io.StringIO()
    configure("info", "json", stream)

    async def fail() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    asyncio.run(fail())
    [line] = from_libraries(stream)
    assert (line["level"], line["logger"]) == ("error", "asyncio")
    assert "ZeroDivisionError" in line["exception"]


def test_python_warnings_are_lines():
    stream = io.StringIO()
    configure("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # catch_warnings has put its own in place
        logging.captureWarnings(True)
        warnings.warn("old habit", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    [line] = from_libraries(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "old habit" in line["event"]


def test_a_malformed_message_of_a_library_is_shown_and_stops_nothing(capsys):
    stream = io.StringIO()
    configure("info", "json", stream)
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not hasattr(handler, "records")]  # pytest's
    logging.getLogger("careless").warning("%d items", "many")
    logging.getLogger("careful").warning("fine")
    assert [line["event"] for line in from_libraries(stream)] == ["fine"]
    assert "Logging error" in capsys.readouterr().err


def test_configuring_again_replaces_what_was_before():
    first, second = io.StringIO(), io.StringIO()
    configure("info", "json", first)
    configure("info", "json", second)
    log_observation(STARTED)
    logging.getLogger("asyncio").warning("once")
    assert first.getvalue() == ""
    assert [line["event"] for line in from_libraries(second)] == ["daemon_started", "once"]
