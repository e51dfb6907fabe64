from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING

from agent.logs import JsonFormatter, RepeatFilter, TextFormatter, quiet_client

if TYPE_CHECKING:
    import pytest


def record(
    message: str, *values: object, name: str = "agent", level: int = logging.WARNING
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, values, None)


def test_text_from_a_log_cannot_act_on_a_terminal() -> None:
    hostile = record("cannot read %s", "\x1b[2J\u202e[/red]\r")

    for formatter in (TextFormatter(), JsonFormatter()):
        shown = formatter.format(hostile)
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\r" not in shown
        assert "[/red]" in shown


def test_json_is_an_object_a_line() -> None:
    failed = record("it failed")
    try:
        int("why")
    except ValueError:
        failed.exc_info = sys.exc_info()

    shown = JsonFormatter().format(failed)

    content = json.loads(shown)
    assert "\n" not in shown
    assert (content["level"], content["logger"], content["message"]) == (
        "warning",
        "agent",
        "it failed",
    )
    assert content["time"].endswith("Z")
    assert "ValueError: invalid literal" in content["traceback"]


def test_the_client_repeats_itself_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("agent.logs.time.monotonic", lambda: now)
    repeats = RepeatFilter()

    shown = [repeats.filter(record("no %s", node, name="aiokafka.conn")) for node in range(5)]
    assert shown == [True, False, False, False, False]
    assert repeats.filter(record("another", name="aiokafka.conn"))
    assert all(repeats.filter(record("ours")) for _ in range(3))

    now += 11
    later = record("no %s", 7, name="aiokafka.conn")
    assert repeats.filter(later)
    assert later.getMessage() == "no 7 (and 4 more like it)"


def test_the_client_is_quiet_where_its_failure_becomes_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Whatever another test has left.
    caplog.set_level(logging.WARNING, logger="aiokafka")
    client = logging.getLogger("aiokafka.conn")
    with quiet_client():
        client.error("not now")
    client.error("but now")

    assert caplog.messages == ["but now"]
