"""Whether a receiver has taken up a new secret.

That a request is answered 2xx proves nothing of a receiver that does not verify. So after a request that was accepted a
second one follows, signed with a secret that nobody has; a receiver that accepts that too is said to believe anyone.
"""

import os
from dataclasses import replace

from pgrelay.delivery import Webhook
from pgrelay.doctor.diagnosis import answered_well
from pgrelay.doctor.trial import TryOut
from pgrelay.signing import generate_secret
from pgrelay.transport import Probe

_TOO_MANY = 429


def alone(webhook: Webhook) -> Webhook:
    """The webhook as if no old secret signed too."""
    return replace(webhook, previous_secret_key=None, previous_secret_expires_at=None)


async def verifies(try_out: TryOut, webhook: Webhook) -> bool | None:
    """Whether its receiver refuses a signature with a secret that nobody has; None if it answered something else."""
    _, answer = await try_out(replace(alone(webhook), secret_key=generate_secret(os.urandom(32))))
    if answered_well(answer):
        return False
    refuses = answer.status is not None and 400 <= answer.status < 500 and answer.status != _TOO_MANY
    return True if refuses else None


def verdict(answer: Probe) -> str:
    """How a request ended, in a word or two."""
    failure = answer.failure
    return f"HTTP {answer.status}" if failure is None else f"{failure.kind}: {failure.message}"
