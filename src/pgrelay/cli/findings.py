"""What `check` makes of the facts: findings, each with a level, a subject, what it is and how to mend it. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pgrelay.addresses import Policy, check_url
from pgrelay.cli.limits import health
from pgrelay.cli.output import Row
from pgrelay.cli.text import count, listed
from pgrelay.db.admin import grant_statement, quoted
from pgrelay.doctor.finding import CERTIFICATE_ENDS_SOON, Finding, Level
from pgrelay.masking import mask_url
from pgrelay.plan import Change, Kind
from pgrelay.spans import duration, relative

#: Seconds.
CLOCK_TOLERANCE = 1.0
OLD_DELIVERY = 60.0
LONG_TRANSACTION = 300.0

#: So long ago that who should know of it does.
OLD_NEWS = 7 * 86_400.0

_TOLD = 10


def exit_code(findings: Iterable[Finding]) -> int:
    """0: all fine; 1: warnings; 2: errors."""
    levels = {finding.level for finding in findings}
    return 2 if Level.ERROR in levels else 1 if Level.WARNING in levels else 0


def of_server(server: Row, role: str, database: str) -> list[Finding]:
    found = [
        Finding(Level.OK, "database", f"{database} on PostgreSQL {server['version']}, as {role}"),
    ]
    if server["version_num"] < 140_000:
        found.append(
            Finding(Level.ERROR, "database", "PostgreSQL 14 or later is needed", "Upgrade the server.")
        )
    if server["standby"]:
        mend = "Point database.dsn at the primary, or list all hosts with target_session_attrs=read-write."
        found.append(
            Finding(Level.ERROR, "database", "the server is a standby: nothing can be recorded on it", mend)
        )
    if server["encoding"] == "SQL_ASCII":
        mend = (
            "Bytes that are not UTF-8 go out as they are; better restore it into a database of encoding UTF8."
        )
        found.append(
            Finding(Level.WARNING, "database", "its encoding is SQL_ASCII: bytes mean nothing certain", mend)
        )
    usage = server["notification_queue_usage"]
    if usage > 0.1:
        level = Level.ERROR if usage > 0.5 else Level.WARNING
        mend = "A session that listens holds a transaction open; when it is full, COMMIT fails. See pg_stat_activity."
        found.append(
            Finding(level, "notifications", f"the server's notification queue is {usage:.0%} full", mend)
        )
    return found


def of_clock(ahead: float) -> Finding:
    if abs(ahead) <= CLOCK_TOLERANCE:
        return Finding(Level.OK, "clock", f"within {duration(max(abs(ahead), 0.001))} of the database's")
    side = "ahead of" if ahead > 0 else "behind"
    mend = "Receivers refuse signatures whose timestamp is off by five minutes: run NTP on both machines."
    return Finding(
        Level.WARNING, "clock", f"this machine's clock is {duration(ahead)} {side} the database's", mend
    )


def of_tls(ca_file: str, client_certificate: str, ends: datetime | None, now: datetime) -> Finding:
    """`ends`: when the client certificate does."""
    if ends is not None and (ends - now).total_seconds() < CERTIFICATE_ENDS_SOON:
        word = "ended" if ends <= now else "ends"
        message = f"the client certificate {client_certificate} {word} {relative(ends, now)}"
        mend = "Renew it, then: systemctl reload pgrelay (restart, if it is a credential)"
        return Finding(Level.ERROR if ends <= now else Level.WARNING, "tls", message, mend)
    trusted = f"the system's certificates and those of {ca_file}" if ca_file else "the system's certificates"
    shown = f"; {client_certificate} is shown to receivers who ask" if client_certificate else ""
    return Finding(Level.OK, "tls", f"trusts {trusted}{shown}")


def of_proxy(proxy: str) -> list[Finding]:
    if not proxy:
        return []
    return [Finding(Level.OK, "proxy", f"requests go by way of {mask_url(proxy)}")]


def of_daemon_role(missing: Sequence[str], role: str) -> Finding:
    if not missing:
        return Finding(Level.OK, "privileges", f"{role} may do what a daemon does")
    mend = grant_statement("pgrelay_daemon", role)
    return Finding(Level.ERROR, "privileges", f"as a daemon, {role} lacks {listed(missing, 3)}", mend)


def of_applying(may: Row, role: str) -> list[Finding]:
    """Applying is another role's business where roles are kept apart, so lacking it is no fault."""
    if not may["create_schema"] or not may["watch"]:
        message = f"{role} may not apply; {may['owner']}, who installed the schema, may"
        return [Finding(Level.INFO, "privileges", message)]
    return [
        Finding(
            Level.WARNING,
            "privileges",
            f"{role} has no TRIGGER privilege on {table}, so it cannot apply",
            f"grant trigger on {table} to {quoted(role)};",
        )
        for table in may["no_trigger"]
    ]


