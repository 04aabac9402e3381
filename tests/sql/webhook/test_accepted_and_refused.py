"""Which webhooks can be written, and what a person is told about those that cannot."""

import base64
from collections.abc import Mapping

import psycopg
import pytest
from psycopg.types.json import Jsonb

from support.queue import add_webhook, value

GOOD: list[dict[str, object]] = [
    {"url": "https://example.com"},
    {"url": "HTTPS://Example.COM:8443/a/b?c=d&e=%20#f"},
    {"url": "http://example.com./"},
    {"url": "https://xn--bcher-kva.example/hook"},
    {"url": "https://192.0.2.1:1/"},
    {"url": "https://[2001:db8::1]:65535/x"},
    {"url": "https://[fe80::1%25eth0]/"},
    {"url": "https://a_b.example.com/@user:name"},
    {"url": "https://example.com/" + "x" * 2028},
    {"subscribed_events": ["*"]},
    {"subscribed_events": ["a.b", "a.b.c", "a.*", "a.b.*", "1_2.x"]},
    {"headers": {}},
    {
        "headers": {
            "Authorization": "Bearer abc def",
            "X-Empty": "",
            "a!#$%&'*+.^_`|~-": "\ttab inside\tis fine".strip(),
        }
    },
    {"secret_key": "whsec_" + base64.b64encode(b"\0" * 24).decode()},
    {"secret_key": "whsec_" + base64.b64encode(b"\xff" * 64).decode()},
    {"timeout_seconds": 1, "max_retry_attempts": 1},
    {"timeout_seconds": 120, "max_retry_attempts": 100},
    {"retry_schedule": [0]},
    {"retry_schedule": []},
    {"retry_schedule": [60, 2_592_000, *range(98)]},
]

