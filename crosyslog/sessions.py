"""From lines to sessions: of a whole log, or of one that comes in pieces.

Shapes: N lines, S sessions, N' lines of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.session_rules import SessionRule

#: Columns of our own beside those of lines: the line's number, and what its session is told by.
_LINE, _MARK = "(line)", "(mark)"

#: From how far back on a time is no late one: of another file, say, or behind a wrong clock. In
#: microseconds; a day is more than the clocks of all time zones are apart.
_FAR_BACK = 86_400_000_000


@dataclass(frozen=True)
class Sessions:
    """The sessions of a log, ordered by their first line.

    Attributes:
        keys: what the sessions are called: their key, or, of so many lines or so much time, the
            number of their first line, counted from 1.
        rows: numbers of their lines, counted from 0: those of the first session, then of the next,
            each in the order in which they came, int64 [N'].
        starts: where each session begins in `rows`, and, last, where they end, int64 [S + 1].
        left_out: lines that belong to no session.
    """

    keys: list[str]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Lines of each session, [S]."""
        return np.diff(self.starts)

    def of(self, session: int) -> NDArray[np.int64]:
        """The numbers of the lines of a session."""
        return self.rows[self.starts[session] : self.starts[session + 1]]


@dataclass(frozen=True)
class CompleteSessions:
    """Sessions of a stream that no further line belongs to.

    Attributes:
        sessions: as those of the whole stream: its lines are counted on.
        lines: a row for each of `sessions.rows`, in their order, with the columns that came; by
            key without `session`, which `sessions.keys` say.
    """

    sessions: Sessions
    lines: pl.DataFrame

    def __len__(self) -> int:
        return len(self.sessions)


def group_sessions(lines: pl.DataFrame, rule: SessionRule) -> Sessions:
    """The sessions of a log, whose lines may lie between each other.

    By time, windows begin at the first line's time and at each multiple of their length after it;
    one in which no line falls is none. A line without a time belongs where the line before it
    does. So does one that is late, as where several clocks wrote the log: a window that is over
    is not gone back to, unless time goes back by more than a day from one line to the next.

    Args:
        lines: of the log, with `session` (strings) by key, or `time` (in microseconds) by time.
        rule: which lines make a session.
    """
    return _grouped(_Marks(rule).of(lines), rule)[0]


def join_sessions(parts: Sequence[Sessions]) -> Sessions:
    """Sessions of a stream, as they became complete, in one."""
    none = np.empty(0, dtype=np.int64)
    lengths = np.concatenate([none, *(part.lengths for part in parts)])
    return Sessions(
        list(chain.from_iterable(part.keys for part in parts)),
        np.concatenate([none, *(part.rows for part in parts)]),
        _starts(lengths),
        sum(part.left_out for part in parts),
    )


class SessionStream:
    """Makes sessions of lines that come in pieces: the same that `group_sessions` makes of all.

    A session of so many lines or so much time is complete when the next one begins, one by key
    when all lines have come: until then every line that has a key is kept, so let these be small.
    """

    def __init__(self, rule: SessionRule) -> None:
        """Begins a stream.

        Args:
            rule: which lines make a session.
        """
        import polars as pl

        self._rule = rule
        self._marks = _Marks(rule)
        self._held: list[pl.DataFrame] = []
        self._none = pl.DataFrame(schema={_LINE: pl.Int64, _MARK: pl.Int64})

    def add(self, lines: pl.DataFrame) -> CompleteSessions:
        """Takes the next lines, and gives the sessions that are complete with them.

        Args:
            lines: with the column that the rule reads (`group_sessions`), and whatever else is to
                be given back; the same columns every time.
        """
        import polars as pl

        marked = lines.hstack(self._marks.of(lines))
        if self._rule.by == "key":
            marked = marked.drop("session")
        self._none = marked.clear()
        if self._rule.by == "key":
            self._held.append(marked.filter(pl.col(_MARK).is_not_null()))
            return self._given(marked.filter(pl.col(_MARK).is_null()))
        if marked.is_empty():
            return self._given(marked)
        # Of the last session there may be more to come.
        last = marked[_MARK][-1]
        begins = int(marked[_MARK].search_sorted(last, side="left"))
        if not begins and (not self._held or self._held[-1][_MARK][-1] == last):
            self._held.append(marked)
            return self._given(self._none)
        complete, self._held = pl.concat([*self._held, marked[:begins]]), [marked[begins:]]
        return self._given(complete)

    def finish(self) -> CompleteSessions:
        """Gives the sessions of which more might have come."""
        import polars as pl

        rest, self._held = pl.concat([self._none, *self._held]), []
        return self._given(rest)

    def _given(self, marked: pl.DataFrame) -> CompleteSessions:
        sessions, order = _grouped(marked, self._rule)
        return CompleteSessions(sessions, marked[order].drop(_LINE, _MARK))


class _Marks:
    """Says of each line of a stream, piece by piece, which session it belongs to."""

    def __init__(self, rule: SessionRule) -> None:
        import polars as pl

        self._rule = rule
        self._lines = 0
        # Keys of its own, which are let go with it: a number each in place of a text a line.
        self._keys = pl.Categorical(pl.Categories.random())
        self._windows = _TimeWindows(rule.seconds) if rule.seconds is not None else None

    def of(self, lines: pl.DataFrame) -> pl.DataFrame:
        """For each line, its number and what is the same for all lines of its session, or null."""
        import polars as pl

        numbers = np.arange(self._lines, self._lines + lines.height)
        self._lines += lines.height
        if self._windows is not None:
            marks = pl.Series(_MARK, self._windows.of(lines["time"]))
        elif self._rule.lines is not None:
            marks = pl.Series(_MARK, numbers // self._rule.lines)
        else:
            marks = lines["session"].cast(self._keys).alias(_MARK)
        return pl.DataFrame([pl.Series(_LINE, numbers, dtype=pl.Int64), marks])


class _TimeWindows:
    """Numbers the windows of so much time that the lines of a stream fall into, from 0."""

    def __init__(self, seconds: int) -> None:
        self._length = seconds * 1_000_000
        self._first: int | None = None  # the first time of all, which windows are aligned to
        self._last = 0  # the time of the line before
        self._latest = 0  # the latest time since time went far back
        self._place = 0  # of the window, in lengths from the first time
        self._number = 0

    def of(self, times: pl.Series) -> NDArray[np.int64]:
        """The window of each line.

        Args:
            times: microseconds, null where a line has none.
        """
        import polars as pl

        if times.null_count() == len(times):
            return np.full(len(times), self._number)
        known = times.dt.epoch("us").fill_null(strategy="forward")
        if self._first is None:
            self._first = self._last = self._latest = int(known.drop_nulls()[0])
        now = known.fill_null(self._last).to_numpy()
        before = np.concatenate([[self._last], now[:-1]])
        stretches = pl.Series("stretch", np.cumsum(before - now > _FAR_BACK))
        latest = (
            pl.DataFrame([pl.Series("now", now), stretches])
            .select(pl.col("now").cum_max().over("stretch"))
            .to_series()
            .to_numpy()
        )
        latest = np.where(stretches.to_numpy() == 0, np.maximum(latest, self._latest), latest)
        places = (latest - self._first) // self._length
        changes = places != np.concatenate([[self._place], places[:-1]])
        windows = self._number + np.cumsum(changes)
        self._last, self._latest = int(now[-1]), int(latest[-1])
        self._place, self._number = int(places[-1]), int(windows[-1])
        return windows


def _grouped(marked: pl.DataFrame, rule: SessionRule) -> tuple[Sessions, NDArray[np.int64]]:
    """The sessions of marked lines, and the places of their lines among these."""
    import polars as pl

    groups = (
        marked.select(_MARK, place=pl.int_range(pl.len(), dtype=pl.Int64))
        .filter(pl.col(_MARK).is_not_null())
        .group_by(_MARK, maintain_order=True)
        .agg("place")
    )
    order = groups["place"].explode(empty_as_null=False).to_numpy()
    starts = _starts(groups["place"].list.len().to_numpy().astype(np.int64))
    rows = marked[_LINE].to_numpy()[order]
    if rule.by == "key":
        keys = groups[_MARK].cast(pl.String).to_list()
    else:
        keys = [str(row + 1) for row in rows[starts[:-1]].tolist()]
    return Sessions(keys, rows, starts, marked[_MARK].null_count()), order


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each session begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
