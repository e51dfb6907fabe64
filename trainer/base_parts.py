"""What a base holds beside its weights: the thresholds, and prototypes of its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crosyslog.bundle import support_frame
from crosyslog.manifest import Threshold
from trainer.maml import Parameters, mean_logits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl
    from numpy.typing import NDArray

    from trainer.tasks import LabelledStream, TaskSampler

#: Prototypes of one label of one source: they explain a base's events.
_PROTOTYPES = 64

#: Tasks a source that the thresholds are chosen on.
_THRESHOLD_TASKS = 24


def thresholds(
    parameters: Parameters,
    rates: Parameters,
    sampler: TaskSampler,
    *,
    steps: int,
    disguise: bool,
) -> tuple[Threshold, Threshold, dict[str, float]]:
    """The thresholds with the best F1 on tasks of the sources, after the inner loop and without.

    After the inner loop, disguised tasks stand for a system that the weights have never seen.
    """
    found = []
    for taken, disguised in ((steps, float(disguise)), (0, 0.0)):
        tasks = sampler.draw(_THRESHOLD_TASKS, disguised, chosen=False)
        logits_KBL = mean_logits(
            parameters, rates, tasks.vectors_KTD, tasks.support, tasks.query.rows_KBL, steps=taken
        )
        found.append(
            _best_threshold(
                logits_KBL.sigmoid().numpy(),
                tasks.query.labels_KBL.numpy() > 0,
                tasks.query.weights_KBL.numpy(),
            )
        )
    (after, after_f1), (before, before_f1) = found
    how = f"best F1 on {_THRESHOLD_TASKS} tasks of each source"
    return (
        Threshold(value=after, chosen=f"{how}, after the inner loop"),
        Threshold(value=before, chosen=f"{how}, without inner steps"),
        {"source_f1_adapted": after_f1, "source_f1_unadapted": before_f1},
    )


def _best_threshold(
    scores: NDArray[np.float32], labels: NDArray[np.bool_], weights: NDArray[np.float32]
) -> tuple[float, float]:
    """The threshold with the best weighted F1, and that F1."""
    candidates = np.linspace(0.05, 0.95, 91)
    values = []
    for candidate in candidates:
        flagged = scores >= candidate
        hit = weights[flagged & labels].sum()
        wrong = weights[flagged != labels].sum()
        values.append(2 * hit / max(2 * hit + wrong, 1e-12))
    best = int(np.argmax(values))
    return round(float(candidates[best]), 4), round(float(values[best]), 4)


def prototypes(sources: Sequence[LabelledStream], seed: int) -> pl.DataFrame:
    """Means of groups of like templates, by source and label: they explain, and hold no text."""
    parts = []
    for source in sources:
        lines = np.bincount(source.rows, minlength=len(source.templates))
        alerts = np.bincount(source.rows, weights=source.labels, minlength=len(lines))
        parts.append(Labelled(source.name, source.vectors, 2 * alerts >= lines, lines, alerts))
    return prototypes_of(parts, seed)


class Labelled(NamedTuple):
    """The templates of a source.

    Attributes:
        source: its name.
        vectors: [T, D].
        alert: what each mostly is, [T].
        lines: how often it occurs, [T].
        alerts: how often as an alert, [T].
    """

    source: str
    vectors: NDArray[np.float32]
    alert: NDArray[np.bool_]
    lines: NDArray[np.int64]
    alerts: NDArray[Any]


def prototypes_of(sources: Sequence[Labelled], seed: int) -> pl.DataFrame:
    """What `prototypes` gives, of templates whose label is known."""
    from sklearn.cluster import KMeans

    rows: dict[str, list[Any]] = {"alert": [], "lines": [], "alerts": [], "source": []}
    vectors = []
    for source in sources:
        for label in (False, True):
            members = np.flatnonzero(source.alert == label)
            distinct = len(np.unique(source.vectors[members], axis=0))
            groups = min(_PROTOTYPES, distinct)
            if not groups:
                continue
            fit = KMeans(groups, n_init=1, random_state=seed).fit(source.vectors[members])
            for group in range(groups):
                inside = members[fit.labels_ == group]
                centre = source.vectors[inside].mean(axis=0)
                vectors.append(centre / max(float(np.linalg.norm(centre)), 1e-6))
                rows["alert"].append(label)
                rows["lines"].append(int(source.lines[inside].sum()))
                rows["alerts"].append(int(source.alerts[inside].sum()))
                rows["source"].append(source.source)
    return support_frame(
        templates=None,
        alert=np.array(rows["alert"]),
        lines=np.array(rows["lines"]),
        alerts=np.array(rows["alerts"]),
        source=rows["source"],
        vectors=np.array(vectors, dtype=np.float16).astype(np.float32),
    )
