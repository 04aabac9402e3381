"""From files, environment and credentials to settings; and the line, column and key of every mistake."""

import importlib
import os
import socket

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pgrelay.config import DaemonSettings, Settings, load
from pgrelay.errors import ConfigError

#: The package has a function of that name, which hides the module from an import statement.
load_module = importlib.import_module("pgrelay.config.load")


@pytest.fixture
def read(tmp_path):
    """Settings from the text of a file, named explicitly; nothing else speaks unless given."""

    def read(text, environ=None, credentials=None):
        path = tmp_path / "pgrelay.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, environ=environ or {}, credentials=credentials)

    return read


@pytest.fixture
def findings(read, tmp_path):
    """The findings about a text, without the name of the file before them."""

    def findings(text, **others):
        with pytest.raises(ConfigError) as caught:
            read(text, **others)
        file = f"{tmp_path / 'pgrelay.yaml'}:"
        return [line.removeprefix(file) for line in str(caught.value).splitlines()]

    return findings


# What is read -------------------------------------------------------------------------------------------------


def test_every_kind_of_value_reaches_the_settings_under_its_own_name(read):
    settings = read(
        """
owner: crm
environment: staging
database: {dsn: "host=db password='a #b'", connect_timeout: 3}
daemon: {name: relay-1, lease: 30s, batch_size: 50}
delivery:
  {retry_schedule: [10s, 5m, 2h], max_response_bytes: 4KiB, retry_jitter: 0.25, user_agent: Acme hooks/2}
network: {allow_http: true, allowed_networks: [10.0.0.0/8, "::1"]}
log: {level: debug, format: json}
retention: {events: 7d}
"""
    )
    assert (settings.owner, settings.environment) == ("crm", "staging")
    assert (settings.database.dsn, settings.database.connect_timeout) == ("host=db password='a #b'", 3.0)
    assert (settings.daemon.name, settings.daemon.lease, settings.daemon.batch_size) == ("relay-1", 30.0, 50)
    assert settings.delivery.retry_schedule == (10.0, 300.0, 7_200.0)
    assert (settings.delivery.max_response_bytes, settings.delivery.retry_jitter) == (4_096, 0.25)
    assert settings.delivery.user_agent == "Acme hooks/2"
    assert settings.network.allow_http is True
    assert settings.network.allowed_networks == ("10.0.0.0/8", "::1/128")
    assert (settings.log.level, settings.log.format, settings.retention.events) == (
        "debug",
        "json",
        604_800.0,
    )
    assert settings.database.statement_timeout == Settings().database.statement_timeout


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n", "~", "daemon:\nsources:\n", "{}", "\ufeff"])
def test_a_file_that_says_nothing_gives_the_defaults(read, tmp_path, text):
    settings = read(text)
    assert settings == Settings(
        path=tmp_path / "pgrelay.yaml", daemon=DaemonSettings(name=socket.gethostname())
    )


def test_a_growing_schedule_is_written_out(read):
    settings = read("delivery: {retry_schedule: exponential 10s to 1m}\n")
    assert settings.delivery.retry_schedule == (10.0, 20.0, 40.0, 60.0)
    settings = read("delivery: {retry_schedule: [0s, exponential 1h..4h]}\n")
    assert settings.delivery.retry_schedule == (0.0, 3_600.0, 7_200.0, 14_400.0)


def test_one_value_may_stand_for_a_list_of_one(read):
    settings = read("delivery: {retry_schedule: 5m}\nnetwork: {allowed_networks: 127.0.0.0/8}\n")
    assert settings.delivery.retry_schedule == (300.0,)
    assert settings.network.allowed_networks == ("127.0.0.0/8",)


def test_text_is_what_was_written_and_not_what_yaml_makes_of_it(read):
    settings = read("owner: on\nenvironment: 007\ndaemon: {name: 1e3}\n")
    assert (settings.owner, settings.environment, settings.daemon.name) == ("on", "007", "1e3")


def test_an_anchor_serves_in_several_places(read):
    settings = read("retention: {events: &long 90d, deliveries: *long}\n")
    assert settings.retention.deliveries == 90 * 86_400.0


@pytest.mark.parametrize("nothing", ["", '""', "~", "null"])
def test_keys_that_may_be_empty_take_their_default(read, nothing):
    settings = read(
        f"database:\n  dsn: {nothing}\n  listen_dsn: {nothing}\ndelivery:\n  user_agent: {nothing}\n"
    )
    assert (settings.database.dsn, settings.database.listen_dsn) == ("", None)
    assert settings.delivery.user_agent == Settings().delivery.user_agent


