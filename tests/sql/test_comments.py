"""Everything explains itself to who looks with psql, and no function resolves names by the caller's search_path."""

import psycopg

#: Functions small and qualified enough to go without: the planner could not inline them otherwise.
INLINED = {"event_patterns", "tenant"}


def names(db: psycopg.Connection, query: str) -> set[str]:
    return {row[0] for row in db.execute(query.encode())}


def test_every_table_view_and_sequence_has_a_comment(db: psycopg.Connection) -> None:
    # a sequence behind an identity column belongs to that column
    assert not names(
        db,
        "select relname from pg_class c where relnamespace = 'pgrelay'::regnamespace and relkind in ('r', 'p', 'v', 'S')"
        " and obj_description(oid, 'pg_class') is null"
        " and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass and d.deptype = 'i')",
    )


def test_every_function_has_a_comment(db: psycopg.Connection) -> None:
    assert not names(
        db,
        "select oid::regprocedure::text from pg_proc where pronamespace = 'pgrelay'::regnamespace"
        " and obj_description(oid, 'pg_proc') is null",
    )


def test_every_comment_is_one_line_that_ends_like_a_sentence(db: psycopg.Connection) -> None:
    assert not names(
        db,
        "select description from pg_description where not description ~ '^[[:print:]]*[.)]$' and objoid in ("
        "  select oid from pg_class where relnamespace = 'pgrelay'::regnamespace"
        "  union all select oid from pg_proc where pronamespace = 'pgrelay'::regnamespace)",
    )


def test_every_function_pins_its_search_path(db: psycopg.Connection) -> None:
    assert (
        names(
            db,
            "select proname from pg_proc where pronamespace = 'pgrelay'::regnamespace"
            " and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)",
        )
        == INLINED
    )


def test_no_function_of_the_owners_rights_is_executable_by_everybody(db: psycopg.Connection) -> None:
    defined = "from pg_proc where pronamespace = 'pgrelay'::regnamespace and prosecdef"
    assert len(names(db, f"select proname {defined}")) > 5
    open_to_all = "proacl is null or exists (select from aclexplode(proacl) where grantee = 0)"
    assert not names(db, f"select proname {defined} and ({open_to_all})")


def test_every_constraint_of_a_webhook_tells_by_its_name_what_it_wants(db: psycopg.Connection) -> None:
    # the command line shows the name of a constraint that has no hint, with spaces for underscores
    found = names(
        db,
        "select conname from pg_constraint where conrelid = 'pgrelay.webhook_configurations'::regclass and contype = 'c'",
    )
    assert found == {
        "company_id_not_empty",
        "name_not_empty",
        "timeout_seconds_from_1_to_120",
        "max_retry_attempts_from_1_to_100",
        "previous_secret_has_an_end",
        "max_concurrency_from_1_to_10000",
        "rate_limit_per_second_from_0_01_to_10000",
        "ordering_known",
        "payload_format_known",
        "payload_template_given",
    }
