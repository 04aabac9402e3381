"""The table of keys and the settings: one set of names, one set of defaults."""

import dataclasses

import pytest

from pgrelay.config import KEYS, DaemonSettings, Settings, changed_keys, reloaded
from pgrelay.config.keys import KEY_BY_NAME, PATH, SECTIONS


def fields_of_settings():
    """Dotted names of all that the settings hold, but for where they come from and the sources."""
    for field in dataclasses.fields(Settings):
        value = getattr(Settings(), field.name)
        if dataclasses.is_dataclass(value):
            yield from (f"{field.name}.{inner.name}" for inner in dataclasses.fields(value))
        elif field.name not in ("path", "sources"):
            yield field.name


def test_every_field_has_a_key_and_every_key_a_field():
    names = [key.name for key in KEYS]
    assert sorted(fields_of_settings()) == sorted(names)
    assert len(set(names)) == len(names)
    assert {key.section for key in KEYS} == {"", *SECTIONS}


def test_settings_made_of_nothing_have_the_defaults_of_the_table():
    assert {key.name: Settings().value(key) for key in KEYS} == {key.name: key.default for key in KEYS}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_default_is_a_value_that_the_file_could_give(key):
    shown = key.show(key.default)
    if key.empty_means is not None:
        assert shown == '""'
    elif key.kind.many:
        assert tuple(key.parse(key.kind.show(item)) for item in key.default) == key.default
    else:
        assert key.parse(shown) == key.default
        assert type(key.parse(shown)) is type(key.default)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_a_sentence_is_one_sentence(key):
    assert key.sentence[0].isupper()
    assert key.sentence.endswith(".")
    assert key.sentence.count(". ") == 0


@pytest.mark.parametrize("key", [key for key in KEYS if key.minimum is not None], ids=lambda key: key.name)
def test_the_ends_of_a_range_are_within_it_and_what_lies_beyond_is_not(key):
    assert key.parse(key.kind.show(key.minimum)) == key.minimum
    assert key.parse(key.kind.show(key.maximum)) == key.maximum
    with pytest.raises(ValueError, match="is too big: the most is"):
        key.parse(key.kind.show(key.maximum + 1))


def test_secrets_and_what_comes_from_outside_the_file_are_named_once():
    variables = [key.environment for key in KEYS if key.environment]
    assert variables == [
        "PGRELAY_ENVIRONMENT",
        "PGRELAY_DATABASE_DSN",
        "PGRELAY_DATABASE_LISTEN_DSN",
        "PGRELAY_PROXY",
        "PGRELAY_SECRETS_KEY",
    ]
    assert [key.name for key in KEYS if key.secret] == [
        key.name for key in KEYS if key.credential and key.kind is not PATH
    ]


def test_changed_keys_are_those_that_differ():
    before = Settings()
    after = before.with_values({"daemon.lease": 30.0, "log.level": "debug", "owner": "main"})
    assert [key.name for key in changed_keys(before, after)] == ["daemon.lease", "log.level"]
    assert changed_keys(before, before) == ()


def test_a_reload_takes_the_reloadable_keys_and_leaves_the_others():
    before = Settings(daemon=DaemonSettings(name="a"))
    after = before.with_values({key.name: "another" for key in KEYS})
    now = reloaded(before, after)
    assert {key.name for key in KEYS if now.value(key) == "another"} == {
        key.name for key in KEYS if key.reloadable
    }
    assert [key.name for key in changed_keys(now, after)] == [key.name for key in KEYS if not key.reloadable]
    assert now.daemon == before.daemon


def test_a_running_daemon_keeps_its_database_and_its_identity():
    kept = ["owner", "environment", "database.dsn", "database.listen_dsn", "daemon.name", "daemon.lease"]
    assert [name for name in kept if KEY_BY_NAME[name].reloadable] == []
