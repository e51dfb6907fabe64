from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from drain3.drain import Drain
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.drain_groups import MalformedGroupsError, TemplateGroups
from crosyslog.lines import read_lines
from crosyslog.masking import mask
from crosyslog.systems import load_system

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"

#: What masking leaves of a few programs' lines.
TEMPLATES = [
    "session opened for user alice by #",
    "session opened for user bob by #",
    "link # is down",
    "session opened for user carol by #",
    "link # is up",
    "#",
    "",
    "cache # evicted",
]

#: Few words, so that templates meet: in a group, in a branch, or with nothing but `#` in common.
WORDS = st.sampled_from(["a", "b", "c", "d", "e", "#", "#,", "é²", "磁盘"])
SOME = st.lists(st.lists(WORDS, max_size=7).map(" ".join) | st.text(max_size=12), max_size=30)
SETTINGS = st.fixed_dictionaries(
    {
        "depth": st.integers(3, 7),
        "similarity": st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]),
        "children": st.integers(1, 4) | st.just(100),
    }
)


def fitted(templates: list[str]) -> TemplateGroups:
    return TemplateGroups.fit(templates, depth=5, similarity=0.5, children=100)


def stored(**changes: object) -> bytes:
    content = json.loads(fitted(TEMPLATES).to_json())
    return json.dumps(content | changes).encode()


def test_templates_that_differ_in_a_word_are_one_group() -> None:
    groups = fitted(TEMPLATES)
    assert groups.groups == [
        "session opened for user # by #",
        "link # is #",
        "#",
        "",
        "cache # evicted",
    ]
    assert groups.match(TEMPLATES).tolist() == [0, 0, 1, 0, 1, 2, 3, 4]


def test_a_template_that_was_not_there_joins_what_it_is_like_or_nothing() -> None:
    unseen = {
        "session opened for user mallory by #": 0,
        "link # is flapping": 1,
        # Too few of its words are at their places, it has more of them, or it begins differently.
        "session opened by nobody at all #": -1,
        "link # is down now": -1,
        "port # is down": -1,
        # Not everything of one word is like a `#` of one word.
        "panic": -1,
    }
    found = fitted(TEMPLATES).match(list(unseen))
    assert found.dtype == np.int64
    assert found.tolist() == list(unseen.values())


def test_a_digit_that_masking_leaves_is_a_letter_like_others() -> None:
    templates = ["area m² is up now", "m² is up now", "n² is up now"]
    assert fitted(templates).groups == templates


def test_branches_that_came_later_lead_no_template_away_from_its_group() -> None:
    templates = [
        "# has left the ring",
        "alice has left the ring",
        # From here on, what begins with `alice` is a branch of its own.
        "alice waits for a vote",
    ]
    groups = TemplateGroups.fit(templates, depth=4, similarity=0.6, children=100)
    assert groups.groups == [templates[0], templates[2]]
    assert groups.match(templates).tolist() == [0, 0, 1]
    # Unlike it, this says what nothing of the fit said.
    assert groups.match(["alice has joined the ring"]).tolist() == [-1]


def test_nothing_is_a_group_where_nothing_was_fitted() -> None:
    groups = fitted([])
    assert groups.groups == []
    assert groups.match(["", "#", "link # is up"]).tolist() == [-1, -1, -1]
    assert groups.match([]).shape == (0,)
    assert TemplateGroups.from_json(groups.to_json()).groups == []


def test_very_long_templates_and_any_script_are_templates() -> None:
    templates = ["word " * 20_000 + "end", "x" * 100_000, "ядро упало на узле", "磁盘 # 错误", "🔥"]
    groups = TemplateGroups.from_json(fitted(templates).to_json())
    assert groups.match(templates).tolist() == [0, 1, 2, 3, 4]
    assert groups.match(["word " * 20_000 + "stop", "磁盘 # 损坏"]).tolist() == [0, -1]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SOME, SOME, SETTINGS)
def test_stored_groups_match_as_before_and_every_template_of_the_fit_has_one(
    templates: list[str], others: list[str], chosen: dict[str, float]
) -> None:
    groups = TemplateGroups.fit(templates, **chosen)  # type: ignore[arg-type]
    again = TemplateGroups.from_json(groups.to_json())
    assert again.groups == groups.groups
    every = [*templates, *others]
    numbers = groups.match(every)
    assert again.match(every).tolist() == numbers.tolist()
    assert (numbers[: len(templates)] >= 0).all()
    assert (numbers < len(groups.groups)).all()
    # Who joins a group has its number of words, and enough of these at their places, unless it
    # says exactly what the group says.
    for template, number in zip(every, numbers, strict=True):
        if number < 0:
            continue
        text, tokens = groups.groups[number].split(), template.split()
        assert len(text) == len(tokens)
        same = sum(one == other != "#" for one, other in zip(text, tokens, strict=True))
        assert text == tokens or same / len(tokens) >= chosen["similarity"]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SOME, SOME, SETTINGS)
