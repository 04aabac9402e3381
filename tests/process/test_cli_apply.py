"""`migrate`, `apply`, `uninstall`: what they change, what they leave alone, and what they say when they may not."""

import re
import subprocess

import pytest
from psycopg import sql

from support.command import Command

TRIGGERS = "select count(*) from pg_trigger where tgname like 'zz_pgrelay_%' and tgenabled = 'O'"


@pytest.fixture
def value(app):
    """The first value that a statement gives, as superuser."""
    with app.connect() as connection:

        def value(query):
            cursor = connection.execute(query)
            return cursor.fetchone()[0] if cursor.description else None

        yield value


def test_the_plan_shows_statements_and_locks_and_changes_nothing(pgrelay, value):
    planned = pgrelay("apply", "--plan")
    assert planned.code == 0
    assert "+ watch callback_requests on public.callback_requests\n    callback.created\n" in planned.out
    trigger = "create or replace trigger zz_pgrelay_callback_requests_insert after insert on public.callback_requests"
    assert f"-- SHARE ROW EXCLUSIVE on public.callback_requests\n    {trigger}" in planned.out
    assert "2 sources to watch; nothing was changed" in planned.err
    full = pgrelay("apply", "--full", "--json").data
    assert {row["kind"] for row in full} == {"watch"}
    assert any(
        statement["sql"].startswith("create or replace function") for statement in full[0]["statements"]
    )
    assert value("select count(*) from pgrelay.sources") == 0
    assert value(TRIGGERS) == 0


def test_a_table_that_a_payload_reads_and_somebody_locks_is_no_fault_of_the_payload(pgrelay, app):
    with app.connect(autocommit=False) as other:
        other.execute("lock table staff in access exclusive mode")
        applied = pgrelay("apply")
    assert (applied.code, applied.err.splitlines()[0]) == (
        1,
        "pgrelay: a lock on a watched table was not granted within 3 s; nothing was changed",
    )


def test_applying_twice_changes_nothing_the_second_time(pgrelay, value):
    first = pgrelay.process("apply")
    assert (first.code, value(TRIGGERS)) == (0, 3)
    installed = value("select max(installed_at) from pgrelay.sources")
    again, planned = pgrelay.process("apply"), pgrelay.process("apply", "--plan")
    assert (again.code, again.out, again.err) == (0, "", "Nothing to do: 2 sources as configured.\n")
    assert (planned.code, planned.out, planned.err) == (again.code, again.out, again.err)
    assert value("select max(installed_at) from pgrelay.sources") == installed


def test_a_changed_rule_is_told_by_its_key_and_locks_nothing(pgrelay, value):
    pgrelay("apply")
    pgrelay.configure(("when: new.assigned_to is not null", "when: new.assigned_to > 0"))
    planned = pgrelay("apply", "--plan")
    assert "~ change callback_requests" in planned.out
    assert "callback.assigned: when: new.assigned_to is not null → new.assigned_to > 0" in planned.out
    assert "EXCLUSIVE" not in planned.out
    assert pgrelay("apply").code == 0
    assert "new.assigned_to > 0" in value(
        "select definition::text from pgrelay.sources where name = 'callback_requests'"
    )


def test_a_source_that_leaves_the_file_is_unwatched_and_another_owners_is_not(pgrelay, app, value):
    pgrelay("apply")
    value("""select pgrelay.watch('{"name": "theirs", "table": "public.staff", "tenant": "company_id",
                                   "events": [{"event": "staff.hired", "on": "insert"}]}', 'shop')""")
    text = pgrelay.config.read_text()
    pgrelay.config.write_text(text[: text.index("  # An escalation that is written down")])
    planned = pgrelay("apply", "--plan")
    assert "- unwatch callback_escalations on public.callback_escalations" in planned.out
    assert "-- ACCESS EXCLUSIVE on public.callback_escalations\n    drop trigger" in planned.out
    applied = pgrelay("apply")
    assert (applied.code, applied.err) == (0, "1 source unwatched. Next: pgrelay check\n")
    assert (
        value("select string_agg(name, ' ' order by name) from pgrelay.sources") == "callback_requests theirs"
    )
    assert value(TRIGGERS) == 3


