"""sqlfiles: order, digests, and what is refused."""

from pathlib import Path

import pytest

from pgrelay import sqlfiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small sql/ of its own."""
    for path, text in {
        "install.sql": "-- a\n\\set ON_ERROR_STOP on\n\n\\ir delivery/claim.sql\n\\ir capture/watch.sql\n",
        "delivery/claim.sql": "create function claim();\n",
        "capture/watch.sql": "create function watch();\n",
        "migrations/0002_more.sql": "-- breaking\nalter table t add c int;\n",
        "migrations/0001_schema.sql": "create table t ();\n-- breaking\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_files_come_in_the_order_of_the_table_of_contents(root):
    assert [file.path for file in sqlfiles.files(root)] == ["delivery/claim.sql", "capture/watch.sql"]


def test_a_digest_changes_with_its_own_file_and_no_other(root):
    before = {file.path: file.digest for file in sqlfiles.files(root)}
    (root / "capture/watch.sql").write_text("create function watch(int);\n")
    after = {file.path: file.digest for file in sqlfiles.files(root)}
    assert [path for path in after if after[path] != before[path]] == ["capture/watch.sql"]


def test_migrations_come_by_number_and_breaking_counts_only_in_the_first_line(root):
    found = [(step.number, step.name, step.breaking) for step in sqlfiles.migrations(root)]
    assert found == [(1, "schema", False), (2, "more", True)]


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_two.sql", "3_a.sql", "0003_a.sql~", "0003_A.sql"])
def test_a_migration_out_of_sequence_or_badly_named_is_refused(root, name):
    (root / "migrations" / name).write_text("select 1;\n")
    with pytest.raises(ValueError, match="migration"):
        sqlfiles.migrations(root)


@pytest.mark.parametrize(
    "line",
    ["create table t ();", "\\i capture/more.sql", "\\ir capture/more.sql x", "\\ir delivery/claim.sql"],
)
def test_what_psql_would_run_and_migrate_would_miss_is_refused(root, line):
    with (root / "install.sql").open("a") as contents:
        contents.write(line + "\n")
    with pytest.raises(ValueError, match=r"install\.sql:6"):
        sqlfiles.files(root)


def test_the_install_script_is_one_transaction_with_tables_before_functions(root):
    script = sqlfiles.install_script(root)
    steps = ["begin;", "lock_timeout", "create table t", "alter table t", "claim()", "watch()", "commit;"]
    assert sorted(steps, key=script.index) == steps
    assert (script.count("begin;"), script.count("commit;")) == (1, 1)


def test_every_shipped_sql_file_is_a_migration_or_in_the_table_of_contents():
    root = Path(str(sqlfiles.sql_root()))
    shipped = {path.relative_to(root).as_posix() for path in root.rglob("*.sql")}
    migrations = {path for path in shipped if path.startswith("migrations/")}
    assert shipped - migrations - {"install.sql", "uninstall.sql"} == {file.path for file in sqlfiles.files()}
    assert len(sqlfiles.migrations()) == len(migrations) > 0
