"""Everything worth telling, one frozen dataclass each.

Log lines, metrics and the status line listen to the same observations: the name of the class, in snake_case, is the
name of the log event, and its fields are the keys. Nothing here holds a secret, a signature or a header value.
Durations are seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """Base of all observations."""


@dataclass(frozen=True, slots=True)
class DaemonStarted(Observation):
    """The database may be served, and this daemon has signed on."""

    daemon_id: int
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ProcessEnded(Observation):
    """One of several daemon processes ended by itself, and is started again in so many seconds."""

    process: int
    #: Negative: by that signal.
    exit_code: int
    restart_in: float


@dataclass(frozen=True, slots=True)
class ProcessStuck(Observation):
    """One of several daemon processes said nothing for so many seconds, and is killed."""

    process: int
    silence: float


@dataclass(frozen=True, slots=True)
class DaemonStopping(Observation):
    """It claims nothing any more; requests under way get daemon.drain_timeout to end."""

    reason: str
    in_flight: int


@dataclass(frozen=True, slots=True)
class DaemonStopped(Observation):
    """All is recorded. What was leased and not started went back to the queue."""

    given_back: int


@dataclass(frozen=True, slots=True)
class ConfigReloaded(Observation):
    """The configuration was read again (SIGHUP)."""

    changed: tuple[str, ...]
    #: Keys that differ but take effect only after a restart.
    needs_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRejected(Observation):
    """The configuration was read again and has faults: the old one stays in force."""

    reason: str


@dataclass(frozen=True, slots=True)
class DatabaseLost(Observation):
    """A connection broke or could not be made; it is tried again for as long as it takes."""

    connection: str
    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class DatabaseBack(Observation):
    """The connection stands again, after so many seconds."""

    connection: str
    away: float


@dataclass(frozen=True, slots=True)
class DatabaseIsStandby(Observation):
    """The server is a standby, where nothing can be recorded: it is asked again until it is promoted."""

    retry_in: float


@dataclass(frozen=True, slots=True)
class NotificationsMissing(Observation):
    """LISTEN does not work on this connection (a pooler, or two-phase commit): polling serves."""

    reason: str
    poll_interval: float


@dataclass(frozen=True, slots=True)
class NotificationsArriving(Observation):
    """LISTEN works: a quiet daemon is woken by captures."""


@dataclass(frozen=True, slots=True)
class Expanded(Observation):
    """New events became deliveries: so many were leased at once, the others are pending."""

    leased: int
    pending: int


@dataclass(frozen=True, slots=True)
class Claimed(Observation):
    """Pending deliveries that were due were leased."""

    leased: int


@dataclass(frozen=True, slots=True)
class Delivered(Observation):
    """The receiver answered 2xx."""

    delivery_id: int
    event_id: int
    webhook_id: int
    event_type: str
    idempotency_key: str
    attempt: int
    status_code: int
    duration: float
    #: Seconds from the capture of the event to the start of this request.
    waited: float


@dataclass(frozen=True, slots=True)
class AttemptFailed(Observation):
    """A request failed and will be made again in retry_in seconds."""

    delivery_id: int
    event_id: int
    webhook_id: int
    event_type: str
    idempotency_key: str
    attempt: int
    error_kind: str
    error_message: str
    status_code: int | None
    duration: float
    retry_in: float
    #: Seconds from the capture of the event to the start of this request.
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliveryFailed(Observation):
    """All attempts are used up: the delivery is in the dead letter. Logged as critical."""

    delivery_id: int
    event_id: int
    webhook_id: int
    webhook_name: str
    event_type: str
    idempotency_key: str
    attempts: int
    error_kind: str
    error_message: str
    status_code: int | None
    duration: float = 0.0
    #: Seconds from the capture of the event to the start of the last request.
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class CircuitOpened(Observation):
    """So many attempts of a webhook failed in a row that it is only probed from now on."""

    webhook_id: int
    webhook_name: str
    probe_in: float


@dataclass(frozen=True, slots=True)
class CircuitClosed(Observation):
    """A probe succeeded: the webhook is served again as usual."""

    webhook_id: int
    webhook_name: str


@dataclass(frozen=True, slots=True)
class WebhookHeld(Observation):
    """Nothing is sent to a webhook for a while: its receiver asked for it, or its circuit is open."""

    webhook_id: int
    webhook_name: str
    held_for: float


@dataclass(frozen=True, slots=True)
class WebhookDisabled(Observation):
    """A webhook was made inactive, because its receiver is gone; webhook_configurations.disabled_reason says more."""

    webhook_id: int
    webhook_name: str


@dataclass(frozen=True, slots=True)
class DeliveriesExpired(Observation):
    """Deliveries ended undelivered, because their event outlived its valid_for."""

    expired: int


@dataclass(frozen=True, slots=True)
class WebhookUnsignable(Observation):
    """The webhook's secret is sealed with a key that this daemon has not: its deliveries wait."""

    webhook_id: int
    webhook_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SecretsSealed(Observation):
    """Secrets or header values of so many webhooks stood in the clear, or under another key, and are sealed now."""

    webhooks: int
    key_id: str


@dataclass(frozen=True, slots=True)
class LeaseLost(Observation):
    """An outcome came too late: another daemon owns the delivery now. It stands in delivery_attempts, marked late."""

    delivery_id: int
    webhook_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class LeasesLapsed(Observation):
    """A daemon died without a word; its deliveries are pending again, or failed if that was their last attempt."""

    daemon_id: int
    pending: int
    failed: int


@dataclass(frozen=True, slots=True)
class DaemonDeclaredDead(Observation):
    """This daemon missed its own heartbeat for a whole lease, and starts over under a new identity."""

    daemon_id: int


@dataclass(frozen=True, slots=True)
class RecordingDelayed(Observation):
    """Outcomes wait in memory because the database is away."""

    waiting: int


@dataclass(frozen=True, slots=True)
class DeadlinesFired(Observation):
    """Deadlines passed; dropped are those whose row says otherwise by now."""

    fired: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CaptureErrorsSeen(Observation):
    """Changes whose event could not be made wait in pgrelay.capture_errors."""

    unresolved: int


@dataclass(frozen=True, slots=True)
class ReplayDone(Observation):
    """All events of a replay are queued; skipped are those that are not kept, or not subscribed to, any more."""

    replay_id: int
    webhook_id: int
    queued: int
    skipped: int


@dataclass(frozen=True, slots=True)
class ReplayStopped(Observation):
    """A replay was stopped, for its webhook was deleted or made inactive. People who stop one are not told of it."""

    replay_id: int
    webhook_id: int
    queued: int
    reason: str


@dataclass(frozen=True, slots=True)
class HttpServing(Observation):
    """HTTP requests are answered."""

    url: str


@dataclass(frozen=True, slots=True)
class ApiChanged(Observation):
    """Something was changed through the API; the caller is the token, by its id and name."""

    operation: str
    caller_id: int
    caller: str
    id: int | None


@dataclass(frozen=True, slots=True)
class LoginRefused(Observation):
    """Somebody asked with a token that is unknown, revoked or expired."""

    address: str


@dataclass(frozen=True, slots=True)
class ApiFailed(Observation):
    """A request could not be answered, by a fault that is not the caller's."""

    method: str
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class UpkeepFailed(Observation):
    """A periodic chore failed; it is tried again."""

    chore: str
    reason: str
