"""config.example.yaml and the reference: made from the tables, and true."""

import re

import pytest

from pgrelay.config import KEYS, Settings, changed_keys, load
from pgrelay.config.example import EXAMPLE_FILE, example, reference_table, sources_reference_table
from pgrelay.config.keys import SECTIONS
from pgrelay.config.sample_sources import SAMPLE_SOURCES
from pgrelay.config.source_keys import EVENT_KEYS, PAYLOAD_KEYS, SOURCE_KEYS, TENANT_KEYS
from pgrelay.errors import ConfigError

EIGHT = ["created", "assigned", "contacted", "completed", "cancelled", "expired", "overdue", "escalated"]


def loaded(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load(path, environ={}, credentials=None)


def test_the_example_file_is_up_to_date():
    assert EXAMPLE_FILE.read_text("utf-8") == example(), "run: python -m pgrelay.config.example"


def test_the_example_gives_the_defaults(tmp_path):
    settings = loaded(tmp_path, example())
    assert [key.name for key in changed_keys(Settings(), settings)] == ["daemon.name"]


def test_every_key_of_the_example_can_be_uncommented_and_still_is_the_default(tmp_path):
    text = re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", example(), flags=re.MULTILINE)
    for key in KEYS:
        indent = "  " if key.section else ""
        assert f"\n{indent}{key.field}: " in text, key.name
    settings = loaded(tmp_path, text)
    assert [key.name for key in changed_keys(Settings(), settings)] == ["daemon.name"]
    assert settings.sources == loaded(tmp_path, example()).sources


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_key_of_the_example_stands_in_its_section(tmp_path, key):
    section = f"\n{key.section}:\n" if key.section else "\n"
    start = example().index(section)
    head, tail = example()[:start], example()[start:]
    indent = "  " if key.section else ""
    settings = loaded(
        tmp_path, head + tail.replace(f"\n{indent}#{key.field}: ", f"\n{indent}{key.field}: ", 1)
    )
    assert settings.value(key) == key.default or key.name == "daemon.name"
    wrong = head + tail.replace(f"\n{indent}#{key.field}: ", f"\n{indent}{key.field}: {{x: 1}} #", 1)
    with pytest.raises(ConfigError, match=re.escape(f": {key.name}: is a mapping")):
        loaded(tmp_path, wrong)


def test_the_sections_of_the_example_stand_open_so_that_one_line_is_enough(tmp_path):
    for section in SECTIONS:
        assert f"\n{section}:\n" in example()
    text = example().replace("  #lease: 15s", "  lease: 20s")
    assert loaded(tmp_path, text).daemon.lease == 20.0


def test_no_line_of_the_example_is_longer_than_the_code_may_be():
    assert [line for line in example().splitlines() if len(line) > 110] == []


def test_the_example_makes_all_eight_events_of_the_callback_requests(tmp_path):
    requests, escalations = loaded(tmp_path, example()).sources
    assert [rule.event for rule in requests.events] == [f"callback.{word}" for word in EIGHT]
    assert [rule.event for rule in escalations.events] == ["callback.escalated"]
    for source in (requests, escalations):
        assert (source.resource, source.prefix) == ("callback_request", "callback")
        assert set(source.payload.extra) >= {"branch_name", "service_name"}
    assert escalations.key == "callback_request_id"


def test_tables_in_the_expressions_of_the_example_carry_their_schema():
    sql = re.sub("^ *#.*", "", SAMPLE_SOURCES, flags=re.MULTILINE)
    tables = re.findall(r"\b(?:from|join) (\S+)", sql)
    assert len(tables) > 10
    assert {table.split(".")[0] for table in tables} == {"public"}


def test_the_references_name_every_key_once():
    rows = reference_table().splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| `{key.name}`" for key in KEYS]
    rows = sources_reference_table().splitlines()[2:]
    assert len(rows) == len([*SOURCE_KEYS, *TENANT_KEYS, *PAYLOAD_KEYS, *EVENT_KEYS])


def test_the_references_are_tables_that_markdown_can_read():
    for table in (reference_table(), sources_reference_table()):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
        assert not re.search(r"<[a-z]", table)


def test_the_reference_tells_default_range_and_whether_a_reload_is_enough():
    assert (
        "| `daemon.lease` | duration | `15s` | 1s to 10m |  | "
        "How long deliveries stay this daemon's after a heartbeat; it beats five times as often. |\n"
    ) in reference_table()
    assert "| `log.level` | text | `info` | debug, info, warning or error | yes | " in reference_table()
