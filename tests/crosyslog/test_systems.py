from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from crosyslog.errors import SystemProfileError
from crosyslog.lines import read_lines
from crosyslog.systems import load_system, system_names

if TYPE_CHECKING:
    from pathlib import Path

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
    example = system.examples[place]
    line = read_lines(pl.Series([example.line]), system).row(0, named=True)
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not TOML"),
        ("", "name: Field required"),
        ("name = 'Ours!'\ndescription = ''", "name: "),
        (PROFILE + "patern = 'x'", "patern: Extra inputs"),
        (PROFILE.replace("[a-z]+", "[a-z"), "pattern is no regular expression: "),
        (PROFILE.replace("[a-z]+", "(?=x)"), "pattern is no regular expression: "),
        (PROFILE.replace("?P<message>", ""), "pattern has no group named message"),
        (PROFILE.replace("?P<host>", "?P<hostname>"), "pattern names a group hostname: "),
        (PROFILE.replace("?P<host>", "?P<message>"), "pattern is no regular expression: "),
        (PROFILE + "[fields]\ntext = ['severity', 'message']", "no group named severity"),
        (PROFILE + "[fields]\ntext = ['colour']", "fields.text.0: "),
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
