"""From judged tasks to what the page shows, and to the file of predictions."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.errors import SettingError
from trainer.baselines import BASELINES
from trainer.details import LabelsPoint, MethodDetails, ReliabilityBin, WrongTemplate
from trainer.metrics import block_interval, precision_recall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from trainer.evaluation import MethodResult
    from trainer.protocol import Drawn, Plan
    from trainer.tasks import LabelledStream

    #: From places in the stream to the raw lines there.
    RawLines = Callable[[list[int]], dict[int, str]]

#: Bins of scores, and wrong templates that are shown.
_BINS, _TEMPLATES = 10, 20

#: Baselines whose scores are no probabilities.
_NO_PROBABILITIES = frozenset(BASELINES) - {"logreg"}


def inspect(
    stream: LabelledStream,
    drawn: Drawn,
    plan: Plan,
    results: Mapping[str, MethodResult],
    blocks: NDArray[np.int64],
    raw_lines: RawLines | None = None,
) -> dict[str, MethodDetails]:
    """What the page shows of each method.

    Args:
        stream: that was judged.
        drawn: the tasks.
        plan: what they were drawn by.
        results: by method.
        blocks: of each task, the block of the stream that it begins in.
        raw_lines: where examples come from; without it there are none.
    """
    labels = np.concatenate([stream.labels[_query(start, plan)] for _, start in drawn.tasks])
    wrong = {name: _Wrong(stream, drawn, plan, result) for name, result in results.items()}
    places = sorted({place for found in wrong.values() for place in found.examples()})
    examples = raw_lines(places) if raw_lines is not None else {}
    return {
        name: _details(name, result, labels, blocks, plan, wrong[name], examples)
        for name, result in results.items()
    }


def write_predictions(
    path: Path,
    stream: LabelledStream,
    offsets: NDArray[np.int64],
    drawn: Drawn,
    plan: Plan,
    results: Mapping[str, MethodResult],
) -> None:
    """Writes every judged line's scores as Parquet; the file appears when it is complete.

    Columns: `task` (its number), `seed`, `support_line` (the place in the log of the first line
    that could be learnt from), `line` (the judged line's place), `label`, and for each method
    `<method>_score` and `<method>_flagged`.

    Raises:
        SettingError: it cannot be written.
    """
    import polars as pl

    frames = []
    for task, (seed, start) in enumerate(drawn.tasks):
        query = _query(start, plan)
        columns: dict[str, pl.Series] = {
            "line": pl.Series(offsets[query], dtype=pl.Int64),
            "label": pl.Series(stream.labels[query]),
        }
        for name, result in results.items():
            columns[f"{name}_score"] = pl.Series(result.scores[task], dtype=pl.Float32)
            columns[f"{name}_flagged"] = pl.Series(result.flagged[task])
        frame = pl.DataFrame(columns).select(
            pl.lit(task, pl.Int32).alias("task"),
            pl.lit(seed, pl.Int64).alias("seed"),
            pl.lit(int(offsets[start]), pl.Int64).alias("support_line"),
            pl.all(),
        )
        frames.append(frame)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pl.concat(frames).write_parquet(part, compression="zstd")
        part.replace(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        part.unlink(missing_ok=True)
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SettingError(f"--predictions {path}: it cannot be written: {why}") from error


class _Wrong:
    """The templates that a method judged wrong."""

    def __init__(
        self, stream: LabelledStream, drawn: Drawn, plan: Plan, result: MethodResult
    ) -> None:
        self._stream = stream
        self._lines: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
        self._tasks: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
        self._seen: dict[bool, set[int]] = {True: set(), False: set()}
        self._place: dict[bool, dict[int, int]] = defaultdict(dict)
        for task, (_, start) in enumerate(drawn.tasks):
            query = _query(start, plan)
            labels, rows = stream.labels[query], stream.rows[query]
            for alert in (True, False):
                at = np.flatnonzero((result.flagged[task] != labels) & (labels == alert))
                used, first, counts = np.unique(rows[at], return_index=True, return_counts=True)
                self._lines[alert].update(dict(zip(used.tolist(), counts.tolist(), strict=True)))
                self._tasks[alert].update(used.tolist())
                self._seen[alert] |= set(used[~result.unseen[task][at[first]]].tolist())
                places = (query.start + at[first]).tolist()
                for row, place in zip(used.tolist(), places, strict=True):
                    self._place[alert].setdefault(row, place)

    def worst(self, *, alert: bool, examples: Mapping[int, str]) -> list[WrongTemplate]:
        """Missed alerts, or false ones: the templates with the most lines."""
        return [
            WrongTemplate(
                template=self._stream.templates[row],
                lines=lines,
                tasks=self._tasks[alert][row],
                seen=row in self._seen[alert],
                example=examples.get(self._place[alert][row]),
            )
            for row, lines in self._most(alert=alert)
        ]

    def examples(self) -> list[int]:
        """Places in the stream of a line of each template that is shown."""
        return [
            self._place[alert][row] for alert in (True, False) for row, _ in self._most(alert=alert)
        ]

    def _most(self, *, alert: bool) -> list[tuple[int, int]]:
        found = sorted(self._lines[alert].items(), key=lambda item: (-item[1], item[0]))
        return found[:_TEMPLATES]


def _details(
    name: str,
    result: MethodResult,
    labels: NDArray[np.bool_],
    blocks: NDArray[np.int64],
    plan: Plan,
    wrong: _Wrong,
    examples: Mapping[int, str],
) -> MethodDetails:
    scores = np.concatenate(result.scores)
    recall, precision = precision_recall(labels, scores)
    by_labels = []
    if result.fewer:
        whole = {plan.labels: [counts.f1 for counts in result.counts]}
        for number, values in {**result.fewer, **whole}.items():
            f1 = np.array(values)
            low, high = block_interval(f1, blocks, seed=plan.first_seed)
            by_labels.append(LabelsPoint(number, float(f1.mean()), low, high))
    return MethodDetails(
        recall=recall,
        precision=precision,
        by_labels=by_labels,
        reliability=[] if name in _NO_PROBABILITIES else _reliability(labels, scores),
        misses=wrong.worst(alert=True, examples=examples),
        false_alerts=wrong.worst(alert=False, examples=examples),
        seconds=result.seconds,
    )


def _reliability(labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> list[ReliabilityBin]:
    member = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = member == number
        if lines := int(inside.sum()):
            mean, share = float(scores[inside].mean()), float(labels[inside].mean())
            bins.append(ReliabilityBin(mean, share, lines))
    return bins


def _query(start: int, plan: Plan) -> slice:
    return slice(start + plan.before, start + plan.before + plan.query)
