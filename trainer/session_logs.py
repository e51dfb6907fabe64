"""The sessions of a log, or of several that are read as one, with their labels.

Shapes: N lines, S sessions, N' lines of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import InputError, LabelError
from crosyslog.masking import mask
from crosyslog.sessions import SessionStream, join_sessions
from trainer.csv_cells import cells, columns_of
from trainer.label_files import label_of
from trainer.labelled_lines import TemplateNumbers
from trainer.whole_logs import NO_LABEL, WholeLog, labels_and_times, not_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.session_rules import SessionRule
    from crosyslog.sessions import Sessions
    from crosyslog.systems import System
    from trainer.labelled_lines import KnownVectors

#: How the columns of a file of labels can be called, in small letters.
_NAMES = ("session", "blockid", "block_id", "instanceid", "instance_id")
_LABELS = ("label", "anomalous")


@dataclass(frozen=True)
class SessionLog:
    """The sessions of a log, in the order in which they begin.

    Attributes:
        lines: all lines of the log, those of no session included.
        sessions: which lines belong together.
        labels: of each session, 1 if it is anomalous, 0 if it is normal, or `NO_LABEL`, int8 [S].
        labels_elsewhere: labels of the file for sessions that the log does not have.
    """

    lines: WholeLog
    sessions: Sessions
    labels: NDArray[np.int8]
    labels_elsewhere: int = 0

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of each line of the sessions, the number of its template, as `sessions.rows`, [N']."""
        return self.lines.rows[self.sessions.rows]


def read_session_log(
    log: Path | Sequence[Path],
    system: System,
    rule: SessionRule,
    labels: Path | None = None,
    *,
    lines_at_once: int = 100_000,
) -> SessionLog:
    """Reads the sessions of a log; memory is that of the numbers alone.

    A session's label is that of a file: the given one, else, by key, `LOG.labels.csv` beside the
    log. Without a file, a session is anomalous if any of its lines is an alert, and normal if it
    has labelled lines and none is.

    Args:
        log: plain, gzip or zstd, or a folder of `trainer prepare`; or several of them that are
            read one after the other.
        system: the profile of its lines.
        rule: which lines make a session.
        labels: a CSV file with a header: `session`, `BlockId` or `InstanceId`, what the session is
            called, and `Label` or `anomalous`, a word that `trainer.label_files` knows.
        lines_at_once: how many are split together.

    Raises:
        InputError: it cannot be read, is empty, is not one of the system's, or has nothing that
            the rule makes sessions by.
        LabelError: the file of labels does not fit the log.
    """
    logs = [log] if isinstance(log, Path) else list(log)
    name = ", ".join(map(str, logs))
    for number, path in enumerate(logs):
        if path in logs[:number]:
            raise InputError(
                f"{path} is given twice: each of its sessions would have every line twice"
            )
    if fault := system.session_fault(rule):
        raise InputError(
            f"no sessions by {rule.by} with the profile {system.name}: {fault}; another profile is "
            "said with --system, and of a source by its name"
        )
    reading = _Reading(system, rule)
    for path in logs:
        if path.is_dir():
            reading.add_prepared(path)
        else:
            reading.add_log(path, lines_at_once)
    lines, sessions = reading.finish(name)
    files = [labels] if labels is not None else _found_beside(logs, rule)
    if files:
        return SessionLog(lines, sessions, *_labels_of_files(files, sessions, name))
    # `NO_LABEL` is less than 0, and 0 is less than 1.
    most = np.maximum.reduceat(lines.labels[sessions.rows], sessions.starts[:-1])
    return SessionLog(lines, sessions, most)