def test_nothing_is_expanded(read):
    assert read("database: {dsn: 'host=${HOST}'}\n", environ={"HOST": "db"}).database.dsn == "host=${HOST}"


def test_settings_are_printed_without_the_secrets(read):
    settings = read("database: {dsn: 'password=hunter2', listen_dsn: 'password=hunter2'}\n")
    assert "hunter2" not in repr(settings)


# Where it comes from ------------------------------------------------------------------------------------------


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """The two places that are looked at when no file is named, in a directory of the test's own."""
    places = (tmp_path / "here.yaml", tmp_path / "etc.yaml")
    monkeypatch.setattr(load_module, "SEARCHED", places)
    return places


def owner_of(environ, path=None):
    settings = load(path, environ=environ, credentials=None)
    return settings.owner, settings.path


def test_files_are_looked_for_in_their_order(tmp_path, searched):
    here, etc = searched
    named, variable = tmp_path / "named.yaml", tmp_path / "variable.yaml"
    for path in (here, etc, named, variable):
        path.write_text(f"owner: {path.stem}\n")
    environ = {"PGRELAY_CONFIG": str(variable)}
    assert owner_of(environ, named) == ("named", named)
    assert owner_of(environ) == ("variable", variable)
    assert owner_of({"PGRELAY_CONFIG": ""}) == ("here", here)
    here.unlink()
    assert owner_of({}) == ("etc", etc)
    etc.unlink()
    assert owner_of({}) == ("main", None)


def test_the_places_are_those_that_the_documentation_names():
    assert [str(path) for path in load_module.SEARCHED] == ["pgrelay.yaml", "/etc/pgrelay/config.yaml"]


def test_without_any_file_the_environment_still_counts(searched):
    settings = load(None, environ={"PGRELAY_DATABASE_DSN": "host=db"}, credentials=None)
    assert (settings.path, settings.database.dsn) == (None, "host=db")


def test_a_file_that_was_named_must_exist(tmp_path, searched):
    missing = tmp_path / "gone.yaml"
    searched[0].write_text("owner: here\n")
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file") as caught:
        load(missing, environ={}, credentials=None)
    assert "PGRELAY_CONFIG" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file\n  it is what PGRELAY_CONFIG names"):
        load(None, environ={"PGRELAY_CONFIG": str(missing)}, credentials=None)


def test_a_file_that_is_there_but_cannot_be_read_is_not_passed_over(searched):
    searched[0].mkdir()
    searched[1].write_text("owner: etc\n")
    with pytest.raises(ConfigError, match=r"here\.yaml: cannot be read: Is a directory"):
        load(None, environ={}, credentials=None)


def test_the_environment_goes_before_credentials_and_they_before_the_file(read, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    text, environ = "database: {dsn: file}\n", {"PGRELAY_DATABASE_DSN": "environment"}
    assert read(text, credentials=credentials).database.dsn == "file"
    (credentials / "dsn").write_text("credential\n")
    assert read(text, credentials=credentials).database.dsn == "credential"
    assert read(text, environ=environ, credentials=credentials).database.dsn == "environment"
    assert (
        read(text, environ={"PGRELAY_DATABASE_DSN": ""}, credentials=credentials).database.dsn == "credential"
    )
    (credentials / "dsn").write_text(" \n")
    assert read(text, credentials=credentials).database.dsn == "file"


def test_the_dsn_for_listen_and_the_name_of_the_environment_come_from_outside_too(read, tmp_path):
    (tmp_path / "listen_dsn").write_text("host=direct")
    settings = read("", environ={"PGRELAY_ENVIRONMENT": "staging"}, credentials=tmp_path)
    assert (settings.database.listen_dsn, settings.environment) == ("host=direct", "staging")


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("http://proxy.example:3128", True),
        ("https://relay:p%40ss@[2001:db8::1]:443/", True),
        ("socks5://proxy.example", False),
        ("http://", False),
        ("http://proxy.example:99999", False),
        ("http://proxy.example/path", False),
        ("http://proxy.example?a", False),
        ("http://pröxy.example", False),
    ],
)
def test_a_proxy_is_a_url_without_path(read, text, usable):
    environ = {"PGRELAY_PROXY": text}
    if usable:
        assert read("", environ=environ).network.proxy == text
    else:
        with pytest.raises(
            ConfigError, match=r"PGRELAY_PROXY: network\.proxy: the value is not the URL of a proxy"
        ):
            read("", environ=environ)


