"""Sessions of lines, against a plain account of them; and of lines that come in pieces."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.session_rules import SessionRule, session_rule
from crosyslog.sessions import Sessions, SessionStream, group_sessions, join_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = datetime(2024, 2, 28, 23, 59, 58, tzinfo=UTC)
DAY = 86_400.0

#: What a line has of a session's key and of a time, in seconds since `BEGIN`.
Line = tuple[str | None, float | None]


def frame(lines: Sequence[Line]) -> pl.DataFrame:
    times = [None if time is None else BEGIN + timedelta(seconds=time) for _, time in lines]
    return pl.DataFrame(
        {
            "session": pl.Series([key for key, _ in lines], dtype=pl.String),
            "time": pl.Series(times, dtype=pl.Datetime("us", "UTC")),
            "row": pl.Series(range(len(lines)), dtype=pl.Int64),
        }
    )


def plainly(lines: Sequence[Line], rule: SessionRule) -> tuple[list[tuple[str, list[int]]], int]:
    """The sessions and how many lines are left out, one line after the other."""
    if rule.by == "key":
        found: dict[str, list[int]] = {}
        for row, (key, _) in enumerate(lines):
            if key is not None:
                found.setdefault(key, []).append(row)
        return list(found.items()), sum(key is None for key, _ in lines)
    windows: list[list[int]] = []
    first: float | None = None
    last: float | None = None
    latest: float | None = None
    place: float | None = None
    for row, (_, time) in enumerate(lines):
        here = row // rule.lines if rule.lines else place
        if rule.seconds and time is not None:
            first = time if first is None else first
            went_far_back = last is not None and last - time > DAY
            latest = time if latest is None or went_far_back else max(latest, time)
            last = time
            here = (latest - first) // rule.seconds
            # The lines before the first time belong to the first window.
            place = here if place is None else place
        if not windows or here != place:
            windows.append([])
        place = here
        windows[-1].append(row)
    return [(str(rows[0] + 1), rows) for rows in windows], 0


def plain(sessions: Sessions) -> list[tuple[str, list[int]]]:
    return [(key, sessions.of(place).tolist()) for place, key in enumerate(sessions.keys)]


times = st.one_of(
    st.none(),
    st.floats(0, 30).map(lambda second: round(second * 4) / 4),
    st.sampled_from([DAY - 1, DAY, DAY + 1, DAY + 5, 3 * DAY, -2 * DAY, 0.000001, 4.999999, 5.0]),
)
logs = st.lists(st.tuples(st.sampled_from(["a", "b", "", "job 7", None]), times), max_size=40)
rules = st.sampled_from(["key", "1", "2", "7", "1s", "5s", "1h", "48h"]).map(session_rule)


@settings(max_examples=150, deadline=None)
@given(logs, rules)
def test_sessions_are_those_of_a_plain_account(lines: list[Line], rule: SessionRule) -> None:
    sessions = group_sessions(frame(lines), rule)
    expected, left_out = plainly(lines, rule)
    assert plain(sessions) == expected
    assert sessions.left_out == left_out
    assert len(sessions) == len(expected)
    assert sessions.lengths.tolist() == [len(rows) for _, rows in expected]
    assert sessions.rows.dtype == sessions.starts.dtype == np.dtype(np.int64)


@settings(max_examples=150, deadline=None)
@given(logs, rules, st.lists(st.integers(0, 40), max_size=6))
def test_pieces_make_the_sessions_of_the_whole(
    lines: list[Line], rule: SessionRule, cuts: list[int]
) -> None:
    whole = frame(lines)
    stream = SessionStream(rule)
    edges = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    parts = [stream.add(whole[begin:end]) for begin, end in pairwise(edges)]
    parts.append(stream.finish())
    joined, expected = join_sessions([part.sessions for part in parts]), group_sessions(whole, rule)
    assert plain(joined) == plain(expected)
    assert joined.left_out == expected.left_out
    for part in parts:
        assert part.lines["row"].to_list() == part.sessions.rows.tolist()
        assert part.lines.columns == [*(["session"] if rule.by != "key" else []), "time", "row"]


@pytest.mark.parametrize("rule", ["3", "10s"])
def test_a_window_is_given_as_soon_as_the_next_begins(rule: str) -> None:
    stream = SessionStream(session_rule(rule))
    given_at = [len(stream.add(frame([("x", 4.0 * row)]))) for row in range(7)]
    assert given_at == [0, 0, 0, 1, 0, 1, 0] if rule == "10s" else [0, 0, 0, 1, 0, 0, 1]
    assert len(stream.finish()) == 1
    assert len(stream.finish()) == 0


def test_sessions_by_key_are_given_when_all_lines_have_come() -> None:
    stream = SessionStream(session_rule("key"))
    first = stream.add(frame([("a", 0), (None, 1), ("b", 2)]))
    assert (len(first), first.sessions.left_out) == (0, 1)
    assert len(stream.add(frame([("a", 3)]))) == 0
    assert plain(stream.finish().sessions) == [("a", [0, 3]), ("b", [2])]


def test_a_stream_without_lines_has_no_sessions() -> None:
    for text in ("key", "20", "5m"):
        stream = SessionStream(session_rule(text))
        assert len(stream.finish()) == 0
        assert len(group_sessions(frame([]), session_rule(text))) == 0


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param(
            [0.0, 9.0, 11.0, 8.0, None, 19.0, 21.0],
            [("1", [0, 1]), ("3", [2, 3, 4, 5]), ("7", [6])],
            id="a line that is late opens no window that is over",
        ),
        pytest.param(
            [0.0, 5.0, 400 * DAY, 6.0, 12.0, 13.0],
            [("1", [0, 1]), ("3", [2]), ("4", [3]), ("5", [4, 5])],
            id="lines behind a wrong clock make windows as before",
        ),
        pytest.param(
            [None, None, 7.0, 16.0, 17.0, None],
            [("1", [0, 1, 2, 3]), ("5", [4, 5])],
            id="lines before the first time belong to its window",
        ),
    ],
)
def test_windows_of_ten_seconds(
    at_once: int, seconds: list[float | None], expected: list[tuple[str, list[int]]]
) -> None:
    lines = frame([("x", second) for second in seconds])
    stream = SessionStream(session_rule("10s"))
    parts = [stream.add(piece).sessions for piece in lines.iter_slices(at_once)]
    assert plain(join_sessions([*parts, stream.finish().sessions])) == expected
    assert plain(group_sessions(lines, session_rule("10s"))) == expected