def of_unmade_events(unmade: Sequence[Row]) -> list[Finding]:
    mend = "If the application makes it by pgrelay.emit(), all is well; GET /event-types lists what sources make."
    return [
        Finding(
            Level.INFO,
            f"webhook {row['id']}",
            f"{row['name']} subscribes to {row['subscribed']}, which no source makes",
            mend,
        )
        for row in unmade
    ]


def of_roles(missing: Sequence[str]) -> list[Finding]:
    if not missing:
        return []
    mend = (
        "Needed to grant them to others, and by the API for tokens of tenants and readers:"
        " run pgrelay migrate as a role that may create roles."
    )
    return [Finding(Level.INFO, "privileges", f"there is no role {listed(missing, last='or')}", mend)]


def of_api(not_taken: Sequence[str], missing: Sequence[str], role: str) -> list[Finding]:
    """`not_taken`: roles that it is no member of; those that are `missing` altogether are told by of_roles."""
    lacking = [name for name in not_taken if name not in missing]
    if not lacking:
        return []
    message = (
        f"it may not act for those who need {listed(lacking)}: {role}, as whom it connects, is no member"
    )
    return [Finding(Level.INFO, "api", message, f"grant {', '.join(lacking)} to {quoted(role)};")]


def of_plan(changes: Sequence[Change], *, has_file: bool) -> list[Finding]:
    found = [finding for change in changes for finding in _of_change(change, has_file)]
    if not changes:
        found.append(
            Finding(Level.WARNING, "sources", "nothing is watched", "Write sources, then: pgrelay apply")
        )
    return found


def _of_change(change: Change, has_file: bool) -> list[Finding]:
    subject, known = f"source {change.name}", change.installed
    mend = "pgrelay apply"
    if has_file and change.kind is Kind.LEAVE:
        mend = f"It belongs to {change.owner}: apply that configuration."
    elif known is not None and not known.table_exists and change.kind is Kind.MEND:
        mend = "Correct its table in the configuration, or take the source out, then: pgrelay apply"
    found = []
    if known is not None:
        found += [Finding(Level.ERROR, subject, fault, mend) for fault in known.broken()]
        found += [Finding(Level.WARNING, subject, fault, mend) for fault in known.outdated()]
    if change.kind is Kind.CLASH:
        found.append(
            Finding(Level.ERROR, subject, change.reasons[0], "Give it another name in one of the files.")
        )
    elif change.kind is Kind.WATCH:
        found.append(Finding(Level.WARNING, subject, "in the configuration, but not installed", mend))
    elif change.kind is Kind.UNWATCH and has_file:
        found.append(
            Finding(Level.WARNING, subject, "installed, but not in the configuration any more", mend)
        )
    elif change.kind is Kind.CHANGE:
        message = f"installed differently from the configuration: {listed(change.reasons, 3)}"
        found.append(Finding(Level.WARNING, subject, message, "pgrelay apply --plan"))
    return found or [Finding(Level.OK, subject, f"watches {change.table}")]


