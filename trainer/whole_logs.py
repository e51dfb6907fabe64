"""All lines of a log, with labels or without, as numbers of templates.

Shapes: N lines, T templates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import InputError
from crosyslog.masking import mask
from trainer.labelled_lines import LabelledLines, TemplateNumbers

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.systems import System
    from trainer.labelled_lines import KnownVectors

#: What a line without label has in place of 0 (normal) or 1 (alert).
NO_LABEL = -1

_SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True)
class WholeLog:
    """The lines of a log in the order they were written.

    Attributes:
        templates: the distinct ones.
        rows: of each line, the number of its template, [N].
        labels: of each line, 1 for an alert, 0 for a normal line, or `NO_LABEL`, int8 [N].
        times: of each line, seconds since 1970, or NaN, [N].
        vectors: of the templates, where they are known already.
    """

    templates: list[str]
    rows: NDArray[np.int64]
    labels: NDArray[np.int8]
    times: NDArray[np.float64]
    vectors: KnownVectors | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Lines of each template, [T]."""
        return np.bincount(self.rows, minlength=len(self.templates))

    def labelled(self) -> LabelledLines:
        """The lines with a label, which may be none."""
        offsets = np.flatnonzero(self.labels != NO_LABEL)
        used, rows = np.unique(self.rows[offsets], return_inverse=True)
        return LabelledLines(
            [self.templates[row] for row in used.tolist()],
            rows.astype(np.int64),
            self.labels[offsets] == 1,
            offsets,
            self.vectors,
        )

    def with_labels_of(self, path: Path, name: str) -> WholeLog:
        """The same with the labels of a file of lines (`trainer.label_files`) in place of its own.

        Raises:
            LabelError: the file does not fit the log.
        """
        import polars as pl

        from trainer.label_files import with_labels

        given = with_labels(pl.DataFrame({"label": self.labels}), path, name)["label"]
        labels = given.cast(pl.Int8).fill_null(NO_LABEL).to_numpy()
        return replace(self, labels=labels)

    def hours(self, lines: NDArray[np.bool_]) -> float | None:
        """From the first to the last of some lines; none where times do not tell.

        Args:
            lines: which ones, [N].
        """
        times = self.times[lines & np.isfinite(self.times)]
        span = float(times.max() - times.min()) if len(times) else 0.0
        return span / _SECONDS_AN_HOUR or None


def labels_and_times(lines: pl.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """The columns `label` and `time` of a frame as a `WholeLog` has them."""
    import polars as pl

    labels = lines["label"].cast(pl.Int8).fill_null(NO_LABEL).to_numpy()
    micros = lines["time"].dt.epoch("us")
    return labels, (micros / 1e6).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def read_whole(path: Path, system: System, *, lines_at_once: int = 100_000) -> WholeLog:
    """Reads a log, or the folder it was prepared to; memory is that of the numbers alone.

    Args:
        path: plain, gzip or zstd, or a folder of `trainer prepare`.
        system: the profile of its lines.
        lines_at_once: how many are split together.

    Raises:
        InputError: it cannot be read, is empty, or is not one of the system's.
    """
    if path.is_dir():
        from trainer.labelled_logs import prepared_log

        return prepared_log(path, system).whole()
    from crosyslog.lines import decode, read_raw, split

    numbers = TemplateNumbers()
    rows, labels, times, any_split = [], [], [], False
    for chunk in read_raw(path, lines_at_once):
        lines = split(decode(chunk), system)
        any_split = any_split or bool(lines["split"].any())
        rows.append(numbers.of(mask(lines["text"])))
        label, time = labels_and_times(lines)
        labels.append(label)
        times.append(time)
    if not rows:
        raise InputError(f"{path} is empty: a log with at least one line is needed")
    if not any_split:
        raise not_of(path, system, sum(map(len, rows)))
    return WholeLog(
        numbers.templates(), np.concatenate(rows), np.concatenate(labels), np.concatenate(times)
    )


def not_of(path: Path, system: System, lines: int) -> InputError:
    """What is raised where a profile splits no line of a log."""
    return InputError(
        f"{path} is no log of {system.name}: none of its {lines:,} lines splits; "
        f"see `trainer systems check {system.name} FILE`"
    )
