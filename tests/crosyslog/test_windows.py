"""Windows of a stream across batches."""

from __future__ import annotations

import polars as pl
import pytest

from crosyslog.windows import PartitionState, with_windows_so_far

BEFORE = {"a/0": PartitionState(1, (100, 101), ("old", "old"))}


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param(102, ["old", "old", "new", "new"], id="the next line"),
        pytest.param(110, ["old", "old", "new", "new"], id="after a gap"),
        pytest.param(101, ["new", "new"], id="the last line again"),
        pytest.param(100, ["new", "new"], id="the window again, or a topic made anew"),
        pytest.param(200, ["new", "new"], id="another window"),
    ],
)
def test_a_state_is_used_only_for_what_comes_behind_it(first: int, expected: list[str]) -> None:
    lines = pl.DataFrame({"stream": ["a/0"] * 2, "offset": [first, first + 1]})

    frame, renewed = with_windows_so_far(lines, pl.Series("template", ["new"] * 2), BEFORE)

    assert frame["template"].to_list() == expected
    assert frame["starts"].to_list() == [True] + [False] * (len(expected) - 1)
    assert renewed["a/0"].templates == tuple(expected)
