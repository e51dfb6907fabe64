from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from crosyslog.errors import SystemProfileError
from crosyslog.lines import read_lines, split
from crosyslog.manifest import MANIFEST, checksum, load_manifest
from crosyslog.session_rules import SessionRule
from crosyslog.systems import (
    Example,
    Fields,
    Paths,
    Severity,
    System,
    Time,
    load_system,
    system_names,
)
from crosyslog.systems.profile import DrainSettings
from tests.fakes import tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

#: The tables of a profile.
NESTED = (Paths, Time, Severity, Fields, Example, SessionRule, DrainSettings)

EXAMPLES = [
    pytest.param(name, place, id=f"{name}-{place}")
    for name in system_names()
    for place in range(len(load_system(name).examples))
]

PROFILE = """
name = "ours"
description = "our own"
pattern = '^(?P<host>[a-z]+) (?P<message>.*)$'
"""

PLAIN = """
name = "ours"
description = "our own"
"""

EXAMPLE = """
[[examples]]
line = 'web up'
message = 'up'
text = 'up'
"""


def profile(folder: Path, text: str) -> Path:
    path = folder / "ours.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", system_names())
def test_every_shipped_profile_shows_how_its_lines_split(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert system.examples


@pytest.mark.parametrize(("name", "place"), EXAMPLES)
def test_an_example_splits_into_the_fields_that_it_names(name: str, place: int) -> None:
    system = load_system(name)
    assert_splits(system, system.examples[place])


def assert_splits(system: System, example: Example) -> None:
    # Read on the day that it names, which says the year of a time without one.
    now = datetime.fromisoformat(example.time) if example.time is not None else None
    line = split(pl.Series([example.line]), system, now).row(0, named=True)
    expected = example.model_dump()
    expected["raw"] = expected.pop("line")
    if expected["label"] is not None:
        expected["label"] = expected["label"] != system.fields.normal
    if expected["time"] is not None:
        expected["time"] = datetime.fromisoformat(expected["time"])
    assert line == expected | {"split": True}


@pytest.mark.parametrize("name", system_names())
def test_a_line_says_the_same_with_and_without_its_label(name: str) -> None:
    system = load_system(name)
    labelled = pl.Series([e.line for e in system.examples if e.label is not None], dtype=pl.String)
    bare = labelled.str.replace(r"^[^ ]+ ", "")
    expected, found = read_lines(labelled, system), read_lines(bare, system)
    assert found["label"].null_count() == found.height
    assert found["split"].all()
    assert found.drop("raw", "label").equals(expected.drop("raw", "label"))


def test_a_profile_of_ones_own_is_given_by_path(tmp_path: Path) -> None:
    system = load_system(profile(tmp_path, PROFILE))
    line = read_lines(pl.Series(["web 12 requests"]), system).row(0, named=True)
    assert (line["host"], line["message"], line["time"]) == ("web", "12 requests", None)


def test_groups_may_be_named_either_way(tmp_path: Path) -> None:
    system = load_system(profile(tmp_path, PROFILE.replace("(?P<host>", "(?<host>")))
    assert read_lines(pl.Series(["web up"]), system)["host"].to_list() == ["web"]


def test_an_alternative_is_for_the_lines_that_no_pattern_before_it_matches(tmp_path: Path) -> None:
    more = """alternatives = ['^(?P<component>.): (?P<message>.*)$', '^(?P<message>[!?])']"""
    lines = read_lines(
        pl.Series(["web up", "W: down", "!", "WEB"]), load_system(profile(tmp_path, PROFILE + more))
    )
    assert lines["host"].to_list() == ["web", None, None, None]
    assert lines["component"].to_list() == [None, "W", None, None]
    assert lines["message"].to_list() == ["up", "down", "!", "WEB"]
    assert lines["split"].to_list() == [True, True, True, False]


def test_a_session_is_the_first_match_or_its_first_group(tmp_path: Path) -> None:
    raw = pl.Series(["job=a1 job=b2", "none", "ajob=c3"])
    for session, expected in (
        ("job=[a-z]", ["job=a", None, "job=c"]),
        ("job=([a-z])", ["a", None, "c"]),
        (r"\\bjob=([a-z])\\d", ["a", None, None]),
    ):
        system = load_system(profile(tmp_path, PLAIN + f'session = "{session}"'))
        assert system.groups == ("session",)
        assert read_lines(raw, system)["session"].to_list() == expected


def test_only_a_line_that_splits_has_a_session(tmp_path: Path) -> None:
    system = load_system(profile(tmp_path, PROFILE + "session = '[0-9]+'"))
    lines = read_lines(pl.Series(["web 12 requests", "WEB 12 requests"]), system)
    assert lines["session"].to_list() == ["12", None]


def test_words_stand_for_what_a_severity_is_written_as(tmp_path: Path) -> None:
    words = "[severity.words]\nE = 'ERROR'\n4 = 'WARNING'\n"
    text = PROFILE.replace("host", "severity").replace("[a-z]", "[A-Z0-9]") + words
    lines = read_lines(pl.Series(["E x", "4 x", "F x"]), load_system(profile(tmp_path, text)))
    assert lines["severity"].to_list() == ["ERROR", "WARNING", "F"]


def test_a_profile_survives_being_written_into_a_bundle() -> None:
    for name in system_names():
        system = load_system(name)
        assert System.model_validate_json(system.model_dump_json()) == system


SESSIONS = {
    "hdfs": SessionRule(by="key"),
    "openstack": SessionRule(by="key"),
    **dict.fromkeys(("bgl", "liberty", "spirit", "thunderbird"), SessionRule(by="count", lines=20)),
}


@pytest.mark.parametrize("name", system_names())
def test_a_shipped_profile_says_how_its_lines_make_sessions(name: str) -> None:
    system = load_system(name)
    assert system.sessions == SESSIONS.get(name)
    # Labels of these two belong to sessions.
    assert (system.judged == "sessions") == (name in {"hdfs", "openstack"})
    assert system.drain == DrainSettings(depth=5, similarity=0.75 if name == "bgl" else 0.5)


def test_a_profile_of_ones_own_may_judge_sessions(tmp_path: Path) -> None:
    more = (
        "judged = 'sessions'\n[time]\nformat = '%+'\n[sessions]\nby = 'time'\nseconds = 300\n"
        "[drain]\ndepth = 4\nsimilarity = 1\nchildren = 7\n"
    )
    system = load_system(profile(tmp_path, PROFILE.replace("host", "time") + more))
    assert system.judged == "sessions"
    assert system.sessions == SessionRule(by="time", seconds=300)
    assert system.drain == DrainSettings(depth=4, similarity=1.0, children=7)


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("bgl", SessionRule(by="key"), "no line has a key: say with `session` "),
        ("plain", SessionRule(by="time", seconds=9), "no line has a time: no pattern "),
        ("hdfs", SessionRule(by="key"), None),
        ("hdfs", SessionRule(by="time", seconds=9), None),
        ("plain", SessionRule(by="count", lines=9), None),
    ],
)
def test_a_rule_may_ask_for_what_no_line_of_a_system_has(
    name: str, rule: SessionRule, said: str | None
) -> None:
    assert (load_system(name).session_fault(rule) or "").startswith(said or "")
    assert (load_system(name).session_fault(rule) is None) == (said is None)


