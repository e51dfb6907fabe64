from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.systems import System, load_system, system_names
from crosyslog.systems.heads import HEAD, head_of
from crosyslog.systems.splitting import fields_of

SYSTEMS = [load_system(name) for name in system_names()]
PATTERNS = [pattern for system in SYSTEMS for pattern in system.patterns]
EXAMPLES = [example.line for system in SYSTEMS for example in system.examples]

#: Where the shortcut could go wrong: nothing, everything, several ways, several bytes a character.
TRICKY = [
    r"(?s)^(?:(?P<label>\w+) )?(?P<host>[^ ]*?)(?: |$)(?P<message>.*)$",
    r"(?s)^(?P<host>.*?)(?:: ?|[|(]+|$)(?P<message>.*)$",
    r"(?si)^(?P<host>a|ab|é+)?(?P<component>b?)\|?(?P<message>.*)$",
    r"(?s)^(?P<message>.*)$",
]


def matched(pattern: str, lines: list[str]) -> list[dict[str, str | None]]:
    """The groups by the whole pattern."""
    found = pl.Series(lines).str.extract_groups(pattern).struct.unnest()
    return found.select(sorted(found.columns)).to_dicts()


def split(pattern: str, lines: list[str]) -> list[dict[str, str | None]]:
    """The groups as a profile finds them."""
    system = System.model_validate({"name": "x", "description": "x", "pattern": pattern})
    fields = fields_of(pl.Series("raw", lines), system)
    return fields.select(sorted(matched(pattern, [""])[0])).to_dicts()


def test_every_pattern_of_the_own_profiles_is_shortened() -> None:
    long = [pattern for pattern in PATTERNS if pattern.endswith("(?P<message>.*)$")]
    assert len(long) > 6
    assert all(head_of(pattern) for pattern in long)


@pytest.mark.parametrize("pattern", TRICKY + PATTERNS, ids=range(len(TRICKY + PATTERNS)))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_head_and_the_rest_are_what_the_whole_pattern_finds(
    pattern: str, data: st.DataObject
) -> None:
    pieces = st.sampled_from(EXAMPLES) | st.text("aAbé|(: \n\\[]0", max_size=12)
    lines = data.draw(
        st.lists(st.tuples(pieces, pieces).map(lambda two: two[0][: len(two[1])] + two[1]))
    )
    lines += EXAMPLES
    assert split(pattern, lines) == matched(pattern, lines)


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
    ],
)
def test_a_pattern_that_may_find_something_else_is_left_alone(pattern: str) -> None:
    assert head_of(pattern) is None


@pytest.mark.parametrize(
    "body",
    [r"(?:a|b)", r"\|", r"[|]", r"[^]|]", r"[\]|]", r"(?P<host>a(?:b|c)?)", r"\(\|"],
)
def test_what_only_looks_like_two_patterns_is_shortened(body: str) -> None:
    assert head_of(f"(?s)^{body}(?P<message>.*)$") == f"(?s)^(?P<{HEAD}>{body})"
