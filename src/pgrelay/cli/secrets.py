"""`pgrelay secrets`: make a key, seal webhooks' secrets with it, and keep them in the clear again."""

import os

from pgrelay.cli.context import Context
from pgrelay.cli.text import count
from pgrelay.db import admin_upkeep, admin_webhooks
from pgrelay.db.admin import Admin
from pgrelay.errors import Refused
from pgrelay.sealing import KEY_BYTES, Kept, Keyring, Unopened, write_key
from pgrelay.signing import generate_secret


def make_key(context: Context) -> int:
    key = write_key(os.urandom(KEY_BYTES))
    context.out.value({"key": key})
    context.out.print(key)
    context.out.say(
        "Give it to daemons and commands as PGRELAY_SECRETS_KEY or as the credential secrets_key, and keep a copy\n"
        "where the database's backups are not: what is sealed with it is lost without it."
    )
    return 0


async def seal(context: Context) -> int:
    """Everything under the first key, at once; a running daemon does the same within a second."""
    keys = _keys(context)
    async with context.admin() as admin:
        await admin_webhooks.seal_with(admin, keys.ids[0])
        done, left = 0, []
        for webhook_id, version, kept in await admin_webhooks.to_seal(admin, keys.ids[0]):
            try:
                done += await admin_webhooks.keep(
                    admin, webhook_id, version, keys.seal(kept, webhook_id, os.urandom)
                )
            except Unopened as error:
                left.append({"id": webhook_id, "message": error.message})
    context.out.value({"key_id": keys.ids[0], "sealed": done, "left": left})
    context.out.print(f"Secrets of {count(done, 'webhook')} sealed with key {keys.ids[0]}.")
    for row in left:
        context.out.say(f"Webhook {row['id']} is left as it is: {row['message']}.")
    return 1 if left else 0


async def unseal(context: Context) -> int:
    """Everything in the clear, or nothing if some of it cannot be opened."""
    keys, out = _keys(context), context.out
    async with context.admin() as admin:
        alive = [row["name"] for row in await admin_upkeep.daemons(admin) if row["alive"]]
        if alive:
            raise Refused(
                f"still running: {', '.join(alive)}",
                "Stop the daemons first, and start them without the key: with it they seal everything again.",
            )
        out.confirm(
            "Keep the secrets of all webhooks in the clear, in the table?", yes=context.argument("yes")
        )
        async with admin.transaction():
            done = await _unseal(admin, keys)
    out.value({"unsealed": done})
    out.print(f"Secrets of {count(done, 'webhook')} are in the clear.")
    out.say("Take secrets.key out of the configuration of daemons and commands before they run again.")
    return 0


async def _unseal(admin: Admin, keys: Keyring) -> int:
    await admin_webhooks.seal_with(admin, None)
    done = 0
    for webhook_id, version, kept in await admin_webhooks.sealed(admin):
        try:
            opened = keys.open(kept, webhook_id)
        except Unopened as error:
            raise Refused(f"webhook {webhook_id} is {error.message}", error.remedy) from error
        secret = opened.secret_key or generate_secret(os.urandom(32))
        done += await admin_webhooks.keep(
            admin, webhook_id, version, Kept(secret, opened.previous_secret_key, opened.headers)
        )
    return done


def _keys(context: Context) -> Keyring:
    if not context.keys:
        raise Refused(
            "there is no key: secrets.key is not set",
            "Give it as PGRELAY_SECRETS_KEY; pgrelay secrets key makes one.",
        )
    return context.keys
