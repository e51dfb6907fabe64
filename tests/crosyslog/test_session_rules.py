"""Rules of sessions, as a command line and a profile say them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from crosyslog.errors import SettingError
from crosyslog.session_rules import SessionRule, session_rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("key", SessionRule(by="key")),
        ("20", SessionRule(by="count", lines=20)),
        ("1000000", SessionRule(by="count", lines=1_000_000)),
        ("30s", SessionRule(by="time", seconds=30)),
        ("5m", SessionRule(by="time", seconds=300)),
        ("1h", SessionRule(by="time", seconds=3_600)),
        ("8760h", SessionRule(by="time", seconds=31_536_000)),
    ],
)
def test_a_value_of_a_command_line_says_a_rule(text: str, rule: SessionRule) -> None:
    assert session_rule(text) == rule
    assert session_rule(str(rule)) == rule
    assert SessionRule.model_validate_json(rule.model_dump_json()) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Key",
        "20 lines",
        "0",
        "0s",
        "-5",
        "1.5h",
        "1000001",
        "8761h",
        "5d",
        "5M",
        "٢٠",
        "9" * 5000,
    ],
)
def test_what_is_no_rule_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        session_rule(text)
    said = str(caught.value)
    assert repr(text) in said
    assert all(word in said for word in (" key ", " 20 ", " 30s, 5m or 1h "))
    assert "\n" not in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"by": "count"}, "by = 'count' needs lines"),
        ({"by": "time"}, "by = 'time' needs seconds"),
        ({"by": "key", "lines": 20}, "lines has no effect with by = 'key'"),
        ({"by": "time", "seconds": 5, "lines": 20}, "lines has no effect with by = 'time'"),
        ({"by": "count", "seconds": 5, "lines": 20}, "seconds has no effect with by = 'count'"),
        ({"by": "count", "lines": True}, "lines"),
        ({"by": "count", "lines": 20, "every": 3}, "every"),
    ],
)
def test_a_rule_says_what_it_needs_and_no_more(content: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SessionRule.model_validate(content)
