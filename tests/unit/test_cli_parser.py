"""The command line as it is typed: options anywhere, mistakes with the nearest right word, values read strictly."""

import argparse
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pgrelay.cli import parser as types
from pgrelay.cli.arguments import build_parser
from pgrelay.cli.completion import walk
from pgrelay.cli.main import command
from pgrelay.cli.options import read_options
from pgrelay.cli.parser import UsageError


def parse(line):
    return build_parser().parse_args(line.split())


@pytest.fixture
def complaint(capsys):
    """What is said about a command line that cannot be; its exit code is 2."""

    def complaint(line):
        with pytest.raises(SystemExit) as ended:
            parse(line)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return complaint


@pytest.mark.parametrize(
    "line",
    [
        "--json -c x.yaml webhooks list",
        "webhooks --json --config x.yaml list",
        "webhooks list -c x.yaml --json",
        "--json webhooks -c x.yaml list",
    ],
)
def test_global_options_stand_before_or_after_any_command(line):
    arguments = parse(line)
    assert (arguments.config, arguments.json, arguments.no_color) == (Path("x.yaml"), True, False)


def test_without_them_they_have_their_defaults():
    arguments = parse("webhooks list")
    assert (arguments.config, arguments.json, arguments.no_color) == (None, False, False)


def test_every_command_leads_to_a_function_that_exists():
    found = set()
    for node in walk(build_parser(), ()):
        if not node.commands:
            words = [*node.words]
            run = _run_of(words)
            found.add(" ".join(words))
            assert callable(command(run)), words
    assert {
        "migrate",
        "apply",
        "check",
        "run",
        "webhooks rotate-secret",
        "deliveries show",
        "uninstall",
    } <= found


def _run_of(words):
    parser = build_parser()
    for word in words:
        (below,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = below.choices[word]
    return parser.get_default("run")


def test_every_command_and_option_explains_itself():
    silent = []
    for node in walk(build_parser(), ()):
        silent += [(*node.words, name) for name, summary in node.commands if not summary]
        # what an option of `webhooks add` means is its name
        silent += [
            (*node.words, action.option_strings[0])
            for action in node.options
            if not action.help
            and action.option_strings[0][2:] not in {"name", "description", "webhook", "status", "secret"}
        ]
    assert silent == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("webhoks", "there is no 'webhoks'; did you mean webhooks?"),
        ("webhooks lst", "did you mean list?"),
        ("deliveries list --status done", "there is no 'done'; there are pending, in_flight, succeeded"),
        ("qqq", "there is no 'qqq'; there are demo, migrate"),
        ("", "the following arguments are required: COMMAND"),
        ("webhooks show x", "'x' is not a whole number from 1"),
        (
            "webhooks list --compnay 3",
            "pgrelay webhooks list: unrecognized arguments: --compnay 3; did you mean --company?",
        ),
        ("webhooks delete 21 22", "pgrelay webhooks delete: unrecognized arguments: 22"),
        ("webhooks show 9999999999999999999", "'9999999999999999999' is too big a number"),
        ("webhooks show 0", "'0' is not a whole number from 1"),
        ("adopt --keep-pending --cancel-pending", "not allowed with argument"),
        ("webhooks add --nam x", "required: --company, --name"),
    ],
)
def test_mistakes_name_the_nearest_right_word_and_where_to_read_on(complaint, line, words):
    said = complaint(line)
    assert words in said
    assert "--help" in said.splitlines()[-1]
    assert "usage:" not in said


def test_help_is_quick_because_it_imports_neither_driver_nor_yaml_nor_asyncio():
    program = (
        "import sys; from pgrelay.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'psycopg', 'aiohttp', 'yaml', 'asyncio', 'structlog'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "webhooks" in done.stdout


# Values ---------------------------------------------------------------------------------------------------------


def test_a_moment_is_how_long_ago_or_iso_8601():
    before = datetime.now(UTC) - timedelta(hours=2)
    found = types.moment("2h")
    assert timedelta(0) <= found - before < timedelta(minutes=1)
    assert types.moment("2026-11-01T08:30+01:00") == datetime(2026, 11, 1, 7, 30, tzinfo=UTC)
    assert types.moment("2026-11-01").tzinfo is not None
    with pytest.raises(argparse.ArgumentTypeError, match="how long ago"):
        types.moment("yesterday")


def test_durations_and_lists_of_waits():
    assert types.seconds("5m") == 300.0
    assert types.wait_list("60, 5m,1h") == [60, 300, 3600]
    with pytest.raises(argparse.ArgumentTypeError, match="'5x' is not a duration"):
        types.wait_list("60,5x")
    assert types.wait_list("5s, exponential 10s..1m") == [5, 10, 20, 40, 60]
    assert types.wait_list("exponential 10s to 20s") == [10, 20]
    with pytest.raises(argparse.ArgumentTypeError, match="'exponential 10s' is not a growing schedule"):
        types.wait_list("exponential 10s")
    with pytest.raises(argparse.ArgumentTypeError, match="not whole seconds"):
        types.wait_list("100ms")


def test_limits_of_a_webhook():
    assert (types.rate("0.5"), types.rate("10000"), types.places("3")) == (0.5, 10_000.0, 3)
    assert (types.ordering("none"), types.ordering("resource")) == ("none", "resource")
    for rate in ("0", "0.001", "-1", "5/s", "10001", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="write requests per second"):
            types.rate(rate)
    for places in ("0", "10001", "2.5", "-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="requests at once, 1 to 10000"):
            types.places(places)
    with pytest.raises(argparse.ArgumentTypeError, match="'fifo' is not an ordering: write resource"):
        types.ordering("fifo")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("X-Key: a=b", ("X-Key", "a=b")),
        ("X-Key=a:b", ("X-Key", "a:b")),
        ("X-Key:", ("X-Key", "")),
        ("X-Webhook-Signature: sha256=00", ("X-Webhook-Signature", "sha256=00")),
    ],
)
def test_headers_are_written_with_a_colon_or_an_equals_sign(text, found):
    assert types.header(text) == found


def test_what_is_no_header_no_port_and_no_status_is_refused():
    for read, text in [
        (types.header, "nothing"),
        (types.header, ": x"),
        (types.port, "65536"),
        (types.status_code, "99"),
    ]:
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            read(text)


# KEY=VALUE ------------------------------------------------------------------------------------------------------


def test_options_of_a_webhook_become_columns():
    values, headers = read_options(
        [
            "url=https://a?b=c",
            "timeout=5s",
            "max-attempts=9",
            "schedule=60,5m",
            "event=a.b, c.*",
            "header.X=1=2",
            "header.Y=",
        ]
    )
    assert values == {
        "url": "https://a?b=c",
        "timeout_seconds": 5,
        "max_retry_attempts": 9,
        "retry_schedule": [60, 300],
        "subscribed_events": ["a.b", "c.*"],
    }
    assert headers == {"X": "1=2", "Y": ""}


def test_empty_values_take_the_default():
    assert read_options(["schedule=", "description="])[0] == {"retry_schedule": None, "description": None}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("timeout", "not KEY=VALUE"),
        ("timot=5", "did you mean timeout?"),
        ("timeout=x", "timeout: 'x' is not a duration"),
        ("secret_key=x", "a webhook has no option 'secret_key'"),
        ("header.=x", "a webhook has no option 'header.'"),
    ],
)
def test_wrong_options_say_what_is_wrong_with_them(option, words):
    with pytest.raises(UsageError) as wrong:
        read_options([option])
    assert words in wrong.value.message
    assert wrong.value.exit_code == 2
