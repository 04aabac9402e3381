"""What stands in statements, without a database."""

import ast
import inspect

import pytest

from pgrelay.db import store
from pgrelay.db.store import verb_of


@pytest.mark.parametrize(
    ("query", "verb"),
    [
        ("select * from pgrelay.claim(%s, %s::bigint[])", "claim"),
        ("select setval('pgrelay.wake', %s)", "wake"),
        ("select count(*) from pgrelay.capture_errors where recaptured_at is null", "capture_errors"),
        ("select pg_current_xact_id()::text::bigint", "pg_current_xact_id"),
        ("select 1", "other"),
    ],
)
def test_a_statement_is_called_by_the_first_name_of_ours_in_it(query, verb):
    assert verb_of(query) == verb


def test_every_statement_of_the_daemon_has_a_name():
    texts = [
        node.args[0].value
        for node in ast.walk(ast.parse(inspect.getsource(store)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "_rows"
        and isinstance(node.args[0], ast.Constant)
    ]
    verbs = {verb_of(text) for text in texts}
    assert {"expand", "claim", "record_outcomes", "heartbeat"} <= verbs
    assert "other" not in verbs
