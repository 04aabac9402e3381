"""The parser's own rules: global options before or after any command, whole words only, the nearest right word.

And how arguments are written: durations, moments, headers, KEY=VALUE. A type function raises ValueError's cousin
`argparse.ArgumentTypeError` with a sentence, which ends the command with exit code 2.
"""

import argparse
import difflib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from pgrelay.errors import PgrelayError
from pgrelay.payloads import FORMATS

_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.*)\)")


class UsageError(PgrelayError):
    """Arguments that do not fit together, seen only when they are used."""

    exit_code = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest right word and the next command to type."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            **{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **options}
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; what a command does not know is said by that command, not by the top."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(option, self._option_string_actions, n=1)
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return found, unknown

    def error(self, message: str) -> NoReturn:
        wrong = _INVALID_CHOICE.search(message)
        if wrong:
            choices = re.findall(r"[\w-]+", wrong["choices"])
            near = difflib.get_close_matches(wrong["word"], choices, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(choices)}"
            message = f"{message[: wrong.start()]}there is no {wrong['word']!r}; {meant}"
        self.exit(2, f"{self.prog}: {message}\n  See {self.prog} --help\n")


def global_options(*, top: bool) -> "Parser":
    """The options that every command has. Below the top they set nothing unless given, so that either place works."""
    options = Parser(add_help=False, argument_default=None if top else argparse.SUPPRESS)
    group = options.add_argument_group("global options")
    group.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration (else $PGRELAY_CONFIG, ./pgrelay.yaml, /etc/pgrelay/config.yaml)",
    )
    flag = False if top else argparse.SUPPRESS
    group.add_argument("--json", action="store_true", default=flag, help="data as JSON")
    group.add_argument("--no-color", action="store_true", default=flag, help="no colours (as NO_COLOR does)")
    return options


class Commands:
    """Where commands are registered. What runs one is named ("module:function"), and imported when it is run."""

    def __init__(self, parser: Parser, *, title: str = "commands", dest: str = "command") -> None:
        self._actions = parser.add_subparsers(
            title=title, metavar=dest.upper(), dest=dest, required=True, parser_class=Parser
        )
        self._common = global_options(top=False)

    def add(self, name: str, run: str | None, summary: str, **options: Any) -> Parser:
        """A command; without `run`, one that has commands of its own."""
        options.setdefault("description", summary[0].upper() + summary[1:] + ".")
        parser: Parser = self._actions.add_parser(name, help=summary, parents=[self._common], **options)
        if run is not None:
            parser.set_defaults(run=run)
        return parser


def yes(parser: argparse.ArgumentParser) -> None:
    """The option of commands that ask before they act."""
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def seconds(text: str) -> float:
    """A duration: 90, 90s, 5m, 2h, 30d."""
    from pgrelay.config.values import parse_duration

    try:
        return parse_duration(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text!r} {fault}") from None


def wait_list(text: str) -> list[int]:
    """Waits between attempts, in whole seconds: 60,5m,1h, or exponential 10s to 6h."""
    from pgrelay.config.values import parse_growth

    waits: list[float] = []
    for part in map(str.strip, text.split(",")):
        try:
            waits += parse_growth(part) or [seconds(part)]
        except ValueError as fault:
            raise argparse.ArgumentTypeError(f"{part!r} {fault}") from None
    if any(wait % 1 for wait in waits):
        raise argparse.ArgumentTypeError(f"{text!r} has a wait that is not whole seconds")
    return [int(wait) for wait in waits]


def rate(text: str) -> float:
    """Requests per second: 5, or 0.5 for one in two seconds."""
    from pgrelay.config.values import parse_number

    try:
        found = parse_number(text)
    except ValueError:
        found = 0.0
    if not 0.01 <= found <= 10_000:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a rate: write requests per second, 0.01 to 10000, like 5 or 0.5"
        )
    return found


def moment(text: str) -> datetime:
    """A moment in the past as a duration (2h: two hours ago), or as ISO 8601; without an offset it is local time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return datetime.now(UTC) - timedelta(seconds=seconds(text))
        except argparse.ArgumentTypeError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no time: write how long ago (90s, 2h, 3d) or ISO 8601 (2026-11-01T08:30)"
            ) from None
    return found.astimezone() if found.tzinfo is None else found


def header(text: str) -> tuple[str, str]:
    """`Name: value` or `Name=value`."""
    name, separator, value = text.partition("=" if _before(text, "=", ":") else ":")
    if not separator or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no header: write 'Name: value' or Name=value")
    return name.strip(), value.strip()


def _before(text: str, one: str, other: str) -> bool:
    return one in text and (other not in text or text.index(one) < text.index(other))


def port(text: str) -> int:
    """A TCP port, 0 for any free one."""
    return _within(text, 0, 65_535, "port")


def status_code(text: str) -> int:
    """The status of an HTTP answer."""
    return _within(text, 200, 599, "status code")


def _within(text: str, least: int, most: int, what: str) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}, {least} to {most}")
    return int(text[:9])


def places(text: str) -> int:
    """Requests at once."""
    return _within(text, 1, 10_000, "number of requests at once")


def ordering(text: str) -> str:
    """In which order a webhook gets its events."""
    if text not in ("none", "resource"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an ordering: write resource (events of one resource one after the other) or none"
        )
    return text


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text[:18]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    if len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r} is too big a number")
    return int(text)


def payload_format(text: str) -> str:
    """What a webhook is sent of an event."""
    if text not in FORMATS:
        near = difflib.get_close_matches(text, FORMATS, n=1, cutoff=0.5)
        meant = f"; did you mean {near[0]}?" if near else f": there are {', '.join(FORMATS)}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a payload format{meant}")
    return text


def document(text: str) -> str:
    """A JSON document: the text itself, or what the file of that name holds."""
    if text.lstrip()[:1] in ("{", "["):
        return text
    try:
        return Path(text).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a JSON object or array nor a file that can be read: {reason}"
        ) from None
