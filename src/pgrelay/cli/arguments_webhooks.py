"""The arguments of `pgrelay webhooks …`."""

import argparse

from pgrelay.cli.parser import Commands, header, positive, seconds, yes
from pgrelay.payloads import FORMATS

_SETTABLE = """\
KEY=VALUE says the same as an option: url=https://… is --url https://…, rate_limit=5 is --rate-limit 5.
KEY is one of: name, url, description, company_id, event (or subscribed_events: a comma-separated list),
timeout (seconds), max_attempts, header.NAME (a custom header; empty removes it), or a limit's name.

  pgrelay webhooks set 3 url=https://example.com/hooks timeout=5 header.Authorization='Bearer …'
  pgrelay webhooks set 3 --rate-limit 0.5 --ordering resource --retry-schedule 'exponential 10s to 6h'
"""


_PREVIEW = """\
Nothing is changed or sent: try a format, a template or a filter before it counts.

  pgrelay webhooks preview 3 --payload-format slack
  pgrelay webhooks preview 3 --filter '$.data.callback_request.priority == "urgent"' --last 1000
"""


def add_webhooks(commands: Commands) -> None:
    parser = commands.add("webhooks", None, "list, add, change and test webhooks")
    verbs = Commands(parser, dest="verb")

    listing = verbs.add("list", "webhooks:list_webhooks", "all webhooks, with their success rate")
    listing.add_argument("--company", metavar="ID", help="of this tenant only")

    adding = verbs.add(
        "add",
        "webhooks:add",
        "make a webhook, and show its secret once",
        epilog="  pgrelay webhooks add --company 42 --name CRM --url https://example.com/hooks --event 'callback.*'\n",
    )
    adding.add_argument("--company", required=True, metavar="ID", help="the tenant whose events it gets")
    adding.add_argument("--name", required=True)
    adding.add_argument("--url", required=True, help="https://…")
    adding.add_argument(
        "--event",
        required=True,
        action="append",
        metavar="TYPE",
        help="callback.created, or 'callback.*', or '*'; repeat it for several",
    )
    adding.add_argument(
        "--header",
        action="append",
        type=header,
        metavar="NAME=VALUE",
        help="custom header; repeat it for several",
    )
    adding.add_argument(
        "--timeout", type=seconds, metavar="SECONDS", help="for the whole request, 1 to 120 (10)"
    )
    adding.add_argument("--max-attempts", type=positive, metavar="N", help="in all, the first included (3)")
    _limits(adding)
    _content(adding)
    adding.add_argument("--description", metavar="TEXT")
    adding.add_argument("--secret", metavar="whsec_…", help="instead of a generated one")

    showing = _one(verbs, "show", "webhooks:show", "one webhook and its figures")
    showing.add_argument(
        "--reveal", action="store_true", help="show its secret and the values of its headers"
    )

    setting = _one(verbs, "set", "webhooks:set_options", "change a webhook", epilog=_SETTABLE)
    setting.add_argument("options", nargs="*", metavar="KEY=VALUE", help="see below")
    _changes(setting)
    _limits(setting)
    _content(setting)

    previewing = _one(
        verbs,
        "preview",
        "previews:preview",
        "what it is sent of an event, and which of the latest events its filter takes",
        epilog=_PREVIEW,
    )
    previewing.add_argument(
        "--event-id", type=positive, metavar="ID", help="which event (the latest that it subscribes to)"
    )
    previewing.add_argument(
        "--last", type=positive, default=100, metavar="N", help="latest events the filter is tried on (100)"
    )
    _content(previewing)

    _one(verbs, "enable", "webhooks:enable", "owe it new events again")
    disabling = _one(
        verbs, "disable", "webhooks:disable", "owe it nothing: its pending deliveries are cancelled"
    )
    yes(disabling)
    _one(verbs, "pause", "webhooks:pause", "stop sending, keep its deliveries waiting")
    _one(verbs, "resume", "webhooks:resume", "send what waits, even if its circuit is open")

    testing = _one(verbs, "test", "webhook_test:test", "send it a test event and show what came back")
    testing.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS", help="how long to wait for it (30)"
    )
    testing.add_argument(
        "--explain",
        action="store_true",
        help="send it from here, past the queue, and explain every step: addresses, TLS, times, clock, signature",
    )

    rotating = _one(
        verbs, "rotate-secret", "webhooks:rotate_secret", "give it a new secret, and show that once"
    )
    rotating.add_argument(
        "--overlap",
        type=seconds,
        default=86_400.0,
        metavar="DURATION",
        help="how long the old one signs too (24h)",
    )
    rotating.add_argument(
        "--prove",
        action="store_true",
        help="then send it a test event signed with the new one alone, and see whether it accepts that",
    )
    _proof(rotating)

    proving = _one(
        verbs,
        "prove-secret",
        "rotation:prove",
        "see whether it accepts the new secret alone, and end the old one",
        epilog="  pgrelay webhooks rotate-secret 3\n  pgrelay webhooks prove-secret 3 --end-old\n",
    )
    _proof(proving)

    deleting = _one(verbs, "delete", "webhooks:delete", "delete it and cancel what it is owed")
    yes(deleting)


