"""The whole command line as one tree of parsers: what there is, in the order in which one meets it."""

import argparse

from pgrelay import __version__
from pgrelay.cli.arguments_api import add_api
from pgrelay.cli.arguments_deliveries import add_deliveries, add_receiving
from pgrelay.cli.arguments_webhooks import add_secrets, add_webhooks
from pgrelay.cli.parser import Commands, Parser, global_options, positive, yes

_EPILOG = """\
A first tour:
  pgrelay demo                          everything, live, on an embedded Postgres
  pgrelay migrate                       install the schema pgrelay
  pgrelay apply --plan                  what the configuration would change
  pgrelay apply && pgrelay check        watch the tables, and see whether all is well
  pgrelay webhooks add --company 42 --name CRM --url https://… --event 'callback.*'
  pgrelay run                           deliver

Data goes to standard output, everything else to standard error. Exit codes: 0 fine, 1 problems found or refused,
2 usage, 3 schema (run migrate), 69 database unreachable, 77 privilege missing, 78 configuration wrong.
"""


def build_parser() -> Parser:
    """The parser; its namespace has `run`, "module:function" of what to do."""
    parser = Parser(
        prog="pgrelay",
        description="Row changes in Postgres become signed webhook deliveries.",
        epilog=_EPILOG,
        parents=[global_options(top=True)],
    )
    parser.add_argument("--version", action="version", version=f"pgrelay {__version__}")
    commands = Commands(parser)
    _add_installing(commands)
    _add_running(commands)
    add_webhooks(commands)
    add_deliveries(commands)
    add_receiving(commands)
    add_api(commands)
    add_secrets(commands)
    _add_leaving(commands)
    return parser


def _add_installing(commands: Commands) -> None:
    demo = commands.add("demo", "demo:demo", "see everything live, on an embedded Postgres")
    demo.add_argument("--keep", action="store_true", help="keep the database afterwards")
    demo.add_argument("--fast", action="store_true", help="do not wait for anybody to read along")

    migrate = commands.add("migrate", "migrate:migrate", "install or upgrade the schema pgrelay")
    migrate.add_argument(
        "--sql",
        action="store_true",
        help="print what would run, for psql, and do nothing; works without a database",
    )

    apply = commands.add(
        "apply",
        "apply:apply",
        "watch the tables that the configuration names",
        description="Make the database watch what the configuration's sources say, in one transaction: new and changed"
        "\nsources are installed, broken ones mended, and those gone from the file (of the same owner) unwatched.",
    )
    apply.add_argument(
        "--plan",
        action="store_true",
        help="show the difference, the statements and their locks; change nothing",
    )
    apply.add_argument("--full", action="store_true", help="the same, with the generated functions in full")


def _add_running(commands: Commands) -> None:
    commands.add(
        "check",
        "check:check",
        "look for everything that could be wrong",
        description="Look at configuration, database, sources, daemons and webhooks. One line a finding, and below it\n"
        "how to mend it. Exit code 0: all fine; 1: warnings; 2: errors.",
    )
    run = commands.add(
        "run",
        "run:run",
        "the daemon: deliver until stopped",
        description="Deliver until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.",
    )
    run.add_argument(
        "--processes",
        type=positive,
        default=1,
        metavar="N",
        help="so many daemons under one roof, where one processor core is not enough",
    )
    run.add_argument("--process", type=positive, help=argparse.SUPPRESS)  # one of them
    run.add_argument(
        "--no-uvloop", action="store_true", help="use asyncio's own event loop even if uvloop is there"
    )

    status = commands.add("status", "status:status", "daemons, queue, webhooks and errors on one page")
    status.add_argument(
        "--watch",
        nargs="?",
        type=positive,
        const=2,
        metavar="SECONDS",
        help="show it again and again (every 2 s)",
    )

    top = commands.add(
        "top",
        "top:top",
        "rates, queue, webhooks and failures, live",
        description="What is delivered, what waits and what fails, read of the database every second.\n"
        "q or Ctrl-C ends it. Without a terminal it prints once.",
    )
    top.add_argument("--once", action="store_true", help="print once, and end")
    top.add_argument(
        "--interval", type=positive, default=1, metavar="SECONDS", help="how often to look (every second)"
    )


def _add_leaving(commands: Commands) -> None:
    adopt = commands.add(
        "adopt",
        "adopt:adopt",
        "declare a restored or cloned database the original",
        description="Declare this database the one to send from. Nothing is sent from a copy until somebody says so.",
    )
    pending = adopt.add_mutually_exclusive_group()
    pending.add_argument(
        "--keep-pending",
        action="store_true",
        help="send what was pending when it was copied (the original is gone)",
    )
    pending.add_argument(
        "--cancel-pending", action="store_true", help="cancel what was pending (the original sends it itself)"
    )
    yes(adopt)

    uninstall = commands.add(
        "uninstall",
        "uninstall:uninstall",
        "unwatch everything and drop the schema pgrelay",
        description="Unwatch all sources of all owners and drop the schema pgrelay, with every event, delivery and"
        "\nwebhook in it. The application's tables stay as they are.",
    )
    uninstall.add_argument(
        "--sql", action="store_true", help="print what would run, for psql, and do nothing"
    )
    yes(uninstall)

    completion = commands.add(
        "completion",
        "completion:completion",
        "a completion script for your shell",
        epilog="bash:  source <(pgrelay completion bash)\nzsh:   source <(pgrelay completion zsh)\n"
        "fish:  pgrelay completion fish | source\n",
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
