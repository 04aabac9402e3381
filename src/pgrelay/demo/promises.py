"""What has to hold of everything that arrives, whatever the scene; and the error when something does not.

Pure.
"""

from collections.abc import Mapping

from pgrelay.demo.hooks import Arrival
from pgrelay.errors import PgrelayError


class NotAsPromised(PgrelayError):
    """The demonstration went otherwise than pgrelay promises; `remedy` holds what the daemon has to say."""

    exit_code = 1


def broken(
    arrival: Arrival, hook_company: str, event_company: str | None, bodies: Mapping[tuple[str, str], bytes]
) -> str:
    """The promise that a request breaks, as a sentence; empty if it keeps them all.

    `event_company` is whose the event of that key is in the outbox, None if there is none, as of a test that was sent
    past the queue (`webhooks test --explain`); `bodies` holds the body that came first to (hook, key).
    """
    what = f"{arrival.hook} received {arrival.event_type} {arrival.key}"
    if arrival.problem:
        return f"{what}, and its signature is wrong: {arrival.problem}"
    if event_company is None:
        if arrival.event_type == "webhook.test":
            return ""
        return f"{what}, and no committed event has that key"
    if event_company != hook_company or arrival.company_id not in ("", hook_company):
        return f"{what}, which belongs to company {event_company} and not to {hook_company}"
    if bodies.get((arrival.hook, arrival.key), arrival.body) != arrival.body:
        return f"{what} again, with another body than the first time"
    return ""