def test_the_credential_of_a_file_is_the_file_itself(read, tmp_path):
    text = "network: {client_key: /etc/ssl/key.pem, ca_file: /etc/ssl/ca.pem}\n"
    (tmp_path / "client_key").write_text("whatever it holds")
    network = read(text, credentials=tmp_path).network
    assert (network.client_key, network.ca_file) == (str(tmp_path / "client_key"), "/etc/ssl/ca.pem")


def test_what_is_wrong_with_a_variable_or_a_credential_names_it(findings, tmp_path):
    (tmp_path / "dsn").write_bytes(b"\xff")
    (tmp_path / "listen_dsn").mkdir()
    found = findings("", environ={"PGRELAY_ENVIRONMENT": "my staging"}, credentials=tmp_path)
    assert found == [
        f"{tmp_path}/dsn: database.dsn: is not UTF-8",
        f"{tmp_path}/listen_dsn: database.listen_dsn: cannot be read: Is a directory",
        "PGRELAY_ENVIRONMENT: environment: 'my staging' is not a name: "
        "use up to 63 letters, digits, dots, hyphens and underscores",
    ]


def test_the_file_is_checked_where_the_environment_overrides_it(findings):
    assert findings("environment: [a]\n", environ={"PGRELAY_ENVIRONMENT": "staging"}) == [
        "1:14: environment: is a list, and should be a single value"
    ]


# Mistakes in keys and their values ----------------------------------------------------------------------------

