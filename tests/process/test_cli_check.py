"""`check`, `adopt` and the exits of every command: what is wrong, in words, with its mend and a code."""

import pytest

from support.command import Command
from support.database import new_role


@pytest.fixture
def adopted(pgrelay):
    """The same, applied, and the original: the test's database is a copy of a template."""
    assert pgrelay("apply").code == 0
    assert pgrelay("adopt", "--keep-pending", "--yes").code == 0
    return pgrelay


@pytest.fixture
def execute(app):
    with app.connect() as connection:
        yield connection.execute


def found(done, *levels):
    return {
        (row["subject"], row["message"])
        for row in done.data
        if row["level"] in (levels or ("warning", "error"))
    }


# check ------------------------------------------------------------------------------------------------------------


def test_all_is_well_but_for_the_missing_daemon(adopted, execute):
    checked = adopted("check")
    assert checked.code == 1
    assert "! daemons: none is running: nothing is delivered\n    systemctl start pgrelay" in checked.out
    assert checked.err == "1 warning.\n"
    execute("select pgrelay.sign_on('relay-1', 'host', 1, '1.0', 60)")
    checked = adopted("check")
    assert (checked.code, checked.err) == (0, "All is well.\n")
    assert "✓ daemons: relay-1 1.0, heartbeat" in checked.out
    assert "✓ notifications: arrive" in checked.out
    assert "✓ tls: trusts the system's certificates\n" in checked.out


def test_files_for_tls_that_cannot_be_used_are_an_error_that_names_the_key(adopted, tmp_path):
    adopted.configure(('#ca_file: ""', f"ca_file: {tmp_path}/none.pem"))
    (error,) = [row for row in adopted("check", "--json").data if row["level"] == "error"]
    assert (
        error["message"] == f"network.ca_file: {tmp_path}/none.pem cannot be read: No such file or directory"
    )
    ran = adopted("run")
    assert (ran.code, ran.err) == (78, f"pgrelay: {error['message']}\n")


def test_as_json_each_finding_has_level_subject_message_and_mend(adopted):
    checked = adopted("check", "--json")
    assert checked.code == 1
    assert {tuple(row) for row in checked.data} == {("level", "subject", "message", "mend")}
    (warning,) = [row for row in checked.data if row["level"] == "warning"]
    assert warning["mend"].endswith("pgrelay run")


def test_what_waits_what_failed_and_what_cannot_be_called_is_found(adopted, execute):
    execute("""insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)
               values ('1', 'inside', 'http://10.0.0.7/x', '{*}')""")
    execute("insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'a', '1')")
    execute("select setval('pgrelay.webhook_configurations_id_seq', 1, false)")
    execute("""insert into pgrelay.capture_errors (source, event_type, message)
               values ('callback_requests', 'callback.created', 'no such \x1b[2J column')""")
    checked = adopted("check", "--json")
    assert checked.code == 1
    messages = " / ".join(message for _, message in found(checked))
    assert "1 event not yet turned into deliveries" in messages
    assert "10.0.0.7" in messages
    assert "pgrelay.webhook_configurations_id_seq is at" in messages
    assert "1 change without callback.created" in messages
    assert "\x1b" not in adopted("check").out


def test_a_copy_is_an_error_until_it_is_adopted(pgrelay, execute):
    pgrelay("apply")
    execute(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " values (1, 'CRM', 'https://example.com/', '{callback.*}')"
    )
    execute(
        "insert into callback_requests (company_id, customer_name, customer_phone) values (1, 'Ada', '1')"
    )
    checked = pgrelay("check", "--json")
    assert checked.code == 2
    assert {subject for subject, _ in found(checked, "error")} == {"copy guard"}
    assert pgrelay("adopt").code == 2
    asked = pgrelay("adopt", "--cancel-pending")
    assert asked.code == 1
    assert "this database is a copy within its cluster" in asked.out
    assert "It holds 0 unfinished deliveries and 1 event not yet turned into deliveries." in asked.out
    assert "--yes" in asked.err
    assert pgrelay("adopt", "--cancel-pending", "--yes").code == 0
    assert pgrelay("adopt", "--cancel-pending").err.startswith("Nothing to do")
    assert not found(pgrelay("check", "--json"), "error")


def test_another_environment_is_not_served(adopted):
    adopted.configure(("#environment: production", "environment: staging"))
    checked = adopted("check", "--json")
    assert ("copy guard", "nothing is sent from here: the configuration says environment staging") in {
        (subject, message.partition(",")[0]) for subject, message in found(checked, "error")
    }


def test_a_role_that_cannot_be_a_daemon_is_told_the_grant_that_makes_it_one(adopted, app, execute, tmp_path):
    with new_role(app, "relay", "") as role:
        pgrelay = Command(tmp_path, role.dsn)
        checked = pgrelay("check", "--json")
        assert checked.code == 2
        assert "permission denied for schema pgrelay" in str(found(checked, "error"))
        ran = pgrelay.process("run")
        assert (ran.code, "permission denied for schema pgrelay" in ran.err) == (77, True)
        execute(f"grant pgrelay_reader to {role.name}")
        checked = pgrelay("check", "--json")
        (error,) = [row for row in checked.data if row["level"] == "error"]
        assert error["mend"] == f"grant pgrelay_daemon to {role.name};"
        execute(error["mend"])
        assert not found(pgrelay("check", "--json"), "error")