#: columns -> what the message or the constraint says
BAD: list[tuple[dict[str, object], str]] = [
    ({"url": ""}, "it is empty"),
    ({"url": None}, "it is empty"),
    ({"url": "https:///path"}, "it has no host"),
    ({"url": "https://:443/"}, "it has no host"),
    ({"url": "https://"}, "it has no host"),
    ({"url": "https://?x"}, "it has no host"),
    ({"url": "https://user:secret@example.com/"}, "credentials"),
    ({"url": "https://user@example.com/"}, "credentials"),
    ({"url": "ftp://example.com/"}, "must start with https://"),
    ({"url": "example.com/hook"}, "must start with https://"),
    ({"url": "//example.com/"}, "must start with https://"),
    ({"url": "javascript:alert(1)"}, "must start with https://"),
    ({"url": "https://exam ple.com/"}, "space"),
    ({"url": "https://example.com/a b"}, "space"),
    ({"url": " https://example.com/"}, "space"),
    ({"url": "https://example.com/\r\nX: y"}, "control character"),
    ({"url": "https://example.com/\t"}, "control character"),
    ({"url": "https://bücher.example/"}, "outside ASCII"),
    ({"url": "https://example.com\\@evil.example/"}, "backslash"),
    ({"url": "https://exa<mple.com/"}, "malformed"),
    ({"url": "https://[::1/"}, "malformed"),
    ({"url": "https://[zz]/"}, "malformed"),
    ({"url": "https://example.com:0/"}, "port"),
    ({"url": "https://example.com:65536/"}, "port"),
    ({"url": "https://example.com:123456/"}, "port"),
    ({"url": "https://example.com:99999999999999999999/"}, "port"),
    ({"url": "https://example.com:/"}, "port"),
    ({"url": "https://[::1]:0/"}, "port"),
    ({"url": "https://example.com/" + "x" * 2029}, "longer than 2048"),
    ({"subscribed_events": []}, "subscribed_events is empty"),
    ({"subscribed_events": None}, "subscribed_events is empty"),
    ({"subscribed_events": [None]}, "null is not an event type"),
    ({"subscribed_events": ["callback.created", "callback*"]}, '"callback*" is not an event type'),
    ({"subscribed_events": ["*.created"]}, '"*.created" is not an event type'),
    ({"subscribed_events": ["a.*.c"]}, '"a.*.c" is not an event type'),
    ({"subscribed_events": ["a.b.c.*"]}, '"a.b.c.*" is not an event type'),
    ({"subscribed_events": ["**"]}, '"**" is not an event type'),
    ({"subscribed_events": ["callback"]}, '"callback" is not an event type'),
    ({"subscribed_events": ["Callback.Created"]}, "is not an event type"),
    ({"subscribed_events": ["a.b\n"]}, "is not an event type"),
    ({"subscribed_events": [""]}, "is not an event type"),
    ({"headers": ["X-A", "b"]}, "headers must be a JSON object"),
    ({"headers": "X-A: b"}, "headers must be a JSON object"),
    ({"headers": {"X A": "b"}}, '"X A" is not an HTTP header name'),
    ({"headers": {"X-A:": "b"}}, "is not an HTTP header name"),
    ({"headers": {"X-A\n": "b"}}, "is not an HTTP header name"),
    ({"headers": {"": "b"}}, "is not an HTTP header name"),
    ({"headers": {"Ü": "b"}}, "is not an HTTP header name"),
    ({"headers": {"X-Webhook-Signature": "b"}}, "X-Webhook-Signature is set by pgrelay"),
    ({"headers": {"WEBHOOK-ID": "b"}}, "WEBHOOK-ID is set by pgrelay"),
    ({"headers": {"content-type": "b"}}, "content-type is set by pgrelay or by HTTP itself"),
    ({"headers": {"Host": "b"}}, "Host is set by"),
    ({"headers": {"Transfer-Encoding": "chunked"}}, "Transfer-Encoding is set by"),
    ({"headers": {"X-A": 1}}, "the value of X-A must be a string"),
    ({"headers": {"X-A": None}}, "the value of X-A must be a string"),
    ({"headers": {"X-A": "b\r\nX-B: c"}}, "the value of X-A has a line break"),
    ({"headers": {"X-A": "b\n"}}, "the value of X-A has a line break"),
    ({"headers": {"X-A": " b"}}, "the value of X-A has"),
    ({"headers": {"X-A": "ü"}}, "the value of X-A has"),
    ({"headers": {"X-A": "1", "x-a": "2"}}, "x-a is given twice"),
    ({"secret_key": "secret"}, "it must be whsec_ and standard base64"),
    ({"secret_key": ""}, "it must be whsec_ and standard base64"),
    ({"secret_key": "whsec_"}, "it must be whsec_ and standard base64"),
    ({"secret_key": "whsec_" + "ab-_" * 12}, "it must be whsec_ and standard base64"),
    ({"secret_key": "whsec_" + "A" * 33}, "not base64"),
    ({"secret_key": "whsec_" + base64.b64encode(b"x" * 23).decode()}, "24 to 64 bytes"),
    ({"secret_key": "whsec_" + base64.b64encode(b"x" * 65).decode()}, "24 to 64 bytes"),
    (
        {"previous_secret_key": "old", "previous_secret_expires_at": "tomorrow"},
        "previous_secret_key: it must be whsec_",
    ),
    ({"previous_secret_expires_at": "tomorrow"}, "previous_secret_has_an_end"),
    ({"timeout_seconds": 0}, "timeout_seconds is 0, and may be 1 to 120"),
    ({"timeout_seconds": 121}, "timeout_seconds_from_1_to_120"),
    ({"max_retry_attempts": 0}, "max_retry_attempts_from_1_to_100"),
    ({"max_retry_attempts": 101}, "max_retry_attempts is 101, and may be 1 to 100"),
    ({"max_concurrency": 0}, "max_concurrency is 0, and may be 1 to 10000"),
    ({"rate_limit_per_second": 0.001}, "rate_limit_per_second is 0.001, and may be 0.01 to 10000"),
    ({"ordering": "fifo"}, 'ordering is "fifo", and may be none or resource'),
    ({"is_active": None}, "is_active is null"),
    ({"retry_schedule": [-1]}, "retry_schedule"),
    ({"retry_schedule": [60, 2_592_001]}, "retry_schedule"),
    ({"retry_schedule": [None]}, "retry_schedule"),
    ({"retry_schedule": [1] * 101}, "retry_schedule"),
    ({"company_id": ""}, "company_id_not_empty"),
    ({"name": " "}, "name_not_empty"),
]


def adapted(columns: Mapping[str, object]) -> dict[str, object]:
    """Headers as jsonb, and moments that are always ahead."""
    given = dict(columns)
    if "headers" in given:
        given["headers"] = Jsonb(given["headers"])
    return given