MISTAKES = {
    "unknown key of a section": (
        "daemon:\n  leese: 15s\n",
        "2:3: daemon.leese: unknown key, did you mean 'lease'?",
    ),
    "unknown key at the top": (
        "owner: main\ndatabse:\n  dsn: x\n",
        "2:1: databse: unknown key, did you mean 'database'?",
    ),
    "key of another section": (
        "daemon: {max_concurrency: 3}\n",
        "1:10: daemon.max_concurrency: unknown key, did you mean 'delivery.max_concurrency'?",
    ),
    "key of a section at the top": ("lease: 3\n", "1:1: lease: unknown key, did you mean 'daemon.lease'?"),
    "dotted key": ("daemon.lease: 3\n", "1:1: daemon.lease: unknown key; write it as 'lease' under 'daemon'"),
    "key like no other": (
        "log:\n  colour: true\n",
        "2:3: log.colour: unknown key; known here: level, format",
    ),
    "merge key": (
        "log: {<<: {level: info}}\n",
        "1:7: log.<<: unknown key; known here: level, format",
    ),
    "key twice": (
        "log:\n  level: info\n  format: json\n  level: debug\n",
        "4:3: level: stands here twice; first on line 2",
    ),
    "section twice": ("log: {}\nlog: {}\n", "2:1: log: stands here twice; first on line 1"),
    "section that is a value": ("daemon: 5\n", "1:9: daemon: is a single value, and should be a mapping"),
    "section that is a list": ("daemon:\n- lease: 5\n", "2:1: daemon: is a list, and should be a mapping"),
    "value that is a mapping": (
        "daemon:\n  lease: {seconds: 5}\n",
        "2:10: daemon.lease: is a mapping, and should be a single value",
    ),
    "list that is a mapping": (
        "network: {allowed_networks: {a: b}}\n",
        "1:29: network.allowed_networks: is a mapping, and should be a list",
    ),
    "list within a list": (
        "network:\n  allowed_networks:\n    - [10.0.0.0/8]\n",
        "3:7: network.allowed_networks[0]: is a list, and should be a single value",
    ),
    "item without a value": (
        "network:\n  allowed_networks:\n    - 10.0.0.0/8\n    -\n",
        "4:6: network.allowed_networks[1]: has no value",
    ),
    "key without a value": (
        "daemon:\n  lease:\n",
        "2:3: daemon.lease: has no value; give it one, or remove the line",
    ),
    "text for a duration": (
        "daemon:\n  lease: soon\n",
        "2:10: daemon.lease: 'soon' is not a duration: "
        "write seconds, or a number with ms, s, m, h or d, like 90s or 5m",
    ),
    "base sixty": (
        "daemon: {lease: 12:30}\n",
        "1:17: daemon.lease: '12:30' is not a duration: "
        "write seconds, or a number with ms, s, m, h or d, like 90s or 5m",
    ),
    "text for a whole number": (
        "daemon: {batch_size: many}\n",
        "1:22: daemon.batch_size: 'many' is not a whole number: write digits alone, like 200",
    ),
    "octal": (
        "daemon: {batch_size: 0100}\n",
        "1:22: daemon.batch_size: '0100' is not a whole number: write digits alone, like 200",
    ),
    "number in quotes": (
        'daemon: {batch_size: "100"}\n',
        "1:22: daemon.batch_size: is in quotes, which makes it text: write it without them",
    ),
    "fraction in quotes": (
        "delivery: {retry_jitter: '0.1'}\n",
        "1:26: delivery.retry_jitter: is in quotes, which makes it text: write it without them",
    ),
    "yes": ("network: {allow_http: yes}\n", "1:23: network.allow_http: 'yes' is neither true nor false"),
    "true in quotes": (
        "network: {allow_http: 'true'}\n",
        "1:23: network.allow_http: is in quotes, which makes it text: write it without them",
    ),
    "size with a unit of thousands": (
        "delivery: {max_response_bytes: 16kB}\n",
        "1:32: delivery.max_response_bytes: '16kB' is not a size: "
        "write bytes, or a whole number with KiB, MiB or GiB, like 16KiB",
    ),
    "network with host bits": (
        "network: {allowed_networks: [10.0.0.0/8, 192.168.1.7/16]}\n",
        "1:42: network.allowed_networks: '192.168.1.7/16' is not a network, "
        "it names an address within 192.168.0.0/16",
    ),
    "choice": (
        "log: {level: inof}\n",
        "1:14: log.level: 'inof' is not one of debug, info, warning, error, did you mean 'info'?",
    ),
    "choice in capitals": (
        "log: {level: WARN}\n",
        "1:14: log.level: 'WARN' is not one of debug, info, warning, error, did you mean 'warning'?",
    ),
    "too small": ("daemon: {lease: 500ms}\n", "1:17: daemon.lease: '500ms' is too small: the least is 1s"),
    "too big": ("daemon: {lease: 1d}\n", "1:17: daemon.lease: '1d' is too big: the most is 10m"),
    "proxy without a scheme": (
        "network: {proxy: 'hush@proxy.example:3128'}\n",
        "1:18: network.proxy: the value is not the URL of a proxy: "
        "write http://proxy.example.com:3128, or https://user:password@…",
    ),
    "key that is too short": (
        "secrets: {key: aHVzaA==}\n",
        "1:16: secrets.key: the value encodes 4 bytes instead of 32: make a key with pgrelay secrets key",
    ),
    "path from nowhere": (
        "network: {ca_file: ca.pem}\n",
        "1:20: network.ca_file: 'ca.pem' is not a whole path: "
        "write it from the root on, like /etc/pgrelay/ca.pem",
    ),
    "negative": ("daemon: {batch_size: -5}\n", "1:22: daemon.batch_size: '-5' is too small: the least is 1"),
    "one of a list too big": (
        "delivery:\n  retry_schedule: [60, 31d]\n",
        "2:24: delivery.retry_schedule: '31d' is too big: the most is 30d",
    ),
    "growing too far": (
        "delivery:\n  retry_schedule: exponential 10s to 31d\n",
        "2:19: delivery.retry_schedule: 'exponential 10s to 31d' is too big: the most is 30d",
    ),
    "not growing": (
        "delivery:\n  retry_schedule: exponentially 10s to 6h\n",
        "2:19: delivery.retry_schedule: 'exponentially 10s to 6h' is not a growing schedule: "
        "write it like exponential 10s to 6h",
    ),
    "growing beyond the longest wait": (
        "delivery:\n  retry_schedule: exponential 10s to 2d\n",
        "2:19: delivery.retry_schedule: a wait of 2d is longer than max_retry_wait, 1d",
    ),
    "list without any": (
        "delivery: {retry_schedule: []}\n",
        "1:28: delivery.retry_schedule: is an empty list; name something, or remove the line",
    ),
    "header that would break the request": (
        'delivery: {user_agent: "a\\r\\nX-Evil: 1"}\n',
        "1:24: delivery.user_agent: 'a X-Evil: 1' cannot stand in a header: "
        "use ASCII characters, and no spaces around them",
    ),
    "reserved owner": (
        "owner: sql\n",
        "1:8: owner: 'sql' is the owner of sources that were made by hand with pgrelay.watch()",
    ),
    "schedule beyond the longest wait": (
        "delivery:\n  retry_schedule: [60, 2d]\n",
        "2:19: delivery.retry_schedule: a wait of 2d is longer than max_retry_wait, 1d",
    ),
    "longest wait below the schedule": (
        "delivery:\n  max_retry_wait: 30s\n",
        "2:19: delivery.max_retry_wait: a wait of 1m is longer than max_retry_wait, 30s",
    ),
    "long value": (
        f"daemon: {{lease: {'x' * 100}}}\n",
        f"1:17: daemon.lease: '{'x' * 60}...' is not a duration: "
        "write seconds, or a number with ms, s, m, h or d, like 90s or 5m",
    ),
}