def test_a_bundle_of_before_sessions_loads(tmp_path: Path) -> None:
    tiny_bundle(tmp_path / "old", system="bgl")
    path = tmp_path / "old" / MANIFEST
    content = json.loads(path.read_bytes())
    for name in ("checksum", "judged", "sessions", "drain"):
        del (content if name == "checksum" else content["system"])[name]
    path.write_text(json.dumps(content | {"checksum": checksum(content)}), encoding="utf-8")
    system = load_manifest(tmp_path / "old")[0].system
    assert system is not None
    assert (system.judged, system.sessions, system.drain) == ("lines", None, DrainSettings())
    now = load_system("bgl").model_dump(exclude={"sessions", "drain"})
    assert system.model_dump(exclude={"sessions", "drain"}) == now


def keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every key of a profile, nested ones with dots."""
    for name, field in model.model_fields.items():
        yield before + name
        inner = next((part for part in NESTED if part.__name__ in str(field.annotation)), None)
        if inner is not None:
            yield from keys(inner, f"{before}{name}.")


def test_every_key_of_a_profile_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "systems.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([a-z._]+)`", page, flags=re.MULTILINE))
    assert documented - set(system_names()) == set(keys(System))
    assert all(f"`{name}`" in page for name in system_names())


def test_the_profiles_in_the_documentation_split_their_examples(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "systems.md").read_text(encoding="utf-8")
    texts = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert texts
    for text in texts:
        system = load_system(profile(tmp_path, text))
        assert system.examples
        for example in system.examples:
            assert_splits(system, example)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not TOML"),
        ("", "name: is needed and is not there"),
        ("name = 'Ours!'\ndescription = ''", "name: write lower case letters, digits"),
        (
            PROFILE + "patern = 'x'",
            "patern: there is no such key: it is one of name, ",
        ),
        (PROFILE.replace("[a-z]+", "[a-z"), "pattern is no regular expression: "),
        (PROFILE.replace("[a-z]+", "(?=x)"), "pattern is no regular expression: "),
        (PROFILE.replace("?P<message>", ""), "pattern has no group named message"),
        (PROFILE.replace("?P<host>", "?P<hostname>"), "pattern names a group hostname: "),
        (PROFILE.replace("?P<host>", "?P<message>"), "pattern is no regular expression: "),
        (PROFILE + "[fields]\ntext = ['severity', 'message']", "no group named severity"),
        (PROFILE + "[fields]\ntext = ['colour']", "fields.text.0: it is one of label, time, host"),
        (PROFILE + "[fields]\ntext = []", "fields.text: write at least one"),
        (PROFILE + "[fields]\ntext = 7", "fields.text: write a text in quotes, or a list of them"),
        (PROFILE + "[fields]\nlabel = '-'", "fields.label: there is no such key: it is one of "),
        (PLAIN + "[fields]\ntext = ['host', 'message']", "a line is judged whole"),
        (PLAIN + "[fields]\nnormal = 'ok'", "fields.normal has no effect: "),
        (PROFILE + "[severity]\npriority = true", "severity has no effect: no pattern has a "),
        (PROFILE + "[severity.words]\nE = 'ERROR'", "no pattern has a group named severity"),
        (PLAIN + "[severity]\npriority = true", "severity has no effect: "),
        (PROFILE + "[severity]\npriority = 7", "severity.priority: write true or false"),
        (PROFILE + "[severity.words]\nE = 7", "severity.words.E: write a text in quotes"),
        (
            PROFILE.replace("host", "severity") + "[severity]\npriority = true\nwords.E = 'ERROR'",
            "severity.words has no effect beside severity.priority",
        ),
        (PROFILE + "severity = 'high'", "severity: write a table"),
        (PROFILE + "[time]\nformat = 'epoch-ms'", "time has no effect: no pattern has a group "),
        (PROFILE + "session = ''", "session matches nothing at all as well"),
        (PROFILE + "session = '([a-z]*)'", "session matches nothing at all as well"),
        (PROFILE + "[examples]\nline = 'x'", "a table that begins with [[examples]]"),
        (PLAIN + r"pattern = 'x \(?P<message>.*'", "pattern has no group named message"),
        (PROFILE + "alternatives = ['(?P<host>x)']", "alternative 1 has no group named message"),
        (PROFILE + "alternatives = ['(?P<message>x']", "alternative 1 is no regular expression: "),
        (PLAIN + "alternatives = ['(?P<message>x)']", "alternatives come after a pattern"),
        (PROFILE + "[paths]\nmessage = 'm'", "by a pattern or by paths, not by both"),
        (PLAIN + "[paths]\nhost = 'h'", "paths.message: is needed and is not there"),
        (PLAIN + "[paths]\nmessage = []", "paths.message: "),
        (PLAIN + "[paths]\nmessage = 'a..b'", "'a..b' is no path: write nested keys as a.b"),
        (PLAIN + "[paths]\nmessage = ['a', '[0].b']", "'[0].b' is no path"),
        (PLAIN + "[paths]\nmessage = \"a['b'\"", "is no path"),
        (PLAIN + "[paths]\nmessage = ''", "'' is no path"),
        (PLAIN + "fields.text = ['host']\n[paths]\nmessage = 'a'", "paths have none named host"),
        (PROFILE + "session = '(x'", "session is no regular expression: "),
        (PLAIN + "session = 'x'\n[paths]\nmessage = 'a'\nsession = 'b'", "session is said twice"),
        (PROFILE.replace("<host>", "<session>") + "session = 'x'", "session is said twice"),
        (PROFILE + EXAMPLE + "time = '2024-01-02T03:04:05'", "examples.0.time: '2024-01-02"),
        (PROFILE + EXAMPLE + "time = 'noon'", "examples.0.time: 'noon' is no time: write it as "),
        (PROFILE + "[time]\nformat = []", "time.format: "),
        (PROFILE + "[time]\nformat = 'yyyy-MM-dd'", "does not say a day that can be read"),
        (PROFILE + "[time]\nformat = '%H:%M:%S'", "does not say a day that can be read"),
        (PROFILE + "[time]\nformat = '%b %H:%M:%S'", "does not say a day that can be read"),
        (PROFILE + "[time]\nformat = ['%+', '%Q']", "'%Q' is no chrono format, and none of epoch"),
        (PROFILE + "[time]\nformat = '%Y-%m-%d %'", "is no chrono format"),
        (PROFILE + "[time]\nformat = '%a %b %e %T'", "has a weekday and no year"),
        (PROFILE + "[time]\nformat = '%F %T.%f'", "reads %f as nanoseconds: write %.f"),
        (PROFILE + "judged = 'blocks'", "judged: it is one of lines, sessions"),
        (PROFILE + "judged = 'sessions'", "judged = 'sessions' needs a table [sessions]"),
        (PROFILE + "sessions = 'key'", "sessions: write a table"),
        (PROFILE + "[sessions]\nlines = 20", "sessions.by: is needed and is not there"),
        (PROFILE + "[sessions]\nby = 'host'", "sessions.by: it is one of key, count, time"),
        (
            PROFILE + "[sessions]\nby = 'key'",
            "sessions.by = 'key' has no effect: no line has a key",
        ),
        (
            PROFILE + "[sessions]\nby = 'time'\nseconds = 5",
            "sessions.by = 'time' has no effect: no line has a time",
        ),
        (
            PROFILE + "session = 'x'\n[sessions]\nby = 'key'\nlines = 20",
            "sessions: lines has no effect with by = 'key': leave it out",
        ),
        (
            PROFILE + "[sessions]\nby = 'count'",
            "sessions: by = 'count' needs lines: write lines = 20",
        ),
        (
            PROFILE + "[sessions]\nby = 'time'\nlines = 5",
            "sessions: lines has no effect with by = ",
        ),
        (PROFILE + "[sessions]\nby = 'count'\nlines = 0", "sessions.lines: write 1 or more"),
        (PROFILE + "[sessions]\nby = 'count'\nlines = 2.5", "sessions.lines: write a whole number"),
        (PROFILE + "[sessions]\nby = 'count'\nlines = 9_999_999", "write 1000000 or less"),
        (
            PROFILE + "[sessions]\nby = 'count'\nevery = 7",
            "sessions.every: there is no such key: it",
        ),
        (PROFILE + "[drain]\nsimilarity = 0", "drain.similarity: write more than 0"),
        (PROFILE + "[drain]\nsimilarity = nan", "drain.similarity: write "),
        (PROFILE + "[drain]\nsimilarity = 'much'", "drain.similarity: write a number"),
        (PROFILE + "[drain]\nsimilarity = true", "drain.similarity: write a number"),
        (PROFILE + "[drain]\ndepth = 2", "drain.depth: write 3 or more"),
        (PROFILE + "[drain]\nchildren = '100'", "drain.children: write a whole number"),
        (PROFILE + "[drain]\nsim_th = 1", "drain.sim_th: there is no such key: it is one of depth"),
    ],
)
def test_a_malformed_profile_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = profile(tmp_path, text)
    with pytest.raises(SystemProfileError) as caught:
        load_system(path)
    message = str(caught.value)
    assert message.startswith(f"the system profile {path}")
    assert said in message
    assert "\n" not in message
    assert "Input should" not in message
    assert "Value error" not in message


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(SystemProfileError) as caught:
        load_system("sprit")
    assert str(caught.value) == (
        "unknown system 'sprit': it is one of " + ", ".join(system_names()) + ", "
        "or the path of a profile that ends in .toml"
    )


def test_a_profile_that_cannot_be_read_is_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemProfileError, match=r"absent\.toml: No such file or directory$"):
        load_system(tmp_path / "absent.toml")
    with pytest.raises(SystemProfileError, match=r": Is a directory$"):
        load_system(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(SystemProfileError, match=r"broken\.toml: it is not UTF-8$"):
        load_system(broken)
