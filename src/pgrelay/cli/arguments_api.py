"""The arguments of `pgrelay api` and `pgrelay tokens …`."""

import argparse

from pgrelay.cli.parser import Commands, positive, seconds


def add_api(commands: Commands) -> None:
    serving = commands.add(
        "api",
        "api:api",
        "serve the REST API, without a daemon",
        description="Serve the REST API (docs/api.md) until SIGTERM or Ctrl-C. `pgrelay run` serves it too, where"
        "\nhttp.listen is set. Whoever asks needs a token: pgrelay tokens create.",
    )
    serving.add_argument(
        "--listen",
        type=_listen,
        default="127.0.0.1:8060",
        metavar="HOST:PORT",
        help="where (127.0.0.1:8060); an address that others can reach only once there is a token",
    )

    parser = commands.add("tokens", None, "make, list and revoke tokens of the API")
    verbs = Commands(parser, dest="verb")
    creating = verbs.add(
        "create",
        "tokens:create",
        "make a token, and show it once",
        epilog="  pgrelay tokens create --name deploy --role admin\n"
        "  pgrelay tokens create --name portal --role tenant --company 42 --expires 90d\n",
    )
    creating.add_argument("--name", required=True, help="what it is for")
    creating.add_argument(
        "--role",
        required=True,
        choices=["admin", "tenant", "reader"],
        help="admin: everything; tenant: what is one company's; reader: looks at everything, changes nothing",
    )
    creating.add_argument("--company", metavar="ID", help="the tenant, for --role tenant")
    creating.add_argument(
        "--expires", type=seconds, metavar="DURATION", help="for how long it is good (for ever)"
    )
    verbs.add("list", "tokens:list_tokens", "all tokens there ever were")
    revoking = verbs.add("revoke", "tokens:revoke", "end a token")
    revoking.add_argument("id", type=positive, metavar="ID", help="the token's id, as listed")


def _listen(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8060")
    return text
