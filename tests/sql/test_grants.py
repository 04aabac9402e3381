"""Who may do what: the daemon its verbs, an admin an operator's, a reader looks, everybody else nothing."""

import re
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

import pgrelay.db.store
from pgrelay.delivery import Status
from support.database import Database, Role
from support.queue import (
    add_event,
    add_webhook,
    claim,
    expand,
    failed,
    record,
    sign_on,
    status,
    succeeded,
    value,
)

MakeRole = Callable[..., Role]

GROUPS = ("pgrelay_daemon", "pgrelay_admin", "pgrelay_reader", "pgrelay_tenant")

#: What looks and changes nothing.
FOR_ALL = {"event_patterns", "event_types", "use_token", "any_token", "tenant", "webhook_state"}
FOR_EVERYBODY_ELSE = FOR_ALL | {
    *("unexpanded_events", "identity", "copy_problem", "mask_url", "why_waiting", "blocking_delivery"),
    "filter_matches",
}
FOR_READERS = FOR_EVERYBODY_ELSE | {"filter_problem", "try_filter", "refuse_webhook"}

#: Those that see to it themselves whose a thing is, and those that only touch webhooks, which policies see to.
FOR_TENANTS = FOR_ALL | {
    "tenant_retry_delivery", "tenant_cancel_delivery", "tenant_why_waiting", "tenant_test_webhook", "tenant_replay", "tenant_replay_events",
    "tenant_try_filter", "tenant_filter_matches",
    "tenant_preview_replay", "tenant_start_replay", "tenant_stop_replay", "tenant_resume_replay",
    "rotate_secret", "end_overlap", "reveal_secret", "generate_secret", "set_active", "recall", "remember",
}  # fmt: skip

FOR_ADMINS = FOR_READERS | {
    "cancel_delivery", "retry_delivery", "replay", "replay_events", "replay_pace", "preview_replay", "start_replay", "stop_replay", "resume_replay", "test_webhook", "rotate_secret", "end_overlap",
    "generate_secret", "set_active",
    "emit", "recapture", "exponential", "seal_with", "close_circuit", "webhooks_to_seal", "reveal_secret", "revoke_token", "recall", "remember",
}  # fmt: skip

FOR_DAEMONS = FOR_EVERYBODY_ELSE | {
    "judge_until",
    "expand", "claim", "pending_webhooks", "record_outcomes", "give_back", "give_back_unknown", "finish_pending", "ring_bell",
    "sign_on", "lift_sequences", "heartbeat", "sign_off", "glance", "release_lapsed", "release_ended", "cancel_orphans", "fire_deadlines",
    "fold_metrics", "rotate", "feed_position", "keep_needed", "drop_kept", "spared", "set_aside", "sweep", "prune", "adopt",
    "owned_elsewhere", "grant_probes", "note_results", "disable_webhook", "expire_deliveries", "tell_failed", "tell_operator",
    "lock_order", "order_key", "order_after", "order_released", "seal_with", "webhooks_to_seal", "seal_webhook",
    "feed_replays", "replay_pace",
}  # fmt: skip

NEW_WEBHOOK = (
    "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
    " values ('1', 'n', 'https://example.com/', '{*}')"
)


@pytest.fixture
def member(db: psycopg.Connection, role: MakeRole) -> Callable[[str], psycopg.Connection]:
    """Connects as a new role that is a member of a group, or of none."""

    def connect(group: str | None = None) -> psycopg.Connection:
        made = role()
        if group is not None:
            db.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(made.name)))
        connections.append(made.connect())
        return connections[-1]

    connections: list[psycopg.Connection] = []
    yield connect
    for connection in connections:
        connection.close()


def executable(db: psycopg.Connection, role: str) -> set[str]:
    rows = db.execute(
        "select distinct proname from pg_proc where pronamespace = 'pgrelay'::regnamespace"
        " and has_function_privilege(%s, oid, 'execute')",
        (role,),
    )
    return {row[0] for row in rows}


def refused(connection: psycopg.Connection, *queries: str) -> None:
    for query in queries:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(query.encode())


def test_each_group_may_execute_its_verbs_and_no_other_function(db: psycopg.Connection) -> None:
    assert executable(db, "pgrelay_daemon") == FOR_DAEMONS
    assert executable(db, "pgrelay_admin") == FOR_ADMINS
    assert executable(db, "pgrelay_reader") == FOR_READERS
    assert executable(db, "pgrelay_tenant") == FOR_TENANTS


