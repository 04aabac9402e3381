"""`pgrelay listen`: a local receiver that verifies what arrives, shows it, and passes it on if asked to."""

import asyncio
import os
import signal

from pgrelay.addresses import Policy
from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.cli.text import count, printable
from pgrelay.db import admin_webhooks
from pgrelay.delivery import Failure, Request
from pgrelay.receiver import Answer, Received, Receiver, honest
from pgrelay.signing import generate_secret
from pgrelay.spans import duration
from pgrelay.transport import Transport

#: Headers that belong to one connection, and are made anew for the next.
_OF_THE_CONNECTION = frozenset(
    {"host", "connection", "keep-alive", "content-length", "transfer-encoding", "te"}
)
_EVERYWHERE = Policy.of(["0.0.0.0/0", "::/0"], allow_http=True)
#: How much of the answer to a forwarded request is read, and how many seconds it may take.
_FORWARDED_BYTES = 64 * 1024
_FORWARD_TIMEOUT = 30.0


async def listen(context: Context) -> int:
    """Until SIGINT or SIGTERM, which is its normal end."""
    secret, called = await _of_webhook(context)
    fixed: int | None = context.argument("status")
    # printed by this task alone, so that a reader who has gone ends the command and not one answer
    arrived: asyncio.Queue[Received | None] = asyncio.Queue()
    receiver = Receiver(
        [secret], tell=arrived.put_nowait, answer=honest if fixed is None else lambda received: Answer(fixed)
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, arrived.put_nowait, None)
    url = await receiver.start(context.argument("host"), context.argument("port"))
    try:
        _introduce(context, url, secret, called)
        await _show(context, arrived)
    finally:
        await receiver.stop()
    return 0


async def _of_webhook(context: Context) -> tuple[str, str]:
    """The secret to verify with; and of a webhook the URL that is called."""
    if context.argument("webhook") is None:
        return context.argument("secret") or generate_secret(os.urandom(32)), ""
    async with context.admin() as admin:
        secret = await admin_webhooks.secret(admin, context.argument("webhook"), context.keys)
        return secret, (await admin_webhooks.webhook(admin, context.argument("webhook")))["url"]


def _as_json(context: Context) -> bool:
    return bool(context.out.json or context.argument("output") == "json")


def _introduce(context: Context, url: str, secret: str, called: str) -> None:
    """`called`: the URL that its webhook has already."""
    out = context.out
    if _as_json(context):
        out.line({"url": url, "secret_key": secret})
    else:
        out.print(f"Secret: {out.style(secret, 'bold')}")
        out.print(f"URL:    {out.style(url, 'bold')}")
    out.say("Listening; Ctrl-C ends it.")
    if context.argument("webhook") is None:
        out.say(
            f"As a webhook: pgrelay webhooks add --company ID --name local --url {url} --event '*' --secret {secret}"
        )
    elif not f"{called}/".startswith(f"{url}/"):
        out.say(f"As its address: pgrelay webhooks set {context.argument('webhook')} url={url}")
    out.say(
        "The daemon calls it if the configuration has network: {allow_http: true, allowed_networks: [127.0.0.0/8]}"
    )
    out.flush()


async def _show(context: Context, arrived: asyncio.Queue[Received | None]) -> None:
    forward_to = context.argument("forward_to")
    transport = Transport(_EVERYWHERE, _FORWARDED_BYTES)
    await transport.start()
    try:
        async with asyncio.TaskGroup() as forwarding:
            while (received := await arrived.get()) is not None:
                _print(context, received)
                if forward_to is not None:
                    forwarding.create_task(_forward(context, transport, forward_to, received))
    finally:
        await transport.close()


def _print(context: Context, received: Received) -> None:
    if _as_json(context):
        context.out.line(as_row(received))
    elif context.argument("output") == "lines":
        context.out.print(line(context.out, received))
    context.out.flush()


def line(out: Output, received: Received) -> str:
    """When, what, and whether it is genuine, on one line."""
    attempt = f" attempt {received.attempt}" if received.attempt is not None else ""
    key = f" {received.idempotency_key}" if received.idempotency_key else ""
    what = f"{received.event or received.method + ' ' + received.target}{key}{attempt}"
    size = count(len(received.body), "byte")
    if received.verification:
        verdict = out.style(f"✓ {received.verification.scheme}", "green")
    else:
        reason = received.verification.reason if received.verification is not None else "not verified"
        verdict = out.style(f"✗ {printable(reason)}", "red")
    return f"{_time(received)} --> {printable(what)}, {size}  {verdict}"


def as_row(received: Received) -> dict[str, object]:
    """All of a request, as JSON values."""
    verification = received.verification
    return {
        "arrived_at": received.arrived_at,
        "method": received.method,
        "target": received.target,
        "event": received.event,
        "idempotency_key": received.idempotency_key,
        "attempt": received.attempt,
        "genuine": bool(verification),
        "scheme": verification.scheme if verification is not None else None,
        "reason": verification.reason or None if verification is not None else None,
        "headers": dict(received.headers.items()),
        "body": received.body.decode("utf-8", "replace"),
    }


async def _forward(context: Context, transport: Transport, url: str, received: Received) -> None:
    """Pass a request on and tell what came of it. That it failed is news, not the end."""
    headers = {
        name: value for name, value in received.headers.items() if name.lower() not in _OF_THE_CONNECTION
    }
    result = await transport.send(Request(url, headers, received.body, _FORWARD_TIMEOUT))
    if isinstance(result, Failure):
        outcome = context.out.style(f"[{result.kind}] {printable(result.message)}", "red")
    else:
        good = 200 <= result.status <= 299
        outcome = context.out.style(f"[{result.status}]", "green" if good else "red")
    key = printable(received.idempotency_key or "")
    if context.argument("output") != "quiet":
        context.out.say(
            f"{_time(received)} <-- {outcome} POST {url} in {duration(result.duration)} {key}".rstrip()
        )


def _time(received: Received) -> str:
    return f"{received.arrived_at.astimezone():%H:%M:%S}"
