"""The arguments of what concerns deliveries and events, and of what helps whoever receives them."""

import argparse
from pathlib import Path

from pgrelay.cli.parser import Commands, header, moment, port, positive, seconds, status_code, yes

STATUSES = ["pending", "in_flight", "succeeded", "failed", "cancelled", "expired"]
_TIME = "TIME"


def add_deliveries(commands: Commands) -> None:
    parser = commands.add("deliveries", None, "list, explain, retry and cancel deliveries")
    verbs = Commands(parser, dest="verb")

    listing = verbs.add("list", "deliveries:list_deliveries", "deliveries, the newest first")
    _filters(listing, STATUSES)
    listing.add_argument("--limit", type=positive, default=50, metavar="N", help="at most so many (50)")

    showing = verbs.add(
        "show", "deliveries:show", "the story of one delivery: event, attempts, what comes next"
    )
    showing.add_argument("id", type=positive, metavar="ID")
    showing.add_argument("--body", action="store_true", help="print what is sent, and nothing else")

    _many(
        verbs.add(
            "retry",
            "deliveries:retry",
            "give finished deliveries another round of attempts; send pending ones now",
            epilog="  pgrelay deliveries retry 17 18\n"
            "  pgrelay deliveries retry --webhook 3 --status failed --since 2h\n",
        ),
        ["failed", "cancelled", "expired", "pending"],
        "failed",
    )
    _many(
        verbs.add(
            "cancel",
            "deliveries:cancel",
            "stop owing pending deliveries",
            epilog="  pgrelay deliveries cancel 17 18\n  pgrelay deliveries cancel --webhook 3 --since 2h\n",
        ),
        ["pending"],
        "pending",
    )

    replay = commands.add(
        "replay",
        "replay:replay",
        "send past events to a webhook again",
        description="Send events of a stretch of time to a webhook, delivered before or not: the same bodies and"
        "\nkeys, behind its live ones. It is counted first, and goes on without this command.",
        epilog="  pgrelay replay --webhook 3 --since 2h --dry-run\n"
        "  pgrelay replay --webhook 3 --since 2h --event 'callback.*' --watch\n",
    )
    replay.add_argument("--webhook", required=True, type=positive, metavar="ID")
    replay.add_argument("--since", required=True, type=moment, metavar=_TIME, help="2h, or 2026-11-01T08:30")
    replay.add_argument("--until", type=moment, metavar=_TIME, help="up to then (now)")
    replay.add_argument("--dry-run", action="store_true", help="count and estimate, and do nothing")
    replay.add_argument(
        "--event", action="append", metavar="TYPE", help="of this type only, or 'callback.*'; repeat it"
    )
    replay.add_argument("--watch", action="store_true", help="follow it until all is delivered")
    yes(replay)

    replays = Commands(commands.add("replays", None, "list, watch, stop and resume replays"), dest="verb")
    replay_list = replays.add("list", "replay:list_replays", "replays, the newest first")
    replay_list.add_argument("--webhook", type=positive, metavar="ID")
    replay_list.add_argument("--running", action="store_true", help="only those that run")
    replay_list.add_argument("--limit", type=positive, default=50, metavar="N", help="at most so many (50)")
    showing = replays.add("show", "replay:show", "how far a replay is, and why it waits")
    showing.add_argument("id", type=positive, metavar="ID")
    showing.add_argument("--watch", action="store_true", help="follow it until all is delivered")
    for name, what in (
        ("stop", "queue no more of it; what is queued goes out"),
        ("resume", "go on where it stopped"),
    ):
        replays.add(name, f"replay:{name}", what).add_argument("id", type=positive, metavar="ID")

    recapture = commands.add(
        "recapture",
        "recapture:recapture",
        "make the events that capture errors stand for",
        description="Make the events of changes that could not be captured, after their cause was mended.",
    )
    recapture.add_argument("--source", metavar="NAME", help="of this source only")
    recapture.add_argument("--id", type=positive, metavar="ID", help="this error only")


def _filters(parser: argparse.ArgumentParser, statuses: list[str]) -> None:
    parser.add_argument("--webhook", type=positive, metavar="ID")
    parser.add_argument("--status", choices=statuses)
    parser.add_argument("--event", metavar="TYPE", help="callback.created, or 'callback.*'")
    parser.add_argument("--resource", metavar="ID", help="the resource_id")
    parser.add_argument("--since", type=moment, metavar=_TIME, help="made since: 2h, or 2026-11-01T08:30")


def _many(parser: argparse.ArgumentParser, statuses: list[str], usual: str) -> None:
    """Deliveries by id, or all that match filters."""
    parser.add_argument("ids", nargs="*", type=positive, metavar="ID")
    _filters(parser, statuses)
    parser.set_defaults(usual_status=usual)
    yes(parser)


def add_receiving(commands: Commands) -> None:
    listen = commands.add(
        "listen",
        "listen:listen",
        "a local receiver that verifies and shows what arrives",
        epilog="  pgrelay listen --port 8080 --forward-to http://localhost:3000/hooks\n",
    )
    listen.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    listen.add_argument("--port", type=port, default=0, metavar="N", help="port to listen on (any free one)")
    secret = listen.add_mutually_exclusive_group()
    secret.add_argument("--secret", metavar="whsec_…", help="what the webhook signs with (a new one is made)")
    secret.add_argument("--webhook", type=positive, metavar="ID", help="take the secret of this webhook")
    listen.add_argument("--forward-to", metavar="URL", help="pass requests on, headers and body as they came")
    listen.add_argument(
        "--output",
        choices=["lines", "json", "quiet"],
        default="lines",
        help="a line a request, all of it as JSON, or nothing",
    )
    listen.add_argument(
        "--status",
        type=status_code,
        metavar="CODE",
        help="what to answer (200; 401 to what is not genuine)",
    )

    verify = commands.add(
        "verify",
        "verify:verify",
        "check a signature by hand",
        epilog="  pgrelay verify --secret whsec_… --header 'X-Webhook-Signature: sha256=…' body.json\n",
    )
    key = verify.add_mutually_exclusive_group(required=True)
    key.add_argument("--secret", metavar="whsec_…")
    key.add_argument("--webhook", type=positive, metavar="ID", help="take the secret of this webhook")
    verify.add_argument(
        "--header",
        action="append",
        type=header,
        default=[],
        metavar="'NAME: VALUE'",
        help="as received; repeat it",
    )
    verify.add_argument(
        "--headers-file", type=Path, metavar="FILE", help="headers as received, one a line (curl -D)"
    )
    verify.add_argument(
        "--tolerance", type=seconds, default=300.0, metavar="DURATION", help="how old a timestamp may be (5m)"
    )
    verify.add_argument(
        "body", nargs="?", default="-", metavar="BODYFILE", help="the raw body (standard input)"
    )