def test_everybody_else_may_execute_nothing_and_read_nothing(
    db: psycopg.Connection, member: Callable[..., psycopg.Connection]
) -> None:
    stranger = member()
    assert executable(db, stranger.info.user) == set()
    tables = db.execute(
        "select relname from pg_class where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p', 'v', 'S')"
        " and (has_table_privilege(%s, oid, 'select, insert, update, delete, truncate')"
        "  or relkind = 'S' and has_sequence_privilege(%s, oid, 'usage, select, update'))",
        (stranger.info.user, stranger.info.user),
    ).fetchall()
    assert tables == []
    refused(stranger, "select * from pgrelay.deliveries", "select pgrelay.ring_bell()", NEW_WEBHOOK)


def test_every_verb_that_the_program_calls_is_granted_to_the_daemon() -> None:
    assert pgrelay.db.store.__file__ is not None
    with open(pgrelay.db.store.__file__) as source:
        called = set(re.findall(r"[ (]pgrelay\.([a-z_]+)\(%", source.read()))
    assert len(called) > 10
    assert called <= FOR_DAEMONS


def test_a_daemon_can_do_all_of_its_work(
    database: Database, db: psycopg.Connection, member: Callable[..., psycopg.Connection]
) -> None:
    webhook = add_webhook(db)
    add_event(db)
    work = member("pgrelay_daemon")
    daemon = sign_on(work)
    (lease,) = expand(work, daemon).leases
    assert value(work, "select pgrelay.give_back(%s, array[%s]::bigint[])", daemon, lease.delivery_id) == 1
    assert len(work.execute("select * from pgrelay.pending_webhooks()").fetchall()) == 1
    (lease,) = claim(work, daemon, webhook)
    assert record(work, daemon, succeeded(lease)) == []
    assert (
        value(work, "select secret_key from pgrelay.webhook_configurations where id = any (%s)", [webhook])
        is not None
    )
    for chore in (
        f"pgrelay.heartbeat({daemon}, 60, true, '')", "pgrelay.release_lapsed()", "pgrelay.cancel_orphans()", "pgrelay.fire_deadlines()",
        f"pgrelay.give_back_unknown({daemon}, '{{}}')", "pgrelay.fold_metrics()", "pgrelay.prune(86400)", "pgrelay.sweep()", "setval('pgrelay.wake', 2)",
        "pgrelay.copy_problem('production')",
    ):  # fmt: skip
        work.execute(f"select * from {chore}".encode())
    assert value(work, "select count(*) from pgrelay.capture_errors") == 0
    for ring in ("outbox", "delivery_history", "delivery_attempts"):
        db.execute(
            "update pgrelay.ring_slots set opened_at = opened_at - interval '3 days' where opened_at is not null"
        )
        assert value(work, "select pgrelay.rotate(%s, 86400)", ring) == "writing slot 1 now"
        db.execute(
            "update pgrelay.ring_slots set closed_at = closed_at - interval '3 days' where closed_at is not null"
        )
        assert value(work, "select pgrelay.rotate(%s, 86400)", ring) is not None
    assert value(db, "select count(*) from pgrelay.outbox") == 0
    assert value(work, "select pgrelay.adopt('production', 'keep')") == 0
    work.execute("select pgrelay.sign_off(%s)", (daemon,))


def test_a_daemon_can_neither_watch_nor_change_who_is_called(
    db: psycopg.Connection, member: Callable[..., psycopg.Connection]
) -> None:
    webhook = add_webhook(db)
    refused(
        member("pgrelay_daemon"),
        "select pgrelay.watch('{}')",
        "select pgrelay.unwatch('x')",
        NEW_WEBHOOK,
        "update pgrelay.webhook_configurations set url = 'https://evil.example/'",
        "delete from pgrelay.webhook_configurations",
        "truncate pgrelay.webhook_configurations",
        "delete from pgrelay.subscriptions",
        "insert into pgrelay.sources (name) values ('x')",
        "update pgrelay.event_rules set condition = 'true'",
        "delete from pgrelay.schema_migrations",
        "update pgrelay.schema_objects set digest = ''",
        f"select pgrelay.set_active({webhook}, false)",
        f"select pgrelay.rotate_secret({webhook})",
        f"select pgrelay.test_webhook({webhook})",
        "create table pgrelay.mine (id integer)",
        # a trigger function of the schema's owner on a table of one's own would run with the owner's rights
        "create temp table t (id bigint); create trigger t after delete on t for each row execute function pgrelay.subscribe_webhook()",
    )