@pytest.mark.parametrize(("text", "finding"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place_and_key(findings, text, finding):
    assert findings(text) == [finding]


def test_columns_count_characters_and_not_bytes(findings):
    assert findings("log: {level: info, 'übung': 1}\n") == [
        "1:20: log.übung: unknown key; known here: level, format"
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(findings):
    text = """\
owner: a b
daemon:
  leese: 15s
  batch_size: many
nonsense: 1
daemon:
  lease: 1
log: [json]
sources:
  - name: orders
"""
    places = [line.split(" ")[:2] for line in findings(text)]
    assert places == [
        ["1:8:", "owner:"],
        ["3:3:", "daemon.leese:"],
        ["4:15:", "daemon.batch_size:"],
        ["5:1:", "nonsense:"],
        ["6:1:", "daemon:"],
        ["8:6:", "log:"],
        ["10:5:", "sources[0].table:"],
        ["10:5:", "sources[0].tenant:"],
        ["10:5:", "sources[0].events:"],
    ]


def test_a_configuration_error_ends_with_the_exit_code_of_one():
    assert ConfigError.exit_code == os.EX_CONFIG


# What is no configuration at all ------------------------------------------------------------------------------

NO_YAML = {
    "tab": (
        "daemon:\n\tlease: 5\n",
        "2:1: is not YAML: a tab, where lines are indented with spaces",
    ),
    "colon in plain text": (
        "owner: a: b\n",
        "1:9: is not YAML: mapping values are not allowed in this context",
    ),
    "unknown alias": ("owner: *nobody\n", "1:8: is not YAML: found undefined alias"),
    "two documents": (
        "owner: a\n---\nowner: b\n",
        "2:1: is not YAML: expected a single document in the stream, but found another document",
    ),
    "control character": ("owner: main\nlog: \x07\n", "2:6: has the control character U+0007"),
    "not UTF-8": (b"owner: main\nlog: \xe9\n", "2:6: is not UTF-8"),
    "only a word": ("pgrelay\n", "1:1: the file should be a mapping, of lines like 'owner: main'"),
    "only a list": ("- owner: main\n", "1:1: the file should be a mapping, of lines like 'owner: main'"),
    "key that is a list": ("? [a]\n: b\n", "1:3: a key should be a single word"),
    "alias within itself": (
        "network: {allowed_networks: &a [*a]}\n",
        "1:29: an alias stands within what it stands for",
    ),
    "tag": ("owner: !!python/name:os.system main\n", "has the tag"),
}


@pytest.mark.parametrize(("text", "finding"), NO_YAML.values(), ids=NO_YAML)
def test_what_cannot_be_read_as_yaml_is_told_with_its_place(findings, text, finding):
    assert finding in findings(text)[0]


@pytest.mark.parametrize(("text", "finding"), MISTAKES.values(), ids=MISTAKES)
def test_without_libyaml_the_findings_are_the_same(findings, monkeypatch, text, finding):
    monkeypatch.setattr(load_module, "_Loader", yaml.SafeLoader)
    assert findings(text) == [finding]


def test_a_file_nested_beyond_reason_is_refused(findings, monkeypatch):
    monkeypatch.setattr(load_module, "_Loader", yaml.SafeLoader)
    assert findings("[" * 3_000 + "]" * 3_000) == [" is nested too deeply"]


fragments = st.sampled_from(
    [
        "daemon",
        "lease",
        "sources",
        "events",
        "tenant",
        "on",
        "at",
        "becomes",
        "payload",
        "extra",
        "name",
        ":",
        ": ",
        "\n",
        "\n  ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
        "*a",
        "!x ",
        '"',
        "'",
        "~",
        "#",
        "|",
        "5",
    ]
)


@given(st.lists(fragments, max_size=25).map("".join) | st.text(max_size=40))
def test_any_text_gives_settings_or_findings_that_name_the_file_on_every_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    try:
        settings = load(path, environ={}, credentials=None)
    except ConfigError as error:
        assert all(line.startswith(f"{path}:") for line in str(error).splitlines())
    else:
        assert settings.path == path