def test_the_name_of_another_owners_source_is_refused_and_nothing_is_changed(pgrelay, value):
    value("""select pgrelay.watch('{"name": "callback_requests", "table": "public.staff", "tenant": "company_id",
                                   "events": [{"event": "staff.hired", "on": "insert"}]}', 'shop')""")
    refused, planned = pgrelay("apply"), pgrelay("apply", "--plan")
    assert (refused.code, planned.code) == (1, 1)
    assert "belongs to shop, not to main; nothing was changed" in refused.err
    assert value("select count(*) from pgrelay.sources") == 1


def test_without_a_file_nothing_is_unwatched(pgrelay, value):
    pgrelay("apply")
    pgrelay.config.unlink()
    refused = pgrelay("apply")
    assert refused.code == 78
    assert "no configuration file was found" in refused.err
    assert value("select count(*) from pgrelay.sources") == 2


def test_what_broke_is_seen_by_check_and_mended_by_apply(pgrelay, value):
    pgrelay("apply")
    value("alter table callback_requests disable trigger zz_pgrelay_callback_requests_insert")
    value("drop trigger zz_pgrelay_callback_requests_update on callback_requests")
    value("drop function pgrelay.fire_callback_requests")
    value("alter table callback_requests add column colour text")
    found = {(row["level"], row["message"]) for row in pgrelay("check", "--json").data}
    assert {
        ("error", "trigger zz_pgrelay_callback_requests_insert is disabled"),
        ("error", "trigger zz_pgrelay_callback_requests_update is missing"),
        ("error", "function pgrelay.fire_callback_requests is missing"),
        ("warning", "columns added to the table: colour"),
    } <= found
    mended = pgrelay("apply")
    assert (mended.code, mended.err) == (0, "1 source mended. Next: pgrelay check\n")
    assert value(TRIGGERS) == 3
    assert pgrelay("apply").err.startswith("Nothing to do")


def test_functions_of_another_version_are_made_anew(pgrelay, value):
    pgrelay("apply")
    value("""do $$ begin execute replace(pg_get_functiondef('pgrelay.capture_callback_requests'::regproc),
                                         'Change the source', 'Do change the source'); end $$""")
    planned = pgrelay("apply", "--plan")
    assert "! mend callback_requests" in planned.out
    assert "function pgrelay.capture_callback_requests was made by another version" in planned.out
    assert pgrelay("apply").code == 0
    assert pgrelay("apply").err.startswith("Nothing to do")


def test_a_column_that_a_rule_needs_and_that_is_gone_is_an_error_that_names_it(pgrelay, value):
    pgrelay("apply")
    value("alter table callback_requests rename column escalation_level to level")
    errors = [row for row in pgrelay("check", "--json").data if row["level"] == "error"]
    (finding,) = [row for row in errors if row["subject"] == "source callback_requests"]
    assert "escalation_level" in finding["message"]
    refused = pgrelay("apply")
    assert refused.code == 1
    assert "source callback_requests" in refused.err
    assert "escalation_level" in refused.err


def test_a_table_that_was_renamed_is_found_by_its_triggers(pgrelay, value):
    pgrelay("apply")
    value("alter table callback_requests rename to requests_for_callbacks")
    errors = [row for row in pgrelay("check", "--json").data if row["level"] == "error"]
    (finding,) = [row for row in errors if row["subject"] == "source callback_requests"]
    assert finding["message"] == "table public.callback_requests is called public.requests_for_callbacks now"
    assert finding["mend"].startswith("Correct its table in the configuration")


def test_a_lock_that_is_not_granted_ends_it_and_names_who_holds_it(pgrelay, app, value):
    with app.connect(autocommit=False, application_name="nightly-load") as busy:
        busy.execute(
            "insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'a', '1')"
        )
        refused = pgrelay("apply")
    assert refused.code == 1
    assert "was not granted within 3 s; nothing was changed" in refused.err
    assert "nightly-load, idle in transaction" in refused.err
    assert value("select count(*) from pgrelay.sources") == 0


