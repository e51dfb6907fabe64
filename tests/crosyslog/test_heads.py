from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.lines import read_texts
from crosyslog.lines import split as split_lines
from crosyslog.systems import System, load_system, system_names
from crosyslog.systems.heads import HEAD, ShortCut, short_cut
from crosyslog.systems.profile import COLUMNS
from crosyslog.systems.splitting import fields_of

SYSTEMS = [load_system(name) for name in system_names()]
PATTERNS = [pattern for system in SYSTEMS for pattern in system.patterns]
EXAMPLES = [example.line for system in SYSTEMS for example in system.examples]

ALL = frozenset(COLUMNS)

#: Where the short cut could go wrong: nothing, everything, several ways, several bytes a character,
#: a first half that has to give back what it took.
TRICKY = [
    r"(?s)^(?:(?P<label>\w+) )?(?P<host>[^ ]*?)(?: |$)(?P<message>.*)$",
    r"(?s)^(?P<host>.*?)(?:: ?|[|(]+|$)(?P<message>.*)$",
    r"(?si)^(?P<host>a|ab|é+)?(?P<component>b?)\|?(?P<message>.*)$",
    r"(?s)^(?P<message>.*)$",
    r"(?s)^a+(?P<host>ab|b)(?P<component>:?)(?P<message>.*)$",
    r"(?s)^a[^ ]* ?(?P<host>[^ ]+)(?P<message>.*)$",
    r"(?s)^(?:ab?)+(?P<host>b?)(?P<label>é|$)(?P<message>.*)$",
    r"(?s)^a(?:b|bé)(?P<component>é*)(?P<message>.*)$",
    r"(?s)^é.(?P<message>.*)$",
]


def matched(pattern: str, lines: list[str], wanted: frozenset[str]) -> list[dict[str, str | None]]:
    """The wanted groups by the whole pattern."""
    found = pl.Series(lines).str.extract_groups(pattern).struct.unnest()
    return found.select(sorted({"message", *wanted} & set(found.columns))).to_dicts()


def split(pattern: str, lines: list[str], wanted: frozenset[str]) -> list[dict[str, str | None]]:
    """The groups as a profile finds them."""
    system = System.model_validate({"name": "x", "description": "x", "pattern": pattern})
    fields = fields_of(pl.Series("raw", lines), system, wanted)
    return fields.select(sorted(matched(pattern, [""], wanted)[0])).to_dicts()


def test_every_pattern_of_the_own_profiles_is_shortened() -> None:
    long = [pattern for pattern in PATTERNS if pattern.endswith("(?P<message>.*)$")]
    assert len(long) > 6
    assert all(short_cut(pattern, ALL) for pattern in long)


def test_what_stands_before_the_first_wanted_group_is_passed_over() -> None:
    for name in ("bgl", "liberty", "spirit", "thunderbird"):
        cut = short_cut(load_system(name).patterns[0], frozenset(["component", "message"]))
        assert cut is not None
        assert "P<" not in cut.before
        assert "(?P<component>" in cut.after
        assert len(cut.before) > len(cut.after)


lines_of = st.sampled_from(EXAMPLES) | st.text("aAbé|(: \n\\[]0", max_size=12)


@pytest.mark.parametrize("pattern", TRICKY + PATTERNS, ids=range(len(TRICKY + PATTERNS)))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_head_and_the_rest_are_what_the_whole_pattern_finds(
    pattern: str, data: st.DataObject
) -> None:
    pieces = st.tuples(lines_of, lines_of).map(lambda two: two[0][: len(two[1])] + two[1])
    lines = data.draw(st.lists(pieces)) + EXAMPLES
    wanted = data.draw(st.frozensets(st.sampled_from(COLUMNS)) | st.just(ALL))
    assert split(pattern, lines, wanted) == matched(pattern, lines, wanted)


