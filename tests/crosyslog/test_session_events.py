from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import numpy as np
import polars as pl
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.events import LONGEST_TEXT, to_json
from crosyslog.session_events import (
    LONGEST_LINE,
    MOST_LINES,
    SESSION_EVENT_VERSION,
    SessionEvent,
    build_session_events,
    most_attended,
    session_event_schema,
    unlike_support,
)
from crosyslog.word_vectors import GloveWords
from tests.fakes import FakeEncoder, tiny_session_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crosyslog.session_bundle import SessionBundle

OBSERVED = datetime(2024, 5, 6, 7, 8, 9, 123_456, UTC)
TIME = datetime(2009, 2, 14, 7, 15, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> SessionBundle:
    return tiny_session_bundle(tmp_path_factory.mktemp("events") / "bundle")


def session(**changes: object) -> dict[str, Any]:
    whole = {
        "key": "blk_7", "lines": 9, "first_offset": 3, "last_offset": 40, "time": TIME,
        "end_time": TIME, "score": 0.912_345_6, "novel": False,
    }  # fmt: skip
    return whole | changes


def line(number: int = 0, /, **changes: object) -> dict[str, Any]:
    whole = {
        "session": number, "offset": 5, "attention": 0.75, "template": "WARN disk #",
        "raw": "12 WARN disk 7", "message": "disk 7", "component": None,
    }  # fmt: skip
    return whole | changes


def events(
    bundle: SessionBundle,
    sessions: Sequence[dict[str, Any]],
    lines: Sequence[dict[str, Any]],
    threshold: float = 0.5,
) -> list[dict[str, Any]]:
    """Events after a way through JSON."""
    times = {name: pl.Datetime("us", "UTC") for name in ("time", "end_time")}
    made = build_session_events(
        pl.DataFrame(sessions, schema_overrides=times),
        pl.DataFrame(lines, schema_overrides={"component": pl.String()}),
        bundle.manifest,
        threshold=threshold,
        system="hdfs",
        topic="logs",
        observed=OBSERVED,
    )
    found = []
    validator = jsonschema.Draft202012Validator(
        session_event_schema(), format_checker=jsonschema.FormatChecker()
    )
    for event in made:
        text = to_json(event)
        assert b"\n" not in text
        SessionEvent.model_validate_json(text, strict=True)
        validator.validate(json.loads(text))
        found.append(json.loads(text))
    return found


def test_an_event_says_what_was_found_where_and_why(bundle: SessionBundle) -> None:
    lines = [
        line(component="disk"),
        line(offset=4, attention=0.2, raw="11 INFO up", message="up", template="INFO up"),
    ]
    (event,) = events(bundle, [session()], lines)
    assert event == {
        "version": SESSION_EVENT_VERSION,
        "timestamp": "2009-02-14T07:15:30+00:00",
        "end_timestamp": "2009-02-14T07:15:30+00:00",
        "observed_timestamp": "2024-05-06T07:08:09.123456+00:00",
        "body": "disk 7",
        "attributes": {"log.record.original": "12 WARN disk 7", "component": "disk"},
        "resource": {"service.name": "hdfs"},
        "session": {"key": "blk_7", "lines": 9, "first_offset": 3, "last_offset": 40},
        "anomaly": {
            "id": "logs/blk_7",
            "score": 0.9123,
            "threshold": 0.5,
            "novel": False,
            "lines": [
                {"offset": 5, "attention": 0.75, "template": "WARN disk #", "text": "disk 7"},
                {"offset": 4, "attention": 0.2, "template": "INFO up", "text": "up"},
            ],
            "model": {"target": "hdfs", "version": "0001"},
        },
        "source": {"topic": "logs"},
    }


def test_each_session_has_its_own_lines(bundle: SessionBundle) -> None:
    sessions = [session(key=key) for key in ("a", "b", "c")]
    lines = [line(0, offset=1), line(0, offset=2), line(1, offset=3), line(2, offset=4)]
    found = events(bundle, sessions, lines)
    assert [
        (event["session"]["key"], [one["offset"] for one in event["anomaly"]["lines"]])
        for event in found
    ] == [("a", [1, 2]), ("b", [3]), ("c", [4])]


def test_a_score_does_not_seem_less_than_the_threshold(bundle: SessionBundle) -> None:
    (event,) = events(bundle, [session(score=0.700_04)], [line()], threshold=0.700_03)
    assert event["anomaly"]["score"] == event["anomaly"]["threshold"] == 0.700_03


def test_what_the_lines_do_not_say_is_null_or_left_out(bundle: SessionBundle) -> None:
    (event,) = events(bundle, [session(time=None, end_time=None)], [line()])
    assert event["timestamp"] is event["end_timestamp"] is None
    assert set(event["attributes"]) == {"log.record.original"}


@pytest.mark.parametrize("place", ["raw", "message", "component", "key"])
def test_long_texts_are_cut_and_the_event_says_so(bundle: SessionBundle, place: str) -> None:
    long = "an odd word " * 100_000
    changes: dict[str, Any] = {place: long[:LONGEST_TEXT]}
    of_session = {"key": changes.pop("key")} if place == "key" else {}
    (whole,) = events(bundle, [session(**of_session)], [line(**changes)])
    cut_line = place == "message"  # an event holds it twice, once shorter
    assert ("crosyslog.truncated" in whole["attributes"]) is cut_line
    changes = {place: long}
    of_session = {"key": changes.pop("key")} if place == "key" else {}
    (cut,) = events(bundle, [session(**of_session)], [line(**changes)])
    assert cut["attributes"]["crosyslog.truncated"] == "true"
    cut["attributes"].pop("crosyslog.truncated")
    whole["attributes"].pop("crosyslog.truncated", None)
    assert cut == whole
    assert len(json.dumps(cut)) < 1_000_000


def test_of_other_lines_some_text_is_told(bundle: SessionBundle) -> None:
    lines = [line(), line(offset=9, attention=0.1, message="y" * (LONGEST_LINE + 1))]
    (event,) = events(bundle, [session()], lines)
    assert event["anomaly"]["lines"][1]["text"] == "y" * LONGEST_LINE
    assert event["attributes"]["crosyslog.truncated"] == "true"
    lines[1]["message"] = "y" * LONGEST_LINE
    (event,) = events(bundle, [session()], lines)
    assert "crosyslog.truncated" not in event["attributes"]


@pytest.mark.parametrize("text", ["\x1b[2J", "<script>", 'a "quoted" \\ line', "NUL \x00", "\n"])
def test_hostile_text_stays_text(bundle: SessionBundle, text: str) -> None:
    (event,) = events(bundle, [session(key=text)], [line(message=text, raw=text, template=text)])
    assert event["body"] == event["session"]["key"] == event["attributes"]["log.record.original"]
    assert event["anomaly"]["lines"][0]["text"] == event["body"] == text


def test_the_schema_names_its_version_and_allows_nothing_else(bundle: SessionBundle) -> None:
    schema = session_event_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$comment"] == f"version {SESSION_EVENT_VERSION}"
    (event,) = events(bundle, [session()], [line()])
    for wrong in (event | {"more": 1}, {**event, "session": event["session"] | {"lines": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def attended(attention: list[float], starts: list[int], chosen: list[int]) -> list[tuple[Any, ...]]:
    found = most_attended(
        np.array(attention, np.float32), np.array(starts), np.array(chosen, np.int64)
    )
    assert found.columns == ["session", "place", "attention"]
    return found.rows()


def test_the_lines_with_the_most_attention_are_told_largest_first() -> None:
    shares = [0.1, 0.2, 0.7, 1.0, 0.05, 0.15, 0.1, 0.3, 0.3, 0.1]
    assert attended(shares, [0, 3, 4, 10], [2, 0]) == [
        (0, 7, 0.3), (0, 8, 0.3), (0, 5, 0.15), (0, 6, 0.1), (0, 9, 0.1),
        (1, 2, 0.7), (1, 1, 0.2), (1, 0, 0.1),
    ]  # fmt: skip
    assert MOST_LINES == 5


def test_a_difference_behind_the_digits_that_are_told_orders_nothing() -> None:
    # The same session in another company may differ by so much.
    assert attended([0.333_33, 0.333_34, 0.333_33], [0, 3], [0]) == [
        (0, 0, 0.3333), (0, 1, 0.3333), (0, 2, 0.3333),
    ]  # fmt: skip


def test_lines_that_were_not_looked_at_are_not_told() -> None:
    assert attended([0, 0.6, 0.4, 0], [0, 4], [0]) == [(0, 1, 0.6), (0, 2, 0.4)]
    assert attended([0.6, 0.4], [0, 2], []) == []


def test_what_is_like_the_support_is_not_novel(bundle: SessionBundle) -> None:
    texts = ["disk failure", "disk failure again", "quite another matter", "heartbeat ok"]
    novel = unlike_support(bundle, texts, FakeEncoder(), EmbeddingCache())
    assert novel.tolist() == [False, False, True, False]
    assert unlike_support(bundle, [], FakeEncoder(), EmbeddingCache()).tolist() == []


def test_of_words_too_what_is_like_the_support_is_not_novel(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("disk 9 0 0 0\nfailure 0 9 0 0\nheartbeat 0 0 1 0\nodd 0 0 0 1\n")
    bundle = tiny_session_bundle(tmp_path / "bundle", words=GloveWords(path))
    # One of the support is never novel, not even where none of its words has a vector.
    texts = ["failure of disk", "odd odd", "session opened for user", "no word known"]
    novel = unlike_support(bundle, texts, FakeEncoder(), EmbeddingCache())
    assert novel.tolist() == [False, True, False, True]