def test_notifications_that_captures_do_not_send_are_told(
    cluster_with_prepared, database_with_prepared, tmp_path
):
    pgrelay = Command(tmp_path, database_with_prepared.dsn)
    assert any(
        "max_prepared_transactions is 20" in message
        for _, message in found(pgrelay("check", "--json"), "info")
    )


def test_an_event_type_that_no_source_makes_is_told_when_it_is_subscribed_to_and_by_check(adopted):
    added = adopted(
        *("webhooks", "add", "--company", "1", "--name", "CRM", "--url", "https://example.com/"),
        *("--event", "callback.creatd", "--event", "callback.*", "--event", "*"),
    )
    assert added.err.count("Warning:") == 1
    assert "Warning: no source makes callback.creatd; only pgrelay.emit() could." in added.err
    told = {message for _, message in found(adopted("check", "--json"), "info")}
    assert "CRM subscribes to callback.creatd, which no source makes" in told
    mended = adopted("webhooks", "set", "1", "--event", "callback.created")
    assert (mended.code, mended.err) == (0, "")
    assert "which no source makes" not in adopted("check").out


def test_a_missing_schema_and_an_outdated_one_send_to_migrate(adopted, execute):
    execute("update pgrelay.schema_objects set digest = '' where path = 'views/health.sql'")
    warnings = dict(found(adopted("check", "--json"), "warning"))
    assert warnings["schema"] == "not as this version ships it: views/health.sql and grants.sql"
    assert adopted("migrate").code == 0
    execute("drop schema pgrelay cascade")
    checked = adopted("check")
    assert checked.code == 2
    name = execute("select current_database()").fetchone()[0]
    told = f"✗ schema: there is no schema pgrelay in database {name}\n    Run pgrelay migrate."
    assert told in checked.out


def test_a_schema_from_another_file_is_an_error_and_no_daemon_runs_on_it(adopted, execute):
    execute("update pgrelay.schema_migrations set digest = repeat('0', 64)")
    checked = adopted("check")
    assert checked.code == 2
    assert (
        "✗ schema: migration 0001 was applied from another file than this version of pgrelay ships"
        in checked.out
    )
    assert "update pgrelay.schema_migrations set digest = '" in checked.out
    ran = adopted("run")
    assert (ran.code, "migration 0001 was applied from another file" in ran.err) == (3, True)


def test_a_wrong_configuration_is_found_line_by_line(pgrelay):
    pgrelay.config.write_text("owner: main\ndeamon: {}\ndaemon:\n  lease: soon\n")
    checked = pgrelay("check", "--json")
    assert checked.code == 2
    messages = sorted(message for _, message in found(checked, "error"))
    assert [message.split(" ")[0] for message in messages] == ["pgrelay.yaml:2:1:", "pgrelay.yaml:4:10:"]


# Exits ------------------------------------------------------------------------------------------------------------


def test_an_unreachable_database_is_69_and_a_wrong_dsn_78(tmp_path):
    done = Command(tmp_path, "host=/nowhere dbname=x")("status")
    assert done.code == 69
    assert "/nowhere" in done.err
    assert "database.dsn" in done.err
    assert Command(tmp_path, "not a dsn")("status").code == 78
    checked = Command(tmp_path, "host=/nowhere")("check")
    assert (checked.code, checked.out.splitlines()[1][:11]) == (2, "✗ database:")


def test_a_password_in_the_dsn_is_never_shown(tmp_path):
    done = Command(tmp_path, "postgresql://u:hunter2@127.0.0.1:1/x")("status")
    assert done.code == 69
    assert "hunter2" not in done.out + done.err
    done = Command(tmp_path, "host=h password=not hunter2=x")("status")
    assert (done.code, "hunter2" in done.err) == (78, False)
    done = Command(tmp_path, "host=h prot=1")("status")
    assert (done.code, "'prot' is no option, did you mean 'port'?" in done.err) == (78, True)


def test_a_bad_configuration_is_78_and_shows_line_and_nearest_key(pgrelay):
    pgrelay.config.write_text("database:\n  dns: x\n")
    done = pgrelay("webhooks", "list")
    assert done.code == 78
    assert "pgrelay.yaml:2:3: database.dns" in done.err
    assert "did you mean 'dsn'" in done.err


def test_a_database_without_the_schema_is_3(empty_database, tmp_path):
    done = Command(tmp_path, empty_database.dsn).process("deliveries", "list")
    with empty_database.connect() as connection:
        name = connection.info.dbname
    told = f"pgrelay: there is no schema pgrelay in database {name}\n  Run pgrelay migrate.\n"
    assert (done.code, done.err) == (3, told)


def test_the_configuration_is_found_by_option_variable_and_place(pgrelay, tmp_path):
    elsewhere = tmp_path / "other.yaml"
    elsewhere.write_text("owner: other\n")
    assert "pgrelay.yaml: owner main" in pgrelay("check").out
    assert "other.yaml: owner other" in pgrelay("check", PGRELAY_CONFIG=str(elsewhere)).out
    assert "other.yaml: owner other" in pgrelay("check", "-c", str(elsewhere), PGRELAY_CONFIG="/nowhere").out
    missing = pgrelay("status", "-c", "/nowhere.yaml")
    assert (missing.code, "/nowhere.yaml: no such file" in missing.err) == (78, True)