def of_daemons(daemons: Sequence[Row], now: datetime) -> list[Finding]:
    found = []
    for row in daemons:
        if row["lapsed"]:
            silent = f"fell silent {relative(row['heartbeat_at'], now)}"
            message = f"{row['name']} (pid {row['pid']} on {row['host']}) {silent}"
            mend = "Look at its log; any running daemon takes its deliveries over."
            found.append(Finding(Level.WARNING, "daemons", message, mend))
        elif row["alive"]:
            message = f"{row['name']} {row['version']}, heartbeat {relative(row['heartbeat_at'], now)}"
            found.append(Finding(Level.OK, "daemons", message))
    if not any(row["alive"] for row in daemons):
        mend = "systemctl start pgrelay, or in a terminal: pgrelay run"
        found.append(Finding(Level.WARNING, "daemons", "none is running: nothing is delivered", mend))
    return found


def of_health(health: Row, now: datetime) -> list[Finding]:
    found = []
    oldest = health["oldest_untried_at"]
    waited = (now - oldest).total_seconds() if oldest is not None else 0.0
    if waited > OLD_DELIVERY:
        message = f"a delivery waits for its first attempt for {duration(waited)}"
        found.append(
            Finding(Level.WARNING, "queue", message, "pgrelay status shows whose; pgrelay deliveries list")
        )
    if health["events_waiting"] and not health["daemons_alive"]:
        message = f"{count(health['events_waiting'], 'event')} not yet turned into deliveries"
        found.append(Finding(Level.WARNING, "queue", message, "pgrelay run"))
    if health["deadlines_overdue"] and not health["daemons_alive"]:
        message = f"{count(health['deadlines_overdue'], 'deadline')} passed and not fired"
        found.append(Finding(Level.WARNING, "queue", message, "pgrelay run"))
    pending = count(health["deliveries_pending"], "delivery", "deliveries")
    return found or [Finding(Level.OK, "queue", f"{pending} pending")]


def of_capture_errors(errors: Sequence[Row], now: datetime) -> list[Finding]:
    return [
        Finding(
            Level.WARNING,
            f"source {row['source']}",
            f"{count(row['errors'], 'change')} without {row['event_type']}, the last {relative(row['last_at'], now)}:"
            f" {row['message']}",
            f"Mend the rule, then: pgrelay recapture --source {row['source']}",
        )
        for row in errors
    ]


def of_notifications(arrives: bool, max_prepared_transactions: int, fallback: float) -> Finding:
    if not arrives:
        mend = (
            "A pooler in transaction mode swallows LISTEN: set database.listen_dsn to the server itself. Until then the"
            f" daemon looks for work every {duration(fallback)}."
        )
        return Finding(Level.WARNING, "notifications", "a notification to itself did not come back", mend)
    if max_prepared_transactions:
        message = (
            f"max_prepared_transactions is {max_prepared_transactions}, so captures do not notify"
            f" (NOTIFY forbids PREPARE TRANSACTION): the daemon looks for work every {duration(fallback)}"
        )
        return Finding(Level.INFO, "notifications", message, "If nobody prepares transactions, set it to 0.")
    return Finding(Level.OK, "notifications", "arrive")


def of_transactions(transactions: Sequence[Row]) -> list[Finding]:
    mend = "Nothing is lost by it, but dead rows cannot be vacuumed until it ends."
    return [
        Finding(Level.INFO, "transactions", f"{row['who']} is open for {duration(row['seconds'])}", mend)
        for row in transactions
    ]


def of_sequences(sequences: Sequence[Row]) -> list[Finding]:
    return [
        Finding(
            Level.WARNING,
            "sequences",
            f"{row['sequence']} is at {row['last_value']}, but {row['highest']} is taken (a partial restore?)",
            f"select setval('{row['sequence']}', {row['highest']});",
        )
        for row in sequences
    ]


