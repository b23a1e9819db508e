"""Settings come from the environment, each declared once."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from schemas.errors import InvalidInput
from schemas.settings import PREFIX, Settings, table, variable_of

CONTRACT = (
    "TOLLGATE_KAFKA_BOOTSTRAP",
    "TOLLGATE_REDIS_URL",
    "TOLLGATE_CLICKHOUSE_URL",
    "TOLLGATE_HTTP_HOST",
    "TOLLGATE_HTTP_PORT",
    "TOLLGATE_SERVICE_TOKENS",
    "TOLLGATE_ADMISSION_ON_ERROR",
    "TOLLGATE_MAX_FUTURE",
    "TOLLGATE_STRIPE_API_KEY",
    "TOLLGATE_STRIPE_API_BASE",
    "TOLLGATE_STRIPE_WEBHOOK_SECRET",
    "TOLLGATE_DATA_DIR",
)


def test_an_empty_environment_gives_the_defaults() -> None:
    """Everything has a default, or is absent."""
    settings = Settings.from_environment({})
    assert settings.http_port == 8080
    assert settings.max_future == timedelta(hours=1)
    assert settings.admission_on_error == "deny"
    assert settings.kafka_bootstrap is None
    assert settings.data_dir == Path.cwd() / ".tollgate"
    assert settings.tokens_file == settings.data_dir / "tokens.json"


def test_an_empty_variable_is_as_if_unset() -> None:
    """`TOLLGATE_HTTP_PORT=` means the default, as in shells and compose files."""
    assert Settings.from_environment({"TOLLGATE_HTTP_PORT": "", "TOLLGATE_REDIS_URL": ""}) == Settings.from_environment(
        {}
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "65536"),
        ("HTTP_PORT", "-1"),
        ("HTTP_PORT", "٣"),
        ("PARTITIONS", "0"),
        ("KAFKA_BOOTSTRAP", "kafka"),
        ("KAFKA_BOOTSTRAP", "kafka:9092,"),
        ("REDIS_URL", "http://127.0.0.1"),
        ("REDIS_URL", "redis://127.0.0.1:port"),
        ("CLICKHOUSE_URL", "127.0.0.1:8123"),
        ("CLICKHOUSE_URL", "http://"),
        ("ADMISSION_ON_ERROR", "perhaps"),
        ("MAX_FUTURE", "an hour"),
        ("MAX_FUTURE", "1.5h"),
        ("MAX_FUTURE", "99999d"),
        ("KAFKA_HEAP", "lots"),
        ("BACKEND", "podman"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    """The error names the variable and shows the value."""
    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment({PREFIX + variable: value})
    assert PREFIX + variable in refused.value.detail
    assert repr(value) in refused.value.detail


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("90", timedelta(seconds=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("10m", timedelta(minutes=10)),
        ("1h", timedelta(hours=1)),
        ("30d", timedelta(days=30)),
        ("0", timedelta(0)),
    ],
)
def test_a_span_of_time_is_written_with_its_unit(value: str, span: timedelta) -> None:
    """Seconds where none is written."""
    assert Settings.from_environment({"TOLLGATE_MAX_FUTURE": value}).max_future == span


def test_a_child_process_reads_the_very_same_settings(tmp_path: Path) -> None:
    """Writing settings as variables and reading them again changes nothing."""
    settings = Settings.from_environment(
        {
            "TOLLGATE_KAFKA_BOOTSTRAP": "a:1,b:2",
            "TOLLGATE_REDIS_URL": "redis://:p@h:1/0",
            "TOLLGATE_CLICKHOUSE_URL": "http://u:p@h:1",
            "TOLLGATE_MAX_FUTURE": "1500ms",
            "TOLLGATE_SERVICE_TOKENS": str(tmp_path / "t"),
            "TOLLGATE_STRIPE_API_KEY": "sk",
        },
        data_dir=tmp_path,
    )
    assert Settings.from_environment(settings.environment()) == settings


def test_a_given_value_is_told_from_a_default() -> None:
    """A value is somebody's choice if its variable is set, to the default even, or if it is another than the
    default.
    """
    settings = Settings.from_environment({})
    assert not settings.is_given("partitions", {})
    assert settings.is_given("partitions", {"TOLLGATE_PARTITIONS": "8"})
    assert dataclasses.replace(settings, partitions=9).is_given("partitions", {})
    assert not settings.is_given("redis_url", {})


def test_every_public_variable_is_a_setting() -> None:
    """None of the promised names is missing."""
    assert set(CONTRACT) <= {variable_of(field.name) for field in dataclasses.fields(Settings)}


def test_the_table_has_one_sentence_for_each_setting() -> None:
    """One row a variable, each with a sentence that ends like one."""
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [variable_of(field.name) for field in dataclasses.fields(Settings)]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4
        assert cells[3][0].isupper()
        assert cells[3].endswith(".")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_URL", "http://:hush@127.0.0.1"),
        ("REDIS_URL", "redis://:p:hush@127.0.0.1:port"),
        ("CLICKHOUSE_URL", "ftp://u:hush@h"),
    ],
)
def test_a_password_in_a_bad_url_is_not_shown(variable: str, value: str) -> None:
    """The error names the variable alone."""
    with pytest.raises(InvalidInput) as refused:
        Settings.from_environment({PREFIX + variable: value})
    assert PREFIX + variable in refused.value.detail
    assert "hush" not in refused.value.detail


def test_settings_do_not_show_secrets() -> None:
    """Not in a log line that shows the whole value, nor in a traceback's."""
    given = {
        "REDIS_URL": "redis://:hush@127.0.0.1:1",
        "CLICKHOUSE_URL": "http://u:hush@127.0.0.1:1",
        "STRIPE_API_KEY": "hush",
        "STRIPE_WEBHOOK_SECRET": "hush",
    }
    settings = Settings.from_environment({PREFIX + name: value for name, value in given.items()})
    assert "hush" not in repr(settings)
    assert settings.stripe_api_key == "hush"
