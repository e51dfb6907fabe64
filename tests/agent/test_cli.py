"""What a user sees of `crosyslog-agent` without a broker."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest

from agent.cli import app
from agent.replaying import Replay
from agent.settings import load_settings
from crosyslog import terminal
from crosyslog.events import AnomalyEvent
from crosyslog.store import Store
from tests.fakes import add_tiny_session_model

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_settings_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSYSLOG_MODEL__STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CROSYSLOG_ENCODER__CACHE", str(tmp_path / "cache"))


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command prints."""
    assert terminal.run(app, arguments) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_help_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, ["--help"]) == 0

    printed = capfd.readouterr().out
    for word in (
        "--topic",
        "--model",
        "--bootstrap-servers",
        "--set",
        "scan",
        "schema",
        "settings",
        "check",
        "replay-dlq",
    ):
        assert word in printed


def test_schema_is_a_json_schema_of_the_event(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(app, ["schema"]) == 0

    schema = json.loads(capfd.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == list(AnomalyEvent.model_fields)


def test_without_a_topic_the_option_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert "--topic" in refusal(capfd)


def test_an_unknown_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert "--topik" in refusal(capfd, "--topik", "x")


def test_options_before_a_command_are_refused_rather_than_ignored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert "behind the command" in refusal(capfd, "--topic", "x", "settings")


def test_an_unknown_setting_gets_a_suggestion(capfd: pytest.CaptureFixture[str]) -> None:
    said = refusal(capfd, "--topic", "x", "--set", "kafka.group=y")
    assert "kafka.group is no setting; did you mean kafka.group_id?" in said


def test_a_wrong_broker_is_named(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.connection._CONNECT_SECONDS", 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        said = refusal(
            capfd, "--topic", "x", "--bootstrap-servers", address, "--set", "http.port=0"
        )

    assert address in said
    assert "kafka.bootstrap_servers" in said
    assert "credentials" in said


def test_a_taken_port_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        said = refusal(capfd, "--topic", "x", "--set", f"http.port={port}")

    assert f"http.port={port}" in said


def test_settings_lists_each_with_its_environment_variable(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert terminal.run(app, ["settings", "--set", "batch.linger=2s", "--json"]) == 0

    listed = {setting["name"]: setting for setting in json.loads(capfd.readouterr().out)}
    assert listed["batch.linger"]["value"] == "2.0"
    assert listed["batch.linger"]["default"] == "0.1"
    assert listed["batch.linger"]["environment"] == "CROSYSLOG_BATCH__LINGER"
    assert listed["kafka.start_from"]["default"] == "latest"
    assert all(setting["description"] for setting in listed.values())

    assert terminal.run(app, ["settings"]) == 0
    printed = capfd.readouterr().out
    assert all(setting["environment"] in printed for setting in listed.values())


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_secret_is_never_shown(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CROSYSLOG_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("CROSYSLOG_KAFKA__SASL_USERNAME", "ada")
    monkeypatch.setenv("CROSYSLOG_KAFKA__SASL_PASSWORD", "hush-hush")

    assert terminal.run(app, ["settings", *form]) == 0

    printed = capfd.readouterr().out
    assert "hush-hush" not in printed
    assert "(set)" in printed
    assert "hush-hush" not in repr(load_settings())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check",), "kafka.topic is not set"),
        (("replay-dlq",), "kafka.topic is not set"),
        (("replay-dlq", "--topic", "x", "--reason", "boredom"), "'boredom' is no reason: it is"),
    ],
    ids=["check", "replay", "reason"],
)
def test_commands_about_kafka_refuse_in_one_line(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert said in refusal(capfd, *arguments)


def test_check_names_a_model_that_judges_sessions(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    add_tiny_session_model(store, "hdfs")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{unused.getsockname()[1]}"
        said = terminal.run(app, ["check", "--topic", "hdfs-logs", "--bootstrap-servers", server])
    assert said == 2
    printed = capfd.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed if line.startswith("ok")] == [["ok", "settings"]]
    assert printed[-1] == (
        f"FAILED  model     the bundle {store.path('hdfs', '0001')} judges sessions, and lines are "
        "to be judged here: `crosyslog-agent scan FILE --model hdfs` judges those of a log"
    )


def test_a_password_in_an_address_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    servers = "sasl://ann:hush-hush@h:9092"
    said = refusal(capfd, "check", "--topic", "x", "--bootstrap-servers", servers)
    assert "kafka.bootstrap_servers is impossible" in said
    assert "hush" not in said


def test_replay_says_what_went_back_and_what_stays(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def replayed(_: object, reason: str, **_options: object) -> Replay:
        return Replay(1_200, 3, 2) if reason == "oversized" else Replay(0, 0)

    monkeypatch.setattr("agent.replaying.replay", replayed)
    assert terminal.run(app, ["replay-dlq", "--topic", "x", "--dry-run"]) == 0
    assert (
        "oversized     1,200 would go back to x; 3 stay that went back 3 times before; 2 stay "
        "whose value is too large for a topic\n"
    ) in capfd.readouterr().out
    assert terminal.run(app, ["replay-dlq", "--topic", "x", "--reason", "oversized", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["reasons"] == {
        "oversized": {"sent": 1_200, "looping": 3, "incomplete": 2}
    }
