"""`pgrelay check`: the doctor. Looks at everything, one finding a line, and the way to mend it below."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

from pgrelay.addresses import Policy
from pgrelay.cli import findings
from pgrelay.cli.context import Context
from pgrelay.cli.output import Output
from pgrelay.cli.text import count, indented, listed, printable
from pgrelay.config import Settings
from pgrelay.db import admin_checks, admin_sources, admin_upkeep, migrations
from pgrelay.db.admin import Admin
from pgrelay.db.guard import refuse_public, refuse_unknown_schema
from pgrelay.doctor.finding import Finding, Level
from pgrelay.errors import ConfigError, PgrelayError
from pgrelay.plan import plan
from pgrelay.sealing import Keyring, key_ids

#: Seconds.
_NOTIFICATION_WAIT = 2.0

_MARKS = {
    Level.OK: ("✓", "green"),
    Level.INFO: ("i", "cyan"),
    Level.WARNING: ("!", "yellow"),
    Level.ERROR: ("✗", "red"),
}


async def check(context: Context) -> int:
    found: list[Finding] = []
    async for finding in _all(context):
        if found:
            # what mends several in a row is said once, below the last
            same = (found[-1].subject, found[-1].mend) == (finding.subject, finding.mend)
            print_finding(context.out, replace(found[-1], mend="") if same else found[-1])
        found.append(finding)
    if found:
        print_finding(context.out, found[-1])
    context.out.value([finding.as_row() for finding in found])
    errors, warnings = (
        sum(finding.level is level for finding in found) for level in (Level.ERROR, Level.WARNING)
    )
    words = [count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    context.out.say(", ".join(words) + "." if words else "All is well.")
    return findings.exit_code(found)


def print_finding(out: Output, finding: Finding) -> None:
    """A line, and below it how to mend it."""
    mark, style = _MARKS[finding.level]
    out.print(f"{out.style(mark, style)} {finding.subject}: {printable(finding.message)}")
    if finding.mend:
        out.print(indented(printable(finding.mend, lines=True), "    "))


async def _all(context: Context) -> AsyncIterator[Finding]:
    """Finding after finding; what the next ones need and is missing ends it."""
    try:
        settings = context.settings
    except ConfigError as error:
        for line in error.message.splitlines():
            yield Finding(
                Level.ERROR, "configuration", line, error.remedy or "config.example.yaml shows every key."
            )
        return
    where = settings.path or "no file, defaults and environment only"
    yield Finding(
        Level.OK, "configuration", f"{where}: owner {settings.owner}, environment {settings.environment}"
    )
    try:
        async with context.admin(any_schema=True) as admin:
            async for finding in _of_database(admin, settings):
                yield finding
        async for finding in _of_notifications(context):
            yield finding
    except PgrelayError as error:
        yield Finding(Level.ERROR, "database", error.message, error.remedy)
    yield _of_tls(settings)
    for finding in findings.of_proxy(settings.network.proxy):
        yield finding
    try:
        Keyring(settings.secrets.key)
    except ConfigError as error:
        yield Finding(Level.ERROR, "secrets", error.message, error.remedy)


def _of_tls(settings: Settings) -> Finding:
    from pgrelay.transport import load_tls

    network = settings.network
    try:
        tls = load_tls(network.ca_file, network.client_certificate, network.client_key)
    except ConfigError as error:
        mend = "Mend the file or the key; a running daemon keeps what it has until a reload succeeds."
        return Finding(Level.ERROR, "tls", error.message, mend)
    return findings.of_tls(network.ca_file, network.client_certificate, tls.ends, datetime.now(UTC))


async def _of_database(admin: Admin, settings: Settings) -> AsyncIterator[Finding]:
    server = await admin_checks.server(admin)
    for finding in findings.of_server(server, admin.role, admin.database):
        yield finding
    yield findings.of_clock(await admin_checks.clock_difference(admin))
    with admin.translated():
        try:
            await refuse_unknown_schema(admin.connection)
        except PgrelayError as error:
            yield Finding(Level.ERROR, "schema", error.message, error.remedy)
            return
    yield await _of_schema(admin)
    problem = await admin_upkeep.copy_problem(admin, settings.environment)
    if problem is None:
        yield Finding(Level.OK, "copy guard", f"this is the original, for environment {settings.environment}")
    else:
        mend = "If it is meant to send: pgrelay adopt --keep-pending, or pgrelay adopt --cancel-pending"
        yield Finding(Level.ERROR, "copy guard", f"nothing is sent from here: {problem}", mend)
    if settings.http.listen is not None:
        try:
            await refuse_public(admin.connection, settings.http.listen)
        except ConfigError as error:
            yield Finding(Level.ERROR, "http", error.message, error.remedy)
    for finding in await _of_sources(admin, settings):
        yield finding
    for finding in await _of_work(admin, settings):
        yield finding


async def _of_schema(admin: Admin) -> Finding:
    pending = await migrations.pending(admin.connection)
    if not pending:
        return Finding(Level.OK, "schema", "as this version of pgrelay ships it")
    message = f"not as this version ships it: {listed(pending, 3)}"
    return Finding(Level.WARNING, "schema", message, "pgrelay migrate")


async def _of_sources(admin: Admin, settings: Settings) -> list[Finding]:
    installed = await admin_sources.installed(admin)
    changes = plan(settings.owner, settings.sources, installed)
    may = await admin_checks.may_apply(admin, [source.table for source in settings.sources])
    missing = await admin_checks.missing_roles(admin)
    return [
        findings.of_daemon_role(await admin_checks.missing_for_daemon(admin), admin.role),
        *findings.of_applying(may, admin.role),
        *findings.of_roles(missing),
        *(
            findings.of_api(await admin_checks.roles_not_taken(admin), missing, admin.role)
            if settings.http.listen
            else ()
        ),
        *findings.of_plan(changes, has_file=settings.path is not None),
        *findings.of_capture_errors(await admin_upkeep.capture_errors(admin), await admin.now()),
    ]


async def _of_work(admin: Admin, settings: Settings) -> list[Finding]:
    network = settings.network
    policy = Policy.of(network.allowed_networks, allow_http=network.allow_http)
    now = await admin.now()
    return [
        *findings.of_daemons(await admin_upkeep.daemons(admin), now),
        *findings.of_health(await admin_upkeep.health(admin), now),
        *findings.of_urls(await admin_checks.urls(admin), policy),
        *findings.of_unmade_events(await admin_checks.unmade_events(admin)),
        *findings.of_troubled(await admin_checks.troubled_webhooks(admin), now),
        findings.of_secrets(await admin_checks.secrets(admin), key_ids(settings.secrets.key)),
        *findings.of_sequences(await admin_checks.lagging_sequences(admin)),
        *findings.of_transactions(await admin_checks.long_transactions(admin, findings.LONG_TRANSACTION)),
    ]


async def _of_notifications(context: Context) -> AsyncIterator[Finding]:
    """On the connection that the daemon would listen on."""
    async with context.admin(any_schema=True, listening=True) as admin:
        server = await admin_checks.server(admin)
        if server["standby"]:
            return
        arrives = await admin_checks.notification_arrives(admin, _NOTIFICATION_WAIT)
        yield findings.of_notifications(
            arrives, server["max_prepared_transactions"], context.settings.daemon.fallback_poll_interval
        )
