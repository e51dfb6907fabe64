"""Which layer of settings counts, and how a wrong one is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agent.settings import describe_settings, load_settings
from crosyslog.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file."""
    path = tmp_path / "agent.toml"
    path.write_text('[kafka]\ngroup_id = "file"\ntopic = "file"\n[batch]\nmax_lines = 7\n')
    return path


def test_command_line_before_environment_before_file_before_default(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSYSLOG_KAFKA__TOPIC", "environment")
    monkeypatch.setenv("CROSYSLOG_KAFKA__OUTPUT_TOPIC", "environment-out")

    settings = load_settings(config, ["kafka.output_topic=set"], {"model.target": None})

    assert settings.kafka.group_id == "file"
    assert settings.batch.max_lines == 7
    assert settings.kafka.topic == "environment"
    assert settings.kafka.output_topic == "set"
    assert settings.batch.linger == 0.1


def test_a_flag_counts_more_than_set() -> None:
    settings = load_settings(assignments=["kafka.topic=a"], flags={"kafka.topic": "b"})

    assert settings.kafka.topic == "b"


def test_names_that_follow_from_the_topic() -> None:
    settings = load_settings(flags={"kafka.topic": "spirit-logs"})

    assert settings.kafka.resolved_group == "crosyslog-spirit-logs"
    assert settings.kafka.resolved_output_topic == "spirit-logs.anomalies"
    assert settings.target == "spirit"


@pytest.mark.parametrize(
    ("written", "seconds"), [("100ms", 0.1), ("2s", 2.0), ("1m", 60.0), ("0.5", 0.5), ("0", 0.0)]
)
def test_durations(written: str, seconds: float) -> None:
    assert load_settings(assignments=[f"batch.linger={written}"]).batch.linger == seconds


def test_a_time_to_start_from() -> None:
    settings = load_settings(assignments=["kafka.start_from=2026-01-31T12:00:00+01:00"])

    assert settings.kafka.start_from == datetime(2026, 1, 31, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("kafka.start_from=yesterday", "kafka.start_from='yesterday'.*earliest, latest, or a time"),
        ("kafka.start_from=2026", "earliest, latest, or a time"),
        ("kafka.start_from=2026-01-31T12:00:00", "earliest, latest, or a time"),
        ("kafka.bootstrap_servers=a b", "bootstrap_servers='a b'.*HOST:PORT"),
        ("kafka.topic=a/b", "kafka.topic='a/b'.*letters, digits"),
        ("kafka.security_protocol=TLS", "SASL_PLAINTEXT or SASL_SSL"),
        ("kafka.sasl_username=ada", "kafka.sasl_username is set.*PLAINTEXT"),
        ("kafka.security_protocol=SASL_SSL", "kafka.sasl_username is not set"),
        ("kafka.ssl_ca_file=ca.pem", "kafka.ssl_ca_file is set.*SASL_SSL"),
        ("batch.max_lines=many", "batch.max_lines='many'.*1 to 1000000"),
        ("batch.max_lines=0", "1 to 1000000"),
        ("batch.linger=soon", "batch.linger='soon'.*0 to 60s"),
        ("model.threshold=1.5", "model.threshold='1.5'.*0 to 1"),
        ("http.port=70000", "0 to 65535"),
        ("log.level=loud", "debug, info, warning or error"),
        ("kafka.topics=x", "did you mean kafka.topic"),
        ("supply.acks=1", "supply.acks is no setting; there are kafka.bootstrap_servers, "),
        ("kafka.topic", "part.name=value"),
    ],
)
def test_what_is_impossible_is_said_in_one_line(assignment: str, expected: str) -> None:
    with pytest.raises(SettingError, match=expected) as caught:
        load_settings(assignments=[assignment])

    assert "\n" not in str(caught.value)


def test_events_do_not_go_to_the_topic_that_is_read() -> None:
    with pytest.raises(SettingError, match=r"kafka\.output_topic='a' is the topic that is read"):
        load_settings(assignments=["kafka.topic=a", "kafka.output_topic=a"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[kafka]\ngrupp_id = 'x'", "kafka.grupp_id is no setting; did you mean kafka.group_id"),
        ("[kafak]\ntopic = 'x'", "kafak is no setting"),
        ("kafka", "is not TOML|are not TOML"),
        ("[batch]\nmax_lines = [1]", r"batch.max_lines='\[1\]'"),
    ],
)
def test_a_wrong_file(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(content)

    with pytest.raises(SettingError, match=expected):
        load_settings(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot read the settings in"):
        load_settings(tmp_path / "agent.toml")


def test_an_unknown_variable_is_refused_and_one_of_another_kind_is_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CROSYSLOG_TEST_KAFKA", "localhost:9092")
    load_settings()
    monkeypatch.setenv("CROSYSLOG_KAFKA__TOPICK", "x")

    with pytest.raises(SettingError, match=r"CROSYSLOG_KAFKA__TOPICK.*did you mean kafka\.topic"):
        load_settings()


def test_a_secret_comes_from_the_environment_or_a_file_never_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sasl = ["kafka.security_protocol=SASL_SSL", "kafka.sasl_username=ada"]
    with pytest.raises(SettingError, match="CROSYSLOG_KAFKA__SASL_PASSWORD_FILE") as caught:
        load_settings(assignments=[*sasl, "kafka.sasl_password=hush"])
    assert "hush" not in str(caught.value)

    secret = tmp_path / "password"
    secret.write_text("hush\n")
    monkeypatch.setenv("CROSYSLOG_KAFKA__SASL_PASSWORD_FILE", str(secret))
    password = load_settings(assignments=sasl).kafka.sasl_password
    assert password is not None
    assert password.get_secret_value() == "hush"

    secret.unlink()
    with pytest.raises(SettingError, match="which CROSYSLOG_KAFKA__SASL_PASSWORD_FILE names"):
        load_settings(assignments=sasl)


def test_a_folder_that_is_set_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSYSLOG_MODEL__STORE", "/models")
    monkeypatch.setenv("CROSYSLOG_ENCODER__CACHE", "/cache")
    described = {one.name: one for one in describe_settings(load_settings())}
    for name, value in (("model.store", "/models"), ("encoder.cache", "/cache")):
        assert described[name].value == value
        assert described[name].default != value
