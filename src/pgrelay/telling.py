"""What is told of an attempt once it is recorded. Pure."""

from pgrelay.delivery import Outcome, Verdict
from pgrelay.observation import AttemptFailed, Delivered, DeliveryFailed, Observation


def told(outcome: Outcome, webhook_name: str) -> Observation:
    """Delivered, failed and tried again, or given up; only the last names the webhook."""
    claim = outcome.claim
    if outcome.verdict is Verdict.SUCCEEDED:
        return Delivered(
            claim.delivery_id, claim.event_id, claim.webhook_id, claim.event_type, claim.idempotency_key,
            claim.attempt, outcome.status_code or 0, outcome.duration, outcome.waited,
        )  # fmt: skip
    kind, message = str(outcome.error_kind), outcome.error_message or ""
    if outcome.verdict is Verdict.RETRY:
        return AttemptFailed(
            claim.delivery_id, claim.event_id, claim.webhook_id, claim.event_type, claim.idempotency_key,
            claim.attempt, kind, message, outcome.status_code, outcome.duration, outcome.retry_in or 0.0,
            outcome.waited,
        )  # fmt: skip
    return DeliveryFailed(
        claim.delivery_id, claim.event_id, claim.webhook_id, webhook_name, claim.event_type, claim.idempotency_key,
        claim.attempt, kind, message, outcome.status_code, outcome.duration, outcome.waited,
    )  # fmt: skip