def of_secrets(kept: Row, key_ids: Sequence[str]) -> Finding:
    """`key_ids`: of the keys that are here; the first seals."""
    open_ones = kept["plain"] + kept["awaited"]
    strange = [key_id for key_id in kept["key_ids"] if key_id not in key_ids]
    older = [key_id for key_id in kept["key_ids"] if key_id in key_ids[1:]]
    if not key_ids and not kept["key_ids"] and not kept["sealed_with"]:
        mend = "A key of your own seals them: pgrelay secrets key"
        return Finding(
            Level.INFO, "secrets", "webhooks' secrets are in the clear in the table, and in its backups", mend
        )
    if not key_ids:
        message = f"sealed with key {listed(strange or [kept['sealed_with']], 3)}, which is not here"
        return Finding(Level.INFO, "secrets", message, "Daemons need it: PGRELAY_SECRETS_KEY (secrets.key).")
    if strange:
        message = f"some are sealed with key {listed(strange, 3)}, which is not among those of secrets.key"
        mend = "Put that key behind the first in secrets.key; until then deliveries of these webhooks wait."
        return Finding(Level.ERROR, "secrets", message, mend)
    if open_ones:
        message = f"{count(open_ones, 'webhook')} with secrets in the clear, or none yet"
        mend = "A running daemon that has the key seals them within a second; so does pgrelay secrets seal"
        return Finding(Level.WARNING, "secrets", message, mend)
    if older:
        message = f"some are sealed with an older key, {listed(older, 3)}"
        return Finding(
            Level.INFO, "secrets", message, "pgrelay secrets seal takes the first key for all of them."
        )
    return Finding(Level.OK, "secrets", f"sealed with key {key_ids[0]}")


def of_urls(webhooks: Sequence[Row], policy: Policy) -> list[Finding]:
    refused = [(row, fault) for row in webhooks if (fault := check_url(row["url"], policy)) is not None]
    found = [
        Finding(
            Level.WARNING,
            f"webhook {row['id']}",
            f"{row['name']} will not be called: {fault.message}",
            f"pgrelay webhooks set {row['id']} url=https://…, or allow it under network in the configuration.",
        )
        for row, fault in refused[:_TOLD]
    ]
    if len(refused) > _TOLD:
        message = f"{count(len(refused) - _TOLD, 'more webhook')} will not be called for such reasons"
        found.append(Finding(Level.WARNING, "webhooks", message))
    return found or [
        Finding(Level.OK, "webhooks", f"{count(len(webhooks), 'active webhook')} with callable URLs")
    ]


def of_troubled(webhooks: Sequence[Row], now: datetime) -> list[Finding]:
    """Webhooks that pgrelay does not call, or only now and then."""
    found = [_of_troubled(row, now) for row in webhooks[:_TOLD]]
    if len(webhooks) > _TOLD:
        message = (
            f"{count(len(webhooks) - _TOLD, 'more webhook')} disabled, held back or with an open circuit"
        )
        found.append(Finding(Level.WARNING, "webhooks", message, "pgrelay webhooks list"))
    return found


def _of_troubled(row: Row, now: datetime) -> Finding:
    subject, since = f"webhook {row['id']}", row["disabled_at"]
    if since is not None:
        level = Level.WARNING if (now - since).total_seconds() < OLD_NEWS else Level.INFO
        mend = (
            f"When its receiver is back: pgrelay webhooks enable {row['id']}. What was pending then:"
            f" pgrelay deliveries retry --webhook {row['id']} --status cancelled; what came since:"
            f" pgrelay replay --webhook {row['id']} --since {since.isoformat(timespec='seconds')}"
        )
        message = f"{row['name']} was disabled {relative(since, now)}: {row['disabled_reason']}"
        return Finding(level, subject, message, mend)
    mend = f"The first success ends it. To try at once: pgrelay webhooks resume {row['id']}"
    if not row["circuit_open"]:
        return Finding(Level.INFO, subject, f"{row['name']} is held back: {health(row, now)}", mend)
    why = f"Why: pgrelay deliveries list --webhook {row['id']}. "
    return Finding(Level.WARNING, subject, f"{row['name']} fails: {health(row, now)}", why + mend)
