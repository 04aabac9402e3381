"""`pgrelay verify`: a receiver's signature check by hand, with the reason when it fails."""

import math
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pgrelay import signing
from pgrelay.cli.context import Context
from pgrelay.cli.parser import UsageError
from pgrelay.db import admin_webhooks


def verify(context: Context) -> int | Coroutine[Any, Any, int]:
    if context.argument("secret") is not None:
        return _verify(context, context.argument("secret"))
    return _with_secret_of_webhook(context)


async def _with_secret_of_webhook(context: Context) -> int:
    async with context.admin() as admin:
        secret = await admin_webhooks.secret(admin, context.argument("webhook"), context.keys)
    return _verify(context, secret)


def _verify(context: Context, secret: str) -> int:
    """0 if a receiver that knows both schemes believes it: the standard one decides where it is present."""
    out = context.out
    headers = _headers(context)
    body = _body(context.argument("body"))
    names = {name.lower() for name in headers}
    schemes = {
        signing.Scheme.STANDARD: signing.STANDARD_HEADER,
        signing.Scheme.CLASSIC: signing.CLASSIC_HEADER,
    }
    present = [scheme for scheme, header in schemes.items() if header.lower() in names]
    if not present:
        raise UsageError(
            f"no signature among the headers: neither {signing.STANDARD_HEADER} nor {signing.CLASSIC_HEADER}",
            "Pass them as received: --header 'X-Webhook-Signature: sha256=…'",
        )
    found = [
        signing.examine(
            body, headers, secret, now=time.time(), tolerance=context.argument("tolerance"), require=scheme
        )
        for scheme in present
    ]
    out.value(
        [
            {
                "scheme": scheme,
                "header": schemes[scheme],
                "genuine": bool(result),
                "reason": result.reason or None,
            }
            for scheme, result in zip(present, found, strict=True)
        ]
    )
    for scheme, result in zip(present, found, strict=True):
        mark = out.style("✓", "green") if result else out.style("✗", "red")
        said = result.reason or f"{schemes[scheme]} is genuine"
        out.print(f"{mark} {scheme}: {said}")
    if signing.examine(body, headers, secret, now=time.time(), tolerance=context.argument("tolerance")):
        return 0
    if not any(
        signing.examine(body, headers, secret, now=time.time(), tolerance=math.inf, require=scheme)
        for scheme in present
    ):
        out.say(
            f"{len(body):,} bytes of body were checked. It must be the raw body, byte for byte: a line break at the\n"
            "end, or JSON that was parsed and written again, is another body."
        )
    return 1


def _headers(context: Context) -> dict[str, str]:
    headers: dict[str, str] = {}
    path: Path | None = context.argument("headers_file")
    if path is not None:
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        for line in lines:
            name, separator, value = line.partition(":")
            if separator and " " not in name.strip():
                headers[name.strip()] = value.strip()
    headers.update(context.argument("header"))
    return headers


def _body(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error