class _Reading:
    """Takes the lines of logs one after the other."""

    def __init__(self, system: System, rule: SessionRule) -> None:
        self._system = system
        self._rule = rule
        # To count lines, any column does.
        self._column = {"key": "session", "time": "time", "count": "label"}[rule.by]
        self._numbers = TemplateNumbers()
        self._stream = SessionStream(rule)
        self._complete: list[Sessions] = []
        self._parts: list[WholeLog] = []
        self._vectors: list[KnownVectors | None] = []

    def add_log(self, path: Path, lines_at_once: int) -> None:
        """Takes the lines of a log."""
        from crosyslog.lines import decode, read_raw, split

        count, any_split = 0, False
        for chunk in read_raw(path, lines_at_once):
            lines = split(decode(chunk), self._system)
            count += lines.height
            any_split = any_split or bool(lines["split"].any())
            rows = self._numbers.of(mask(lines["text"]))
            self._add(WholeLog([], rows, *labels_and_times(lines)), lines)
        if count and not any_split:
            raise not_of(path, self._system, count)
        self._vectors.append(None)

    def add_prepared(self, folder: Path) -> None:
        """Takes the lines of a prepared log."""
        import polars as pl

        from trainer.labelled_logs import prepared_log
        from trainer.prepared_logs import LINES

        log = prepared_log(folder, self._system)
        whole = log.whole()  # which verifies the files that are read here again
        names = [name for name in log.manifest.files if LINES.fullmatch(name)]
        lines = pl.read_parquet([folder / name for name in names], columns=[self._column])
        numbers = self._numbers.of(pl.Series(whole.templates, dtype=pl.String))
        self._add(replace(whole, rows=numbers[whole.rows]), lines)
        self._vectors.append(whole.vectors)

    def finish(self, name: str) -> tuple[WholeLog, Sessions]:
        """All lines, and their sessions.

        Args:
            name: how errors call the logs.
        """
        if not self._parts:
            raise InputError(f"{name}: empty; a log with at least one line is needed")
        lines = WholeLog(
            self._numbers.templates(),
            np.concatenate([part.rows for part in self._parts]),
            np.concatenate([part.labels for part in self._parts]),
            np.concatenate([part.times for part in self._parts]),
            # Those of one log are no encoder for the templates of another.
            self._vectors[0] if len(self._vectors) == 1 else None,
        )
        sessions = join_sessions([*self._complete, self._stream.finish().sessions])
        what = {"key": not len(sessions), "time": bool(np.isnan(lines.times).all())}
        if what.get(self._rule.by):
            raise InputError(
                f"{name}: no line has a {self._rule.by} that the profile {self._system.name} "
                f"finds; see `trainer systems check {self._system.name} FILE`, or make sessions of "
                "so many lines in a row"
            )
        return lines, sessions

    def _add(self, part: WholeLog, lines: pl.DataFrame) -> None:
        self._parts.append(part)
        self._complete.append(self._stream.add(lines.select(self._column)).sessions)


def _found_beside(logs: Iterable[Path], rule: SessionRule) -> list[Path]:
    """The files of labels beside logs; they name sessions by their keys."""
    if rule.by != "key":
        return []
    from trainer.simulation import labels_beside

    return [path for path in map(labels_beside, logs) if path.exists()]


def _labels_of_files(
    files: Iterable[Path], sessions: Sessions, log: str
) -> tuple[NDArray[np.int8], int]:
    """The label of each session, [S], and how many there are for sessions that the log lacks."""
    found: dict[str, bool | None] = {}
    for path in files:
        _read_labels(path, found)
    labels = [found.get(key) for key in sessions.keys]
    known = sum(key in found for key in sessions.keys)
    if not found:
        raise LabelError(f"the labels {', '.join(map(str, files))} hold none: every row is blank")
    if not known:
        raise LabelError(
            f"the labels {', '.join(map(str, files))} name no session of {log}: they are of "
            f"{next(iter(found), 'nothing')!r} and the like, and its first session is called "
            f"{sessions.keys[0]!r}: name the file that belongs to this log and this way to make "
            "sessions of it"
        )
    numbers = [NO_LABEL if label is None else int(label) for label in labels]
    return np.array(numbers, dtype=np.int8), len(found) - known


def _read_labels(path: Path, found: dict[str, bool | None]) -> None:
    """Reads a file of labels into what is found by session; unsure is none."""
    columns = columns_of(path)
    name = next((column for column in columns if column in _NAMES), None)
    label = next((column for column in columns if column in _LABELS), None)
    if name is None or label is None:
        raise LabelError(
            f"the labels {path} lack a header: one column is `session`, `BlockId` or `InstanceId`, "
            f"and one `Label` or `anomalous`, and these are {', '.join(columns)}"
        )
    if sum(column in {*_NAMES, *_LABELS} for column in columns) > 2:
        raise LabelError(
            f"the labels {path} say twice what a session is called, or what it is: of the columns "
            f"{', '.join(columns)}, leave one of either"
        )
    for row, values in cells(path):
        where, session, word = f"{path}, row {row}", values[name] or "", values[label] or ""
        if not word.strip():
            continue
        says = label_of(word, where)
        key = session.strip()
        if not key:
            raise LabelError(f"{where}: a label without a session: say in `{name}` whose it is")
        if found.setdefault(key, says) != says:
            raise LabelError(f"{where}: {key!r} has had another label before: give it one")
