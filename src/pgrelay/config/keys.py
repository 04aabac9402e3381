"""The table of keys: every key of the configuration file once, with its kind, default, range and meaning.

Parsing (load.py), the defaults of the settings (settings.py), config.example.yaml and the reference tables
(example.py) all come from here. A value's unit is its kind's: durations are seconds, sizes bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgrelay import __version__
from pgrelay.config import values
from pgrelay.config.nearest import did_you_mean


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a key are written."""

    #: As the reference names it.
    name: str
    #: Text to value; ValueError with the end of a sentence that begins with the text.
    parse: Callable[[str], Any]
    show: Callable[[Any], str]
    #: A list of such values; a single one needs no brackets.
    many: bool = False
    #: Of a list: text that stands for several values, or None if it stands for one.
    series: Callable[[str], tuple[Any, ...] | None] | None = None
    #: Whether quotes around it are natural; a number in quotes is a mistake worth telling.
    may_be_quoted: bool = True


TEXT = Kind("text", values.parse_text, values.show_text)
WORD = Kind("name", values.parse_word, values.show_text)
#: A file that another part reads; its credential is the file itself, not a value.
PATH = Kind("path", values.parse_path, values.show_text)
PROXY = Kind("URL", values.parse_proxy, values.show_text)
SEALING_KEYS = Kind("keys", values.parse_keys, values.show_text)
HEADER_VALUE = Kind("text", values.parse_header_value, values.show_text)
INTEGER = Kind("whole number", values.parse_integer, str, may_be_quoted=False)
NUMBER = Kind("number", values.parse_number, values.show_number, may_be_quoted=False)
BOOLEAN = Kind("true or false", values.parse_boolean, values.show_boolean, may_be_quoted=False)
DURATION = Kind("duration", values.parse_duration, values.show_duration)
WAITS = Kind(
    "list of durations", values.parse_duration, values.show_duration, many=True, series=values.parse_growth
)
SIZE = Kind("size", values.parse_size, values.show_size)
LISTEN = Kind("address:port", values.parse_listen, values.show_text)
NETWORKS = Kind("list of networks", values.parse_network, values.show_text, many=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the configuration file."""

    #: Dotted: the section and the field of its settings, or a field of Settings.
    name: str
    kind: Kind
    #: The value, as the program sees it.
    default: Any
    #: One sentence, for the example file and the reference.
    sentence: str
    #: Least and greatest value; of each value of a list.
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    #: Values that are not allowed -> why.
    reserved: tuple[tuple[str, str], ...] = ()
    #: Least length of a list.
    at_least: int = 0
    #: Takes effect on SIGHUP; otherwise a restart is needed.
    reloadable: bool = False
    #: Environment variable that overrides the file, and the credential that stands between them.
    environment: str | None = None
    credential: str | None = None
    #: Never printed.
    secret: bool = False
    #: What no value, or "", stands for; None if a value is needed.
    empty_means: str | None = None

    @property
    def section(self) -> str:
        """Name of the section, empty for keys at the top of the file."""
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        return self.name.rpartition(".")[2]

    def parse(self, text: str) -> Any:
        """The value, or one value of the list, that `text` stands for; ValueError tells what is wrong."""
        return self._checked(self.kind.parse(text), text)

    def parse_item(self, text: str) -> tuple[Any, ...]:
        """The values of a list that one of its items stands for: one, unless it is a series. ValueError as above."""
        series = self.kind.series(text) if self.kind.series is not None else None
        return (
            (self.parse(text),) if series is None else tuple(self._checked(value, text) for value in series)
        )

    def _checked(self, value: Any, text: str) -> Any:
        if self.choices and value not in self.choices:
            raise ValueError(f"is not one of {', '.join(self.choices)}{did_you_mean(text, self.choices)}")
        for word, reason in self.reserved:
            if value == word:
                raise ValueError(reason)
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"is too small: the least is {self.kind.show(self.minimum)}")
        if self.maximum is not None and value > self.maximum:
            raise ValueError(f"is too big: the most is {self.kind.show(self.maximum)}")
        return value

    def show(self, value: Any) -> str:
        """`value` as YAML on one line."""
        if self.empty_means is not None and value == self.default:
            return '""'
        if self.kind.many:
            return f"[{', '.join(self.kind.show(item) for item in value)}]"
        return self.kind.show(value)

    def show_range(self) -> str:
        """'1s to 10m', or 'auto, json or console', or nothing."""
        if self.choices:
            return f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
        if self.minimum is None or self.maximum is None:
            return ""
        return f"{self.kind.show(self.minimum)} to {self.kind.show(self.maximum)}"


DAY = 86_400.0
YEARS = 3_650 * DAY

KEYS: tuple[Key, ...] = (
    Key(
        name="owner",
        kind=WORD,
        default="main",
        reserved=(("sql", "is the owner of sources that were made by hand with pgrelay.watch()"),),
        sentence="Whose the sources of this file are; each file for the same database needs its own.",
    ),
    Key(
        name="environment",
        kind=WORD,
        default="production",
        environment="PGRELAY_ENVIRONMENT",
        sentence="What the database is for; nothing is sent from a database that was adopted for another.",
    ),
    Key(
        name="database.dsn",
        kind=TEXT,
        default="",
        secret=True,
        environment="PGRELAY_DATABASE_DSN",
        credential="dsn",
        empty_means="libpq's own environment, PGHOST and so on",
        sentence="Where Postgres is, as a URI or as key=value pairs.",
    ),
    Key(
        name="database.listen_dsn",
        kind=TEXT,
        default=None,
        secret=True,
        environment="PGRELAY_DATABASE_LISTEN_DSN",
        credential="listen_dsn",
        empty_means="the same as dsn",
        sentence="A direct way to the database for LISTEN, where dsn leads through a pooler.",
    ),
    Key(
        name="database.connect_timeout",
        kind=DURATION,
        default=5.0,
        minimum=1.0,
        maximum=300.0,
        sentence="How long one attempt to connect may take.",
    ),
    Key(
        name="database.statement_timeout",
        kind=DURATION,
        default=30.0,
        minimum=1.0,
        maximum=3_600.0,
        sentence="How long one statement of the daemon may take before Postgres ends it.",
    ),
    Key(
        name="daemon.name",
        kind=WORD,
        default="",
        empty_means="the host name",
        sentence="What this daemon is called in pgrelay.daemons and in delivery_attempts.",
    ),
    Key(
        name="daemon.lease",
        kind=DURATION,
        default=15.0,
        minimum=1.0,
        maximum=600.0,
        sentence="How long deliveries stay this daemon's after a heartbeat; it beats five times as often.",
    ),
    Key(
        name="daemon.poll_interval",
        kind=DURATION,
        default=1.0,
        minimum=0.01,
        maximum=60.0,
        sentence="How often to look for work without having been notified.",
    ),
    Key(
        name="daemon.fallback_poll_interval",
        kind=DURATION,
        default=0.1,
        minimum=0.01,
        maximum=60.0,
        sentence="How often to look for work where notifications cannot arrive, as behind some poolers.",
    ),
    Key(
        name="daemon.drain_timeout",
        kind=DURATION,
        default=30.0,
        minimum=0.0,
        maximum=3_600.0,
        sentence="How long requests in flight may take to end when the daemon is stopped.",
    ),
    Key(
        name="daemon.batch_size",
        kind=INTEGER,
        default=200,
        minimum=1,
        maximum=10_000,
        sentence="How many deliveries to claim, and how many outcomes to record, in one statement.",
    ),
    Key(
        name="daemon.max_in_flight",
        kind=INTEGER,
        default=256,
        minimum=1,
        maximum=20_000,
        sentence="Requests at once, over all webhooks; each needs a file descriptor.",
    ),
    Key(
        name="daemon.max_buffered_outcomes",
        kind=INTEGER,
        default=20_000,
        minimum=1,
        maximum=1_000_000,
        sentence="Outcomes to keep in memory while Postgres is away, before sending pauses.",
    ),
    Key(
        name="delivery.max_concurrency",
        kind=INTEGER,
        default=64,
        minimum=1,
        maximum=10_000,
        reloadable=True,
        sentence="Requests at once to one webhook that sets no max_concurrency: all daemons have an equal share.",
    ),
    Key(
        name="delivery.user_agent",
        kind=HEADER_VALUE,
        default=f"pgrelay/{__version__}",
        empty_means="pgrelay and its version",
        reloadable=True,
        sentence="The User-Agent header of requests.",
    ),
    Key(
        name="delivery.max_response_bytes",
        kind=SIZE,
        default=16_384,
        minimum=0,
        maximum=1 << 20,
        reloadable=True,
        sentence="How much of an answer's body to read and record.",
    ),
    Key(
        name="delivery.retry_schedule",
        kind=WAITS,
        default=(60.0, 60.0),
        minimum=0.0,
        maximum=30 * DAY,
        at_least=1,
        reloadable=True,
        sentence="Waits between attempts, the last one repeated; or, doubling each time, exponential 10s to 6h.",
    ),
    Key(
        name="delivery.retry_jitter",
        kind=NUMBER,
        default=0.0,
        minimum=0.0,
        maximum=1.0,
        reloadable=True,
        sentence="The fraction by which waits are lengthened at random, so that retries come in no waves.",
    ),
    Key(
        name="delivery.max_retry_wait",
        kind=DURATION,
        default=DAY,
        minimum=0.0,
        maximum=30 * DAY,
        reloadable=True,
        sentence="The longest wait between attempts, whatever a receiver asks for in Retry-After.",
    ),
    Key(
        name="circuit.open_after",
        kind=INTEGER,
        default=10,
        minimum=0,
        maximum=1_000_000,
        reloadable=True,
        sentence="Failed attempts in a row after which a webhook is only probed; 0 is never.",
    ),
    Key(
        name="circuit.first_wait",
        kind=DURATION,
        default=10.0,
        minimum=0.1,
        maximum=DAY,
        reloadable=True,
        sentence="How long to wait before the first probe; each wait is twice the one before.",
    ),
    Key(
        name="circuit.longest_wait",
        kind=DURATION,
        default=300.0,
        minimum=0.1,
        maximum=DAY,
        reloadable=True,
        sentence="The longest wait between probes.",
    ),
    Key(
        name="circuit.disable_after",
        kind=DURATION,
        default=5 * DAY,
        minimum=0.0,
        maximum=YEARS,
        reloadable=True,
        sentence="How long everything must have failed for a webhook to be made inactive; 0s is never.",
    ),
    Key(
        name="circuit.disable_deliveries",
        kind=INTEGER,
        default=10,
        minimum=0,
        maximum=1_000_000,
        reloadable=True,
        sentence="How many deliveries must have been given up for it, too.",
    ),
    Key(
        name="network.allow_http",
        kind=BOOLEAN,
        default=False,
        reloadable=True,
        sentence="Whether http:// may be called; payloads then travel in the clear.",
    ),
    Key(
        name="network.allowed_networks",
        kind=NETWORKS,
        default=(),
        reloadable=True,
        sentence="Private, loopback and other special networks that may be called all the same.",
    ),
    Key(
        name="network.ca_file",
        kind=PATH,
        default="",
        credential="ca_file",
        empty_means="none",
        reloadable=True,
        sentence="Certificates in PEM, trusted beside those that the system trusts.",
    ),
    Key(
        name="network.client_certificate",
        kind=PATH,
        default="",
        credential="client_certificate",
        empty_means="none",
        reloadable=True,
        sentence="The certificate in PEM, with its chain, to show to receivers that ask for one.",
    ),
    Key(
        name="network.client_key",
        kind=PATH,
        default="",
        credential="client_key",
        empty_means="in the file of the certificate",
        reloadable=True,
        sentence="The private key of that certificate in PEM, without passphrase.",
    ),
    Key(
        name="network.proxy",
        kind=PROXY,
        default="",
        secret=True,
        environment="PGRELAY_PROXY",
        credential="proxy",
        empty_means="none; proxies of the environment are ignored",
        reloadable=True,
        sentence="An http:// or https:// proxy by way of which all requests go, with credentials if it wants some.",
    ),
    Key(
        name="secrets.key",
        kind=SEALING_KEYS,
        default="",
        secret=True,
        environment="PGRELAY_SECRETS_KEY",
        credential="secrets_key",
        empty_means="they are kept in the clear",
        sentence="Seals webhooks' secrets and header values; of several, separated by spaces, the first seals.",
    ),
    Key(
        name="http.listen",
        kind=LISTEN,
        default=None,
        empty_means="nothing is served",
        sentence="Where `pgrelay run` answers over HTTP, such as 127.0.0.1:8060.",
    ),
    Key(
        name="http.metrics_webhooks",
        kind=INTEGER,
        default=200,
        minimum=0,
        maximum=10_000,
        sentence="How many webhooks have figures of their own at /metrics; all others share webhook_id other.",
    ),
    Key(
        name="log.level",
        kind=TEXT,
        default="info",
        choices=("debug", "info", "warning", "error"),
        reloadable=True,
        sentence="The least important lines to write.",
    ),
    Key(
        name="log.format",
        kind=TEXT,
        default="auto",
        choices=("auto", "json", "console"),
        sentence="How lines are written; auto is console on a terminal and json elsewhere.",
    ),
    Key(
        name="retention.events",
        kind=DURATION,
        default=30 * DAY,
        minimum=3_600.0,
        maximum=YEARS,
        reloadable=True,
        sentence="How long events are kept, for replay; those that a delivery still needs stay longer.",
    ),
    Key(
        name="retention.deliveries",
        kind=DURATION,
        default=30 * DAY,
        minimum=3_600.0,
        maximum=YEARS,
        reloadable=True,
        sentence="How long finished deliveries are kept.",
    ),
    Key(
        name="retention.attempts",
        kind=DURATION,
        default=30 * DAY,
        minimum=3_600.0,
        maximum=YEARS,
        reloadable=True,
        sentence="How long the record of each request is kept.",
    ),
)

KEY_BY_NAME = {key.name: key for key in KEYS}

#: Sections of the file in order, with what each is about.
SECTIONS = {
    "database": "Where events come from and everything is recorded.",
    "daemon": "How `pgrelay run` works.",
    "delivery": "How requests are made and retried; a webhook's own columns come first.",
    "circuit": "When a webhook whose attempts all fail is called less often, and when no more.",
    "network": "What may be called, and how.",
    "secrets": "How secrets of webhooks are kept.",
    "http": "What is served over HTTP: health and metrics for those who look after it, the API for those with a token.",
    "log": "What is written to standard output.",
    "retention": "How long what is done is kept.",
}