# Privileges -------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(app, tmp_path):
    """A role that owns a fresh installation of pgrelay, but none of the application's tables; and its command."""
    from support.database import new_role

    with new_role(app, "installer", "") as role, app.connect() as connection:
        connection.execute("drop schema pgrelay cascade")
        connection.execute(
            sql.SQL("grant create on database {} to {}").format(
                sql.Identifier(app.name), sql.Identifier(role.name)
            )
        )
        command = Command(tmp_path, role.dsn)
        assert command("migrate").code == 0
        yield role, command


def test_a_missing_trigger_privilege_is_told_as_the_grant_that_mends_it(plain, value):
    role, pgrelay = plain
    text = pgrelay.config.read_text()
    pgrelay.config.write_text(text[: text.index("  # An escalation that is written down")])
    refused = pgrelay("apply")
    assert refused.code == 77
    assert "no TRIGGER privilege on public.callback_requests" in refused.err
    grant = re.search(r"grant trigger on .*;", refused.err)[0]
    assert role.name in grant
    value(grant)
    value(f"grant select on all tables in schema public to {role.name}")
    assert pgrelay("apply").code == 0
    # only the owner of a table may enable its triggers
    value("alter table callback_requests disable trigger all")
    refused = pgrelay("apply")
    assert refused.code == 77
    assert "must be owner of" in refused.err
    assert "Run it as postgres" in refused.err


def test_who_did_not_install_the_schema_is_sent_to_who_did(plain, app, tmp_path):
    from support.database import new_role

    owner, _ = plain
    with new_role(app, "stranger", "") as stranger, app.connect() as connection:
        pgrelay = Command(tmp_path, stranger.dsn)
        refused = pgrelay("webhooks", "list")
        assert refused.code == 77
        assert f"grant pgrelay_admin to {stranger.name};" in refused.err
        connection.execute(re.search(r"grant .*;", refused.err)[0])
        assert pgrelay("webhooks", "list").code == 0
        refused = pgrelay("apply")
        assert refused.code == 77
        assert f"Run it as {owner.name}, who installed the schema" in refused.err
        connection.execute("update pgrelay.schema_objects set digest = '' where path = 'views/health.sql'")
        for command, may_not in (("uninstall", "drop"), ("migrate", "change")):
            refused = pgrelay(command)
            assert refused.code == 77
            assert f"{stranger.name} may not {may_not} the schema" in refused.err
            assert f"Run it as {owner.name}, who installed the schema" in refused.err


# Coming and going -------------------------------------------------------------------------------------------------


def test_migrate_prints_what_psql_can_run(empty_database, tmp_path):
    pgrelay = Command(tmp_path, empty_database.dsn)
    script = pgrelay("migrate", "--sql")
    assert script.code == 0
    subprocess.run(
        ["psql", "-q", "-X", "-d", empty_database.dsn],
        input=script.out,
        text=True,
        check=True,
        capture_output=True,
    )
    assert pgrelay("migrate").err.startswith("Nothing to do")


def test_migrate_prints_the_whole_installation_without_a_database(tmp_path):
    script = Command(tmp_path, "host=/nowhere")("migrate", "--sql")
    assert script.code == 0
    assert "create table pgrelay.outbox" in script.out
    assert "this is the whole installation" in script.err


def test_uninstall_leaves_the_application_as_it_was_and_asks_first(pgrelay, value):
    pgrelay("apply")
    assert pgrelay("uninstall").code == 1
    printed = pgrelay("uninstall", "--sql")
    assert printed.code == 0
    assert value("select to_regnamespace('pgrelay') is not null")
    gone = pgrelay("uninstall", "--yes")
    assert (gone.code, value("select to_regnamespace('pgrelay')"), value(TRIGGERS)) == (0, None, 0)
    assert "2 sources unwatched" in gone.err
    assert pgrelay("status").code == 3
    value("insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'a', '1')")


def test_what_uninstall_prints_does_the_same(pgrelay, app, value):
    pgrelay("apply")
    script = pgrelay("uninstall", "--sql").out
    subprocess.run(
        ["psql", "-q", "-X", "-d", app.dsn], input=script, text=True, check=True, capture_output=True
    )
    assert (value("select to_regnamespace('pgrelay')"), value(TRIGGERS)) == (None, 0)
