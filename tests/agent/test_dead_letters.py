"""The message of a dead letter: as it came, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import ConsumerRecord, TopicPartition

from agent.dead_letters import REPLAYS, DeadLetter, dead_letter_message
from agent.publishing import Outputs

if TYPE_CHECKING:
    from agent.publishing import Message


def message_with(headers: list[tuple[str, bytes]], detail: str = "why") -> Message:
    return dead_letter_message(
        DeadLetter(0, "undecodable", detail),
        TopicPartition("logs", 3),
        ConsumerRecord("logs", 3, 42, 0, 0, b"key", b"\xff{", None, 3, 2, headers),
        Outputs("logs.anomalies", "logs.dlq"),
    )


def test_key_value_and_headers_stay_and_the_reason_is_added() -> None:
    message = message_with([("trace", b"7"), ("trace", b"8")])
    assert (message.id, message.topic, message.partition) == ("logs/3/42", "logs.dlq", 3)
    assert (message.key, message.value) == (b"key", b"\xff{")
    assert message.headers[:2] == [("trace", b"7"), ("trace", b"8")]
    added = dict(message.headers[2:])
    assert (added.pop("crosyslog.time") or b"").endswith(b"+00:00")
    assert added == {
        "crosyslog.reason": b"undecodable",
        "crosyslog.detail": b"why",
        "crosyslog.topic": b"logs",
        "crosyslog.partition": b"3",
        "crosyslog.offset": b"42",
    }


def test_a_line_that_was_sent_back_keeps_count_and_loses_its_old_reason() -> None:
    message = message_with([("crosyslog.reason", b"scoring"), (REPLAYS, b"2"), ("own", b"x")])
    assert [content for name, content in message.headers if name == "crosyslog.reason"] == [
        b"undecodable"
    ]
    assert (REPLAYS, b"2") in message.headers
    assert ("own", b"x") in message.headers


def test_what_is_too_long_is_cut() -> None:
    message = message_with([("big", b"x" * 30_000), ("more", b"y" * 30_000)], detail="z" * 9_000)
    added = dict(message.headers)
    assert added["crosyslog.detail"] == b"z" * 500
    assert added["crosyslog.headers-left-out"] == b"1"
    assert "more" not in added
    assert added["big"] == b"x" * 30_000
