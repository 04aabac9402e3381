"""`pgrelay`: from arguments to a command, and from whatever ends it to an exit code.

0 fine · 1 found problems, or refused · 2 usage · 3 schema · 69 database unreachable · 70 a fault of pgrelay's own ·
74 the output cannot be written · 77 privilege missing · 78 configuration wrong, or the database is a copy ·
130 interrupted · 141 nobody reads on.
"""

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from pgrelay.cli.arguments import build_parser
from pgrelay.cli.output import Output
from pgrelay.cli.text import indented, printable
from pgrelay.errors import ConfigError, PgrelayError

INTERNAL = 70
CANNOT_WRITE = 74
INTERRUPTED = 130
NOBODY_READS = 141
#: Set it to see where in the program an internal error arose.
DEBUG_VARIABLE = "PGRELAY_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Its exit code."""
    _open_closed_streams()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except PgrelayError as error:
        _complain(error.message, error.remedy, several=isinstance(error, ConfigError))
        code = error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        code = INTERRUPTED
    except BrokenPipeError:
        _abandon_output()
        code = NOBODY_READS
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            _abandon_output()
            _complain(f"the output cannot be written: {error.strerror}", "")
            return CANNOT_WRITE
        if os.environ.get(DEBUG_VARIABLE):
            raise
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        _complain(
            f"internal error: {type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})",
            f"This is a fault of pgrelay. {DEBUG_VARIABLE}=1 shows where it arose; please report that.",
        )
        code = INTERNAL
    return code


def _open_closed_streams() -> None:
    """Started with a standard stream closed (`>&-`), the next socket would be taken for it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _abandon_output() -> None:
    """The interpreter flushes standard output once more as it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    out = Output.of_terminal(os.environ, json=arguments.json, no_color=arguments.no_color)
    from pgrelay.cli.context import Context

    result = command(arguments.run)(Context(arguments, out, os.environ))
    if isinstance(result, int):
        return result
    import asyncio

    return int(asyncio.run(result))


def command(name: str) -> Any:
    """The function that `name` ("module:function", the module one of this package) stands for."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pgrelay.cli.{module}"), function)


def _complain(message: str, remedy: str, *, several: bool = False) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    message = printable(message, lines=True)
    if several and "\n" in message:
        # file:line:column at the start of a line, so that editors find the place
        text = f"pgrelay: the configuration cannot be used:\n{message}\n"
    else:
        text = f"pgrelay: {message}\n"
    if remedy:
        text += indented(printable(remedy, lines=True)) + "\n"
    sys.stderr.write(text)