def _proof(parser: argparse.ArgumentParser) -> None:
    """How a new secret is proved."""
    parser.add_argument(
        "--wait",
        type=seconds,
        default=0.0,
        metavar="DURATION",
        help="try again until it is accepted, for so long (0: once)",
    )
    parser.add_argument(
        "--end-old", action="store_true", help="end the old secret when the new one is accepted"
    )


def _content(parser: argparse.ArgumentParser) -> None:
    """What a webhook is sent."""
    _named(
        parser,
        "content",
        (
            ("payload-format", "|".join(FORMATS), "what is sent of an event (standard: its body as it is)"),
            (
                "payload-template",
                "FILE",
                "for payload-format template: a JSON document with {{ expressions }} in its strings,"
                " as a file or as text",
            ),
            (
                "filter",
                "PATH",
                "a condition on the body, in SQL/JSON path: only events that meet it are owed; none: all",
            ),
        ),
    )


def _changes(parser: argparse.ArgumentParser) -> None:
    """The options of `add`, for what is changed. Each is kept as the KEY=VALUE that it stands for."""
    for name, key, metavar, about in (
        ("company", "company_id", "ID", "the tenant whose events it gets"),
        ("name", "name", "NAME", None),
        ("url", "url", "URL", "https://…"),
        (
            "event",
            "subscribed_events",
            "TYPE",
            "instead of those it has; repeat it for several",
        ),
        ("header", None, "NAME=VALUE", "custom header; an empty value removes it; repeat it for several"),
        ("timeout", "timeout", "SECONDS", "for the whole request, 1 to 120"),
        ("max-attempts", "max_attempts", "N", "in all, the first included"),
        ("description", "description", "TEXT", None),
    ):
        parser.add_argument(
            f"--{name}",
            dest="limits",
            action="append",
            default=[],
            metavar=metavar,
            type=_header_option if key is None else f"{key}={{}}".format,
            help=about,
        )


def _header_option(text: str) -> str:
    name, value = header(text)
    return f"header.{name}={value}"


def _limits(parser: argparse.ArgumentParser) -> None:
    """How a webhook is to be called."""
    _named(
        parser,
        "limits",
        (
            (
                "max-concurrency",
                "N",
                "requests at once, over all daemons; none: the configuration's, for each daemon",
            ),
            ("rate-limit", "N", "requests a second at most, over all daemons: 5, 0.5, or none"),
            (
                "ordering",
                "none|resource",
                "resource: of one resource, an event goes out when the one before has ended",
            ),
            (
                "retry-schedule",
                "WAITS",
                "waits before each further attempt: 10s,1m,10m, or 'exponential 10s to 6h'; default: as configured",
            ),
        ),
    )


def _named(parser: argparse.ArgumentParser, title: str, options: tuple[tuple[str, str, str], ...]) -> None:
    """A group of options, each kept as the KEY=VALUE that it stands for."""
    group = parser.add_argument_group(title)
    for name, metavar, about in options:
        key = name.replace("-", "_")
        group.add_argument(
            f"--{name}",
            dest="limits",
            action="append",
            default=[],
            metavar=metavar,
            type=f"{key}={{}}".format,
            help=about,
        )


def _one(
    verbs: Commands, name: str, run: str, summary: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A verb for one webhook."""
    parser = verbs.add(name, run, summary, epilog=epilog)
    parser.add_argument("id", type=positive, metavar="ID", help="the webhook's id, as listed")
    return parser


def add_secrets(commands: Commands) -> None:
    """How webhooks' secrets are kept."""
    secrets = commands.add("secrets", None, "seal webhooks' secrets with a key of your own")
    verbs = Commands(secrets, title="verbs", dest="verb")
    verbs.add("key", "secrets:make_key", "make a key")
    verbs.add(
        "seal",
        "secrets:seal",
        "seal what is in the clear or under another key",
        description="Seal the secrets and header values of all webhooks with the first key of secrets.key, whatever\n"
        "they were sealed with before. Running daemons that have the key do so by themselves.",
    )
    unsealing = verbs.add(
        "unseal",
        "secrets:unseal",
        "keep everything in the clear again",
        description="Open all that is sealed and keep it in the clear. Stop the daemons before: those with the key\n"
        "seal it again, those without refuse to start until it is open.",
    )
    yes(unsealing)
