"""Secrets that stand in the clear although there is a key."""

import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence

from pgrelay.observation import Observation, SecretsSealed
from pgrelay.sealing import Kept, Keyring, Unopened


class SealSecrets:
    """Seals what webhooks hold in the clear, and makes the secrets that SQL asked for."""

    name = "secrets"
    every = 1.0

    def __init__(
        self,
        mark: Callable[[str], Awaitable[None]],
        find: Callable[[str | None], Awaitable[Sequence[tuple[int, int, Kept]]]],
        store: Callable[[int, int, Kept], Awaitable[bool]],
        *,
        keys: Keyring,
        observe: Callable[[Observation], None],
    ) -> None:
        self._mark = mark
        self._find = find
        self._store = store
        self._keys = keys
        self._observe = observe
        self._began = False

    async def once(self) -> float:
        key_id = self._keys.ids[0]
        if not self._began:
            await self._mark(key_id)
        # at first also what another key has sealed; later only what is new
        sealed = 0
        for webhook_id, version, kept in await self._find(None if self._began else key_id):
            with contextlib.suppress(Unopened):  # told when it has something to deliver
                sealed += await self._store(
                    webhook_id, version, self._keys.seal(kept, webhook_id, os.urandom)
                )
        self._began = True
        if sealed:
            self._observe(SecretsSealed(sealed, key_id))
        return self.every