@pytest.mark.parametrize("system", SYSTEMS, ids=system_names())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_texts_alone_are_those_of_all_fields(system: System, data: st.DataObject) -> None:
    own = [example.line for example in system.examples]
    pieces = st.sampled_from(own or [""])
    broken = st.tuples(pieces, st.integers(0, 80), lines_of).map(
        lambda three: three[0][: three[1]] + three[2]
    )
    raw = pl.Series("raw", data.draw(st.lists(broken | pieces)) + own)
    wanted = ["raw", "text", "split"]
    assert read_texts(raw, system).equals(split_lines(raw, system).select(wanted))


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"(?s)^a|b(?P<message>.*)$", id="two patterns"),
        pytest.param(r"(?s)^(a)|(b)(?P<message>.*)$", id="two groups"),
        pytest.param(r"^a(?P<message>.*)$", id="a dot that stops at a line feed"),
        pytest.param(r"(?sm)^a(?P<message>.*)$", id="an end in the middle"),
        pytest.param(r"(?sU)^a(?P<message>.*)$", id="as little as possible"),
        pytest.param(r"(?sx)^a #(?P<message>.*)$", id="comments"),
        pytest.param(r"(?s)^a(?-s)b(?P<message>.*)$", id="flags in the middle"),
        pytest.param(r"(?s)^a(?m:b)(?P<message>.*)$", id="flags in a group"),
        pytest.param(r"(?s)a(?P<message>.*)$", id="not from the start"),
        pytest.param(r"(?s)^a(?P<message>.*?)$", id="a lazy message"),
        pytest.param(r"(?s)^a(?P<message>.*)", id="no end"),
        pytest.param(r"(?s)^a(?P<message>[^b]*)$", id="not any message"),
        pytest.param(r"(?s)^[a[b|c]](?P<message>.*)$", id="a class in a class"),
        pytest.param(r"(?s)^\pL|b(?P<message>.*)$", id="an escape of several characters"),
        pytest.param(r"(?s)^a+*(?P<host>b)(?P<message>.*)$", id="a repeated repetition"),
        pytest.param(r"(?s)^a+??(?P<host>b)(?P<message>.*)$", id="a lazy one that is optional"),
        pytest.param(r"(?s)^a+{0,2}(?P<host>b)(?P<message>.*)$", id="a counted one of another"),
        pytest.param(r"(?s)^?a(?P<host>b)(?P<message>.*)$", id="a start that need not be"),
    ],
)
def test_a_pattern_that_may_find_something_else_is_left_alone(pattern: str) -> None:
    assert short_cut(pattern, ALL) is None


@pytest.mark.parametrize(
    "body",
    [r"(?:a|b)", r"\|", r"[|]", r"[^]|]", r"[\]|]", r"(?P<host>a(?:b|c)?)", r"\(\|"],
)
def test_what_only_looks_like_two_patterns_is_shortened(body: str) -> None:
    cut = ShortCut("", f"(?s)^(?P<{HEAD}>{body})")
    assert short_cut(f"(?s)^{body}(?P<message>.*)$", ALL | {"host"}) in {
        cut,
        ShortCut(f"(?s)^{body}", ""),
    }


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("a(?P<host>b)", "a"),
        ("a*(?P<host>b)", ""),
        ("a?b?(?P<host>b)", ""),
        ("a{0,3}(?P<host>b)", ""),
        ("(?:a)(?P<host>b)", ""),
        ("a+(?P<host>b)", "a+"),
        ("x(?:ab(?P<host>b))+", "x"),
        (r"\b(?P<host>b)", ""),
        (r"a(?P<host>\bb)", ""),
        (r"a(?P<host>b|^c)", ""),
        (r"[^a](?P<host>b)", "[^a]"),
        ("(?P<time>a)b(?P<host>b)", "(?:a)b"),
        ("a(?P<time>b)c", "a(?:b)c"),
    ],
)
def test_a_first_half_takes_a_character_at_least_and_nothing_looks_back_at_it(
    body: str, before: str
) -> None:
    cut = short_cut(f"(?s)^{body}(?P<message>.*)$", frozenset(["host"]))
    assert cut is not None
    assert cut.before == (before and f"(?s)^{before}")