def test_groups_and_matches_are_those_of_drain(
    templates: list[str], others: list[str], chosen: dict[str, float]
) -> None:
    drain = Drain(
        depth=chosen["depth"],
        sim_th=chosen["similarity"],
        max_children=chosen["children"],
        param_str="#",
        parametrize_numeric_tokens=False,
    )
    for template in dict.fromkeys(" ".join(one.split()) for one in templates):
        drain.add_log_message(template)
    expected = [cluster.get_template() for cluster in drain.clusters]
    groups = TemplateGroups.fit(templates, **chosen)  # type: ignore[arg-type]
    assert groups.groups == expected
    # Repeats change nothing.
    assert TemplateGroups.fit(templates * 2, **chosen).groups == expected  # type: ignore[arg-type]
    every = [*templates, *others]
    for template, number in zip(every, groups.match(every), strict=True):
        tokens = template.split()
        found = drain.tree_search(drain.root_node, tokens, chosen["similarity"], False)
        assert found is None or found.cluster_id == number + 1


@settings(derandomize=True, deadline=None, max_examples=100)
@given(SOME, SOME, SETTINGS)
def test_a_match_changes_nothing_and_depends_on_its_template_alone(
    templates: list[str], others: list[str], chosen: dict[str, float]
) -> None:
    groups = TemplateGroups.fit(templates, **chosen)  # type: ignore[arg-type]
    before = groups.to_json()
    together = groups.match([*others, *templates]).tolist()
    alone = [groups.match([one]).item() for one in reversed([*others, *templates])]
    assert alone[::-1] == together
    assert groups.to_json() == before


def test_another_process_comes_to_the_same_groups() -> None:
    code = (
        "import json, sys; from crosyslog.drain_groups import TemplateGroups\n"
        "templates = json.load(sys.stdin)\n"
        "made = TemplateGroups.fit(templates, depth=4, similarity=0.4, children=3)\n"
        "print(made.to_json().decode(), made.match(templates).tolist())"
    )
    words = [hashlib.sha256(bytes([number])).hexdigest()[:1] for number in range(250)]
    templates = [" ".join(words[start : start + 5]) for start in range(240)]
    shown = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            input=json.dumps(templates),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [("depth", 2), ("similarity", 0.0), ("similarity", 1.01), ("children", 0)],
)
def test_an_impossible_setting_is_refused_by_name(setting: str, value: float) -> None:
    chosen = {"depth": 5, "similarity": 0.5, "children": 100} | {setting: value}
    with pytest.raises(ValueError, match=rf"^{setting}: Input should be [^\n]*$"):
        TemplateGroups.fit(TEMPLATES, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        stored(depth=2),
        stored(depth="5"),
        stored(depth=True),
        stored(similarity=0),
        stored(similarity=float("nan")),
        stored(children=0),
        stored(more=1),
        stored(groups="link # is #"),
        stored(groups=[["link", "#"]]),
        stored(groups=["link # is #", None]),
        stored(groups=["link #", "link  # is"]),
        stored(groups=["link #", "link\n#"]),
        stored(groups=[" "]),
        json.dumps({"depth": 5, "similarity": 0.5, "children": 100}).encode(),
    ],
)
def test_anything_else_than_stored_groups_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(MalformedGroupsError, match=r"^[^\n]+$"):
        TemplateGroups.from_json(data)


def test_what_is_malformed_is_named() -> None:
    with pytest.raises(MalformedGroupsError, match=r"^groups\.1: words must stand "):
        TemplateGroups.from_json(stored(groups=["a #", "a  b"]))
    with pytest.raises(MalformedGroupsError, match=r"^similarity: "):
        TemplateGroups.from_json(stored(similarity=7))


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development logs are not beside the checkout")
def test_a_real_log_of_hdfs_has_few_groups() -> None:
    lines = read_lines(SHARED / "hdfs.real.log.gz", load_system("hdfs"))
    templates = mask(lines["text"]).unique(maintain_order=True).to_list()
    groups = fitted(templates)
    assert 20 <= len(groups.groups) <= 60
    assert (groups.match(templates) >= 0).all()


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development logs are not beside the checkout")
def test_every_template_of_a_large_real_log_has_a_group() -> None:
    """Branches that came later lead some of these away from their group."""
    lines = read_lines(SHARED / "spirit.reconstructed.log.gz", load_system("spirit"))
    templates = mask(lines["text"]).unique(maintain_order=True).to_list()
    groups = fitted(templates)
    assert len(groups.groups) < len(templates) / 3
    numbers = groups.match(templates)
    assert (numbers >= 0).all()
    again = TemplateGroups.from_json(groups.to_json())
    assert pl.Series(again.match(templates)).equals(pl.Series(numbers))