def test_an_admin_can_keep_webhooks_and_do_what_operators_do(
    db: psycopg.Connection, member: Callable[..., psycopg.Connection]
) -> None:
    admin = member("pgrelay_admin")
    webhook = add_webhook(db)
    webhook = value(admin, NEW_WEBHOOK + " returning id")
    assert (
        value(admin, "select created_by from pgrelay.webhook_configurations where id = %s", webhook)
        == admin.info.user
    )
    admin.execute("update pgrelay.webhook_configurations set name = 'renamed' where id = %s", (webhook,))
    assert value(admin, "select pgrelay.rotate_secret(%s)", webhook).startswith("whsec_")
    event = value(admin, "select pgrelay.test_webhook(%s)", webhook)
    assert value(admin, "select pgrelay.emit('order.paid', '{}', '1')") == event + 1
    daemon = sign_on(db)
    leases = {lease.webhook_id: lease for lease in expand(db, daemon).leases}
    record(db, daemon, *map(failed, leases.values()))
    mine = leases[webhook].delivery_id
    assert value(admin, "select pgrelay.retry_delivery(%s)", mine) is True
    assert value(admin, "select pgrelay.cancel_delivery(%s)", mine) is True
    assert (
        value(db, "select last_error from pgrelay.delivery_history where id = %s", mine)
        == f"cancelled by {admin.info.user}"
    )
    assert (
        value(admin, "select count(*) from pgrelay.replay_events(%s, '-infinity', 'infinity')", webhook) == 1
    )
    assert value(admin, "select pgrelay.replay(%s, '-infinity')", webhook) == 1
    assert admin.execute("select * from pgrelay.recapture()").fetchall() == []
    assert value(admin, "select pgrelay.set_active(%s, false)", webhook) is True
    assert status(db, mine) is Status.CANCELLED
    admin.execute("delete from pgrelay.webhook_configurations where id = %s", (webhook,))
    for view in ("deliveries", "webhook_logs", "webhook_stats", "metrics", "health"):
        admin.execute(f"select * from pgrelay.{view}".encode())


def test_an_admin_cannot_do_the_daemons_work_nor_write_its_tables(
    member: Callable[..., psycopg.Connection],
) -> None:
    refused(
        member("pgrelay_admin"),
        "select pgrelay.sign_on('x', 'x', 1, '0', 60)",
        "select pgrelay.finish_pending('{1}', 'cancelled', '')",
        "select pgrelay.adopt('x', 'keep')",
        "select pgrelay.watch('{}')",
        "insert into pgrelay.outbox (event_type, company_id, idempotency_key, body) values ('a.b', '1', 'k', '{}')",
        "delete from pgrelay.delivery_queue",
        "update pgrelay.delivery_history set status = 'succeeded'",
        "delete from pgrelay.subscriptions",
        "truncate pgrelay.webhook_configurations",
    )


def test_a_reader_sees_everything_but_secrets_and_header_values_and_changes_nothing(
    db: psycopg.Connection, member: Callable[..., psycopg.Connection]
) -> None:
    add_webhook(db)
    reader = member("pgrelay_reader")
    names = db.execute(
        "select relname from pg_class where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p', 'v')"
    ).fetchall()
    assert len(names) > 30
    for (name,) in names:
        if name not in ("webhook_configurations", "api_tokens"):
            reader.execute(f"select * from pgrelay.{name}".encode())
        writes = "select has_table_privilege(%s, %s, 'insert, update, delete, truncate')"
        assert value(db, writes, reader.info.user, f"pgrelay.{name}") is False
    columns = db.execute(
        "select column_name from information_schema.columns where table_schema = 'pgrelay'"
        " and table_name = 'webhook_configurations'"
    ).fetchall()
    secret = {"secret_key", "previous_secret_key", "headers", "url", "payload_template"}
    open_ones = [name for (name,) in columns if name not in secret]
    reader.execute(f"select {', '.join(open_ones)} from pgrelay.webhook_configurations".encode())
    refused(reader, *(f"select {name} from pgrelay.webhook_configurations" for name in secret))
    reader.execute("select name, role, last_used_at from pgrelay.api_tokens")
    refused(reader, "select digest from pgrelay.api_tokens")
    refused(
        reader,
        "select * from pgrelay.webhook_configurations",
        "select w from pgrelay.webhook_configurations w",
        NEW_WEBHOOK,
    )
    assert value(reader, "select events from pgrelay.unexpanded_events()") == 0
    assert value(reader, "select name from pgrelay.webhook_stats") == "orders"


def test_what_watching_generates_is_executable_by_nobody(db: psycopg.Connection, role: MakeRole) -> None:
    stranger = role()
    db.execute("create table orders (id integer primary key, due timestamptz)")
    db.execute(
        'select pgrelay.watch(\'{"name": "orders", "table": "public.orders", "tenant": {"value": "1"}, "events":'
        ' [{"event": "order.made", "on": "insert"}, {"event": "order.late", "at": "due"}]}\')'
    )
    made = {f"{kind}_orders" for kind in ("capture", "body", "recapture", "fire")}
    found = {
        row[0] for row in db.execute("select proname from pg_proc where proname like '%\\_orders'").fetchall()
    }
    assert found == made
    for name in (stranger.name, *GROUPS):
        assert not executable(db, name) & made
