from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped]
import polars as pl
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.events import (
    EVENT_VERSION,
    LONGEST_TEXT,
    AnomalyEvent,
    build_events,
    event_schema,
    to_json,
)
from crosyslog.lines import decode, split
from crosyslog.scorer import Scorer
from crosyslog.systems import load_system
from tests.fakes import FakeEncoder, tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

OBSERVED = datetime(2024, 5, 6, 7, 8, 9, 123_456, UTC)

BGL = (
    "FAN 1120000060 2005.06.28 R20-M1 2005-06-28-16.07.40.000001 R20-M1 RAS MONITOR {severity} "
    "fan 3 stopped"
)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    bundle = tiny_bundle(tmp_path_factory.mktemp("events") / "bundle", bias=4.0)
    return Scorer(bundle, FakeEncoder(), EmbeddingCache())


def events(
    scorer: Scorer, *values: bytes | str | None, system: str = "bgl"
) -> list[dict[str, Any]]:
    """The events of lines, after a way through JSON."""
    raw = decode([value.encode() if isinstance(value, str) else value for value in values])
    lines = split(raw, load_system(system)).with_columns(
        stream=pl.lit("logs/3"),
        topic=pl.lit("logs"),
        partition=pl.lit(3, pl.Int32),
        offset=pl.int_range(700, 700 + len(raw)),
    )
    scored, _ = scorer.score(lines, {})
    found = []
    validator = jsonschema.Draft202012Validator(
        event_schema(), format_checker=jsonschema.FormatChecker()
    )
    for event in build_events(scored, scorer, system, OBSERVED):
        line = to_json(event)
        assert b"\n" not in line
        AnomalyEvent.model_validate_json(line, strict=True)
        validator.validate(json.loads(line))
        found.append(json.loads(line))
    return found


def test_an_event_says_what_was_found_where_and_why(scorer: Scorer) -> None:
    (event,) = events(scorer, BGL.format(severity="FATAL"))
    anomaly = event.pop("anomaly")
    assert event == {
        "version": EVENT_VERSION,
        "timestamp": "2005-06-28T23:07:40+00:00",
        "observed_timestamp": "2024-05-06T07:08:09.123456+00:00",
        "severity_text": "FATAL",
        "severity_number": 21,
        "body": "fan 3 stopped",
        "attributes": {
            "log.record.original": BGL.format(severity="FATAL"),
            "component": "MONITOR",
        },
        "resource": {"service.name": "bgl", "host.name": "R20-M1"},
        "source": {"topic": "logs", "partition": 3, "offset": 700},
    }
    assert anomaly["id"] == "logs/3/700"
    assert anomaly["template"] == "MONITOR FATAL fan # stopped"
    assert anomaly["model"] == {"target": "spirit", "version": "0001"}
    assert anomaly["threshold"] == 0.5 <= anomaly["score"] <= 1
    assert anomaly["novel"] is True
    assert len(anomaly["nearest"]) == 3
    assert set(anomaly["nearest"][0]) == {"template", "label", "similarity"}


def test_what_a_line_does_not_say_is_null_or_left_out(scorer: Scorer) -> None:
    (event,) = events(scorer, "no profile knows this line")
    absent = ("timestamp", "severity_text", "severity_number")
    assert [event[name] for name in absent] == [None, None, None]
    assert event["attributes"] == {"log.record.original": "no profile knows this line"}
    assert event["resource"] == {"service.name": "bgl"}
    assert event["body"] == "no profile knows this line"


@pytest.mark.parametrize(
    ("severity", "number"),
    [("INFO", 9), ("info", 9), ("WARNING", 13), ("ERROR", 17), ("FATAL", 21), ("LOUD", None)],
)
def test_severities_have_the_numbers_of_opentelemetry(
    scorer: Scorer, severity: str, number: int | None
) -> None:
    (event,) = events(scorer, BGL.format(severity=severity))
    assert (event["severity_text"], event["severity_number"]) == (severity, number)


def test_only_anomalous_lines_become_events(scorer: Scorer) -> None:
    found = events(scorer, "disk failure", "heartbeat ok", "disk failure", system="plain")
    assert [event["source"]["offset"] for event in found] == [700, 702]
    assert events(scorer) == []


def test_a_repeat_gives_the_same_event(scorer: Scorer) -> None:
    lines = ["disk failure", "something new"]
    first, again = events(scorer, *lines), events(scorer, *lines)
    assert first == again
    ids = [event["anomaly"]["id"] for event in first]
    assert ids == ["logs/3/700", "logs/3/701"]


def test_a_template_has_an_id_of_its_own(scorer: Scorer) -> None:
    found = events(scorer, "fan 1 stopped", "fan 22 stopped", "fan 1 started", system="plain")
    one, same, other = (event["anomaly"]["template_id"] for event in found)
    assert one == same != other


@pytest.mark.parametrize(
    "text",
    [
        "[/red] [bold]not markup[/bold]",
        "\x1b[2J\x1b]0;title\x07 gone",
        "<script>alert(1)</script>",
        '", "anomaly": {"score": 0}, "x": "',
        "\\u0000 \\n \\",
        "nul \x00 and line\u2028separator",
        "\u202eright to left",
        "\U0001f525 " * 50,
        "{{ 7 * 7 }} ${HOME} %s %d",
        "x" * LONGEST_TEXT,
    ],
)
def test_hostile_text_stays_text(scorer: Scorer, text: str) -> None:
    (event,) = events(scorer, text)
    assert event["body"] == event["attributes"]["log.record.original"] == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"gr\xf6\xdfer", "gr\ufffd\ufffder"), (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"), (None, "")],
)
def test_what_is_no_text_is_replaced(scorer: Scorer, value: bytes | None, text: str) -> None:
    (event,) = events(scorer, value)
    assert event["body"] == event["attributes"]["log.record.original"] == text


def test_a_base_explains_by_the_system_it_learnt_from(tmp_path: Path) -> None:
    base = tiny_bundle(tmp_path / "base", kind="base", bias=4.0)
    (event,) = events(Scorer(base, FakeEncoder(), EmbeddingCache()), "disk failure")
    nearest = event["anomaly"]["nearest"][0]
    assert nearest == {"source": "bgl", "label": "alert", "similarity": pytest.approx(1, abs=1e-3)}


def test_the_schema_names_its_version_and_allows_nothing_else(scorer: Scorer) -> None:
    schema = event_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$comment"] == f"version {EVENT_VERSION}"
    (event,) = events(scorer, "disk failure")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event | {"more": 1}, schema)


def test_a_line_too_long_for_a_broker_is_cut_and_says_so(scorer: Scorer) -> None:
    text = "an odd word " * 100_000
    whole, cut = events(scorer, text[:LONGEST_TEXT], text)

    assert "crosyslog.truncated" not in whole["attributes"]
    assert cut["attributes"]["crosyslog.truncated"] == "true"
    assert cut["body"] == cut["attributes"]["log.record.original"] == text[:LONGEST_TEXT]
    assert len(json.dumps(cut)) < 1_000_000