def test_four_columns_make_a_webhook_and_the_rest_has_defaults(db: psycopg.Connection) -> None:
    row = db.execute(
        "insert into pgrelay.webhook_configurations (company_id, name, url, subscribed_events)"
        " values (42, 'orders', 'https://example.com/hook', '{callback.created}') returning *"
    ).fetchone()
    assert row is not None
    names = [
        column.name
        for column in db.execute("select * from pgrelay.webhook_configurations limit 0").description or ()
    ]
    found = dict(zip(names, row, strict=True))
    assert found["company_id"] == "42"
    assert found["secret_key"].startswith("whsec_")
    assert len(base64.b64decode(found["secret_key"].removeprefix("whsec_"), validate=True)) == 48
    expected = {
        "is_active": True, "timeout_seconds": 10, "max_retry_attempts": 3, "retry_schedule": None, "headers": None,
        "description": None, "created_by": "postgres", "paused": False, "previous_secret_key": None, "version": 1,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_no_two_secrets_are_the_same(db: psycopg.Connection) -> None:
    assert value(db, "select count(distinct pgrelay.generate_secret()) from generate_series(1, 200)") == 200


def test_good_webhooks_are_written(db: psycopg.Connection) -> None:
    for columns in GOOD:
        add_webhook(db, **adapted(columns))
    assert value(db, "select count(*) from pgrelay.webhook_configurations") == len(GOOD)


def test_bad_webhooks_are_refused_and_it_is_said_why_and_what_to_do(db: psycopg.Connection) -> None:
    for columns, reason in BAD:
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            add_webhook(db, **adapted(columns))
        said = refused.value.diag
        assert reason in f"{said.message_primary} {said.constraint_name}", columns
        assert said.table_name == "webhook_configurations"
        assert said.message_hint
    assert value(db, "select count(*) from pgrelay.webhook_configurations") == 0


def test_a_refusal_never_repeats_a_header_value_or_a_secret(db: psycopg.Connection) -> None:
    for columns in (
        {"headers": {"X-A": "hunter2\n"}},
        {"secret_key": "hunter2"},
        {"url": "https://u:hunter2@example.com/"},
        *(
            {"headers": {"X-A": "hunter2"}, **bad}
            for bad in ({"timeout_seconds": 0}, {"name": None}, {"company_id": None})
        ),
        *({"headers": {"X-A": "hunter2"}, **bad} for bad in ({"max_retry_attempts": None}, {"url": None})),
        {"headers": {"X-A": "hunter2"}, "previous_secret_expires_at": "tomorrow"},
        *(
            {"headers": {"X-A": "hunter2"}, **bad}
            for bad in ({"max_concurrency": 0}, {"rate_limit_per_second": 0}, {"ordering": "fifo"})
        ),
    ):
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            add_webhook(db, **adapted(columns))
        said = refused.value.diag
        assert "hunter2" not in f"{said.message_primary} {said.message_hint} {said.message_detail}"


def test_no_column_that_must_not_be_null_lets_postgres_write_the_row_into_its_log(
    db: psycopg.Connection,
) -> None:
    add_webhook(db, headers=Jsonb({"X-A": "hunter2"}))
    names = db.execute(
        "select attname from pg_attribute where attrelid = 'pgrelay.webhook_configurations'::regclass and attnotnull and attnum > 0"
    ).fetchall()
    filled_in = {"secret_key", "updated_at"}
    for (name,) in names:
        if name in filled_in:
            continue
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            db.execute(f"update pgrelay.webhook_configurations set {name} = null".encode())
        assert refused.value.diag.message_detail is None, name


def test_an_update_is_checked_and_counted_like_an_insert(db: psycopg.Connection) -> None:
    webhook = add_webhook(db)
    with pytest.raises(psycopg.errors.CheckViolation, match="url cannot be used"):
        db.execute("update pgrelay.webhook_configurations set url = 'nowhere'")
    db.execute(
        "update pgrelay.webhook_configurations set name = 'renamed', version = 40, updated_at = 'epoch'"
    )
    row = db.execute(
        "select name, version, updated_at > clock_timestamp() - interval '1 minute' from pgrelay.webhook_configurations"
    ).fetchone()
    assert row == ("renamed", 2, True)
    with pytest.raises(psycopg.errors.CheckViolation, match="id of a webhook cannot be changed"):
        db.execute("update pgrelay.webhook_configurations set id = %s", (webhook + 1,))


def test_a_webhook_stays_its_tenants_for_what_it_is_owed_is_theirs(db: psycopg.Connection) -> None:
    add_webhook(db, "1")
    with pytest.raises(psycopg.errors.CheckViolation, match="cannot be given to another tenant") as refused:
        db.execute("update pgrelay.webhook_configurations set company_id = '2'")
    assert refused.value.diag.constraint_name == "company_id_is_fixed"
    db.execute("update pgrelay.webhook_configurations set company_id = '1'")
