"""What `python -m deploy.topic` refuses; tests/docs/test_pages_run.py sends and reads with it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from deploy.topic import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import KafkaAddress


@pytest.mark.parametrize("words", ["send x", "read x app.log", "look x", "read"])
def test_a_call_that_makes_no_sense_is_one_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_a_broker_that_is_away_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.log").write_text("a line\n")
    with socket.socket() as listener:
        # Bound, and nobody listens.
        listener.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{listener.getsockname()[1]}"
        words = [str(tmp_path / "app.log"), "--bootstrap-servers", servers]
        assert main(["send", "web-logs", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot send at {servers} (KafkaConnectionError): does a broker")
    assert said.count("\n") == 1


def test_a_password_in_an_address_is_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.log").write_text("a line\n")
    servers = "http://ann:hush-hush@h:9092"
    assert main(["send", "x", str(tmp_path / "app.log"), "--bootstrap-servers", servers]) == 2
    said = capsys.readouterr().err
    assert "HOST:PORT" in said
    assert "hush" not in said


@pytest.mark.kafka
@pytest.mark.parametrize("what", ["read", "send"])
def test_a_topic_that_is_not_there_is_one_line(
    kafka: KafkaAddress, capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str
) -> None:
    name = f"test-{uuid4()}"
    (tmp_path / "app.log").write_text("a line\n")
    words = [what, name, *([str(tmp_path / "app.log")] if what == "send" else [])]
    assert main([*words, "--bootstrap-servers", kafka.bootstrap_servers]) == 2
    assert capsys.readouterr().err == (
        f"error: there is no topic {name!r} on {kafka.bootstrap_servers}\n"
    )
