"""What the role pgrelay_tenant can see and do: what is its tenant's, by SQL of any kind; and nothing where nobody said whose."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.database import Role
from support.queue import add_event, add_webhook, claim, expand, failed, record, sign_on, value

MakeRole = Callable[..., Role]
NEW = "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events) values ('{}', 'n', 'https://example.com/', '{{*}}')"


class World:
    """Two tenants with a webhook, an event and a failed delivery each."""

    def __init__(self, db: psycopg.Connection) -> None:
        self.mine, self.theirs = add_webhook(db, "1"), add_webhook(db, "2")
        self.my_event, self.their_event = add_event(db, company_id="1"), add_event(db, company_id="2")
        daemon = sign_on(db)
        leases = {lease.webhook_id: lease for lease in expand(db, daemon).leases}
        assert record(db, daemon, *map(failed, leases.values())) == []
        self.my_delivery = leases[self.mine].delivery_id
        self.their_delivery = leases[self.theirs].delivery_id


@pytest.fixture
def world(db: psycopg.Connection) -> World:
    return World(db)


@pytest.fixture
def login(db: psycopg.Connection, role: MakeRole) -> Role:
    """As whom the API connects: no superuser, a member of what its tokens may take."""
    made = role("api")
    db.execute(f"grant pgrelay_admin, pgrelay_reader, pgrelay_tenant to {made.name}".encode())
    return made


@pytest.fixture
def tenant(login: Role) -> Iterator[psycopg.Connection]:
    """Tenant 1, for the whole session."""
    with login.connect() as connection:
        connection.execute("set pgrelay.company_id = '1'")
        connection.execute("set role pgrelay_tenant")
        yield connection


def column(db: psycopg.Connection, query: str) -> list[object]:
    return [row[0] for row in db.execute(query.encode())]


def test_a_tenant_sees_its_own_rows_of_everything(tenant: psycopg.Connection, world: World):
    assert column(tenant, "select id from pgrelay.webhook_configurations") == [world.mine]
    assert column(tenant, "select id from pgrelay.tenant_outbox") == [world.my_event]
    assert column(tenant, "select id from pgrelay.tenant_deliveries") == [world.my_delivery]
    assert column(tenant, "select delivery_id from pgrelay.tenant_delivery_attempts") == [world.my_delivery]
    assert column(tenant, "select webhook_id from pgrelay.tenant_webhook_stats") == [world.mine]
    assert column(tenant, "select distinct webhook_id from pgrelay.tenant_metrics") == [world.mine]


def test_a_tenant_sees_the_health_of_its_own_webhooks_and_why_its_own_deliveries_wait(
    db: psycopg.Connection, tenant: psycopg.Connection, world: World
):
    db.execute(
        "insert into pgrelay.webhook_health (webhook_id, failures_in_row, failed_deliveries)"
        " select id, 3, 0 from pgrelay.webhook_configurations on conflict do nothing"
    )
    assert column(tenant, "select webhook_id from pgrelay.tenant_webhook_health") == [world.mine]
    db.execute("select pgrelay.retry_delivery(id) from pgrelay.deliveries where status <> 'pending'")
    assert value(tenant, "select pgrelay.tenant_why_waiting(%s)", world.my_delivery) is not None
    assert value(tenant, "select pgrelay.tenant_why_waiting(%s)", world.their_delivery) is None


def test_a_tenant_can_read_no_table_or_view_but_these(db: psycopg.Connection):
    readable = column(
        db,
        "select relname::text from pg_class where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p', 'v')"
        " and has_any_column_privilege('pgrelay_tenant', oid, 'select, insert, update')",
    )
    assert set(map(str, readable)) == {
        "tenant_delivery_attempts", "tenant_deliveries", "tenant_metrics", "tenant_outbox", "tenant_webhook_stats",
        "tenant_webhook_health", "tenant_replay_progress", "webhook_configurations",
    }  # fmt: skip


def test_a_tenant_writes_its_own_webhooks_and_can_neither_make_nor_take_nor_give_away_others(
    tenant: psycopg.Connection, world: World
):
    tenant.execute(NEW.format(1).encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        tenant.execute(NEW.format(2).encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        tenant.execute("update pgrelay.webhook_configurations set company_id = '2'")
    changed = tenant.execute(
        "update pgrelay.webhook_configurations set name = 'x' where id in (%s, %s) returning id",
        (world.mine, world.theirs),
    )
    assert changed.fetchall() == [(world.mine,)]
    gone = tenant.execute(
        "delete from pgrelay.webhook_configurations where id = %s returning id", (world.theirs,)
    )
    assert gone.fetchall() == []
    assert value(tenant, "select pgrelay.set_active(%s, false)", world.theirs) is False
    assert value(tenant, "select pgrelay.reveal_secret(%s)", world.theirs) is None
    for verb in ("rotate_secret", "end_overlap", "tenant_test_webhook"):
        with pytest.raises(psycopg.Error) as refused:
            tenant.execute(f"select pgrelay.{verb}(%s)".encode(), (world.theirs,))
        assert refused.value.sqlstate == "PGR20"
    assert value(tenant, "select pgrelay.rotate_secret(%s)", world.mine).startswith("whsec_")
    assert value(tenant, "select pgrelay.end_overlap(%s)", world.mine) is True
    assert value(tenant, "select pgrelay.tenant_test_webhook(%s)", world.mine) > 0


def test_a_tenants_verbs_do_not_know_others_deliveries(
    tenant: psycopg.Connection, db: psycopg.Connection, world: World
):
    statuses = "select status from pgrelay.deliveries order by id"
    assert value(tenant, "select pgrelay.tenant_retry_delivery(%s)", world.their_delivery) is False
    db.execute("select pgrelay.retry_delivery(%s)", (world.their_delivery,))
    assert value(tenant, "select pgrelay.tenant_cancel_delivery(%s)", world.their_delivery) is False
    assert column(db, statuses) == (
        ["failed", "pending"] if world.my_delivery < world.their_delivery else ["pending", "failed"]
    )
    assert value(tenant, "select pgrelay.tenant_retry_delivery(%s)", world.my_delivery) is True
    assert value(tenant, "select pgrelay.tenant_cancel_delivery(%s)", world.my_delivery) is True
    events = "select count(*) from pgrelay.tenant_replay_events(%s, '-infinity', 'infinity')"
    assert (value(tenant, events, world.mine), value(tenant, events, world.theirs)) == (1, 0)
    assert value(tenant, "select pgrelay.tenant_replay(%s, '-infinity')", world.mine) == 1
    with pytest.raises(psycopg.Error) as refused:
        tenant.execute("select pgrelay.tenant_replay(%s, '-infinity')", (world.theirs,))
    assert refused.value.sqlstate == "PGR20"
    for verb in ("retry_delivery", "cancel_delivery", "test_webhook"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            tenant.execute(f"select pgrelay.{verb}(1)".encode())


def test_where_nobody_says_whose_it_is_a_tenant_sees_nothing(login: Role, world: World):
    with login.connect() as nobody:
        nobody.execute("set role pgrelay_tenant")
        for said in ("reset pgrelay.company_id", "set pgrelay.company_id = ''"):
            nobody.execute(said.encode())
            for name in (
                "webhook_configurations",
                "tenant_outbox",
                "tenant_deliveries",
                "tenant_delivery_attempts",
                "tenant_webhook_stats",
            ):
                assert column(nobody, f"select count(*) from pgrelay.{name}") == [0], name
            assert value(nobody, "select pgrelay.tenant_retry_delivery(%s)", world.my_delivery) is False
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                nobody.execute(NEW.format(1).encode())


def test_a_condition_that_would_tell_of_others_rows_does_not_meet_them(
    tenant: psycopg.Connection, db: psycopg.Connection, world: World
):
    # a function that is cheap and not leakproof is called as early as the planner likes, unless a barrier holds it back
    db.execute(
        "create function public.spy(text) returns boolean language plpgsql cost 0.0000001 as $$begin raise notice 'seen %', $1; return true; end$$"
    )
    told: list[str] = []
    tenant.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    tenant.execute("select id from pgrelay.webhook_configurations where public.spy(company_id)")
    tenant.execute("select id from pgrelay.tenant_outbox where public.spy(company_id)")
    tenant.execute("select webhook_id from pgrelay.tenant_webhook_stats where public.spy(company_id)")
    assert set(told) == {"seen 1"}


def test_who_may_take_the_role_sees_everything_as_long_as_it_does_not(login: Role, world: World):
    with login.connect() as api:
        assert set(column(api, "select id from pgrelay.webhook_configurations")) == {world.mine, world.theirs}
        with api.transaction():
            api.execute(
                "select set_config('pgrelay.company_id', '1', true), set_config('role', 'pgrelay_tenant', true)"
            )
            assert column(api, "select id from pgrelay.webhook_configurations") == [world.mine]
        assert set(column(api, "select id from pgrelay.webhook_configurations")) == {world.mine, world.theirs}


def test_a_daemon_that_serves_the_api_too_is_not_hindered(
    db: psycopg.Connection, role: MakeRole, world: World
):
    made = role("daemon")
    db.execute(f"grant pgrelay_daemon, pgrelay_admin, pgrelay_tenant to {made.name}".encode())
    add_event(db, company_id="2")
    with made.connect() as daemon:
        number = sign_on(daemon)
        assert len(expand(daemon, number).leases) == 1
        db.execute("select pgrelay.retry_delivery(%s)", (world.their_delivery,))
        assert len(claim(daemon, number, world.theirs)) == 1


def test_the_policy_does_not_keep_who_is_not_a_tenant_from_using_an_index(
    db: psycopg.Connection, role: MakeRole
):
    made = role("daemon")
    db.execute(f"grant pgrelay_daemon to {made.name}".encode())
    with made.connect() as daemon:
        daemon.execute("set enable_seqscan = off")
        plan = column(
            daemon,
            "explain (costs off) select * from pgrelay.webhook_configurations where id = any ('{1,2}')",
        )
    assert any("Index Cond: (id = ANY" in str(line) for line in plan), plan


def test_a_role_with_a_grant_of_its_own_reads_what_it_was_granted(
    db: psycopg.Connection, role: MakeRole, world: World
):
    made = role("analyst")
    db.execute(f"grant usage on schema pgrelay to {made.name}".encode())
    db.execute(f"grant select (id, name) on pgrelay.webhook_configurations to {made.name}".encode())
    with made.connect() as analyst:
        assert len(column(analyst, "select id from pgrelay.webhook_configurations")) == 2
