"""Episodes of the source systems, from which the detector `evidence` learns to weigh evidence.

An episode is a place of a source with a support and the 10,000 lines after it. Its support is one
of those that users have: lines in a row, templates chosen by facility location, lines in a row
without an alert, or nothing at all. What the *other* sources say of its templates is part of the
evidence, as it will be for a target.

Shapes: S templates of a support, T templates of a query that the support lacks, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.errors import LabelError
from crosyslog.evidence import SCALE_FLOOR, SourceEvidence, joined
from crosyslog.logits import sigmoid
from trainer.asking import ask_in_rounds
from trainer.evidence_support import FittedSupport, fit_support
from trainer.tasks import (
    HISTORY_ALERTS,
    HISTORY_LINES,
    QUERY_LINES,
    SUPPORT_ALERTS,
    ask_for,
    by_template,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from trainer.tasks import LabelledStream

    Floats = NDArray[np.float32]

#: Lines of a support of lines in a row.
SUPPORT_LINES = 1000

#: How many templates are chosen: as many as users ask for.
ASKED = (20, 50, 100, 200)

#: Of a support without an alert.
_NO_ALERTS = (0.0, 0.0)


@dataclass(frozen=True)
class Episode:
    """A place of a source, as far as it does not depend on the other sources.

    Attributes:
        chosen: whether the support are chosen templates, on which inner steps are taken.
        support: the numbers of its templates, [S].
        fitted: the support with its regressions.
        query: the numbers of the query's other templates, [T].
        nearness: of these to the support, [T, 9].
        regressions: what the support's regressions say of them, [T, 2].
        alert: the share of alerts among the lines of each, [T].
        lines: how many each has, [T].
    """

    chosen: bool
    support: NDArray[np.int64]
    fitted: FittedSupport
    query: NDArray[np.int64]
    nearness: Floats
    regressions: Floats
    alert: Floats
    lines: NDArray[np.int64]


class Lesson(NamedTuple):
    """An episode seen with the evidence of some sources.

    Attributes:
        steps: whether inner steps are taken on the support.
        support: left-out features of the support, [S, F].
        support_alert: its labels, [S].
        query: features of the query's templates, [T, F].
        query_alert: the share of alerts among the lines of each, [T].
        weight: how much each counts in the loss, [T]; they sum to 1.
    """

    steps: bool
    support: Floats
    support_alert: NDArray[np.bool_]
    query: Floats
    query_alert: Floats
    weight: Floats


@dataclass(frozen=True)
class Kinds:
    """Shares of the kinds of support among a source's episodes; lines in a row are the rest.

    Attributes:
        chosen: templates whose labels were asked for.
        one_class: lines in a row without an alert.
        empty: no support at all.
        rounds: of those that were asked for, how many in rounds, and not all at once.
    """

    chosen: float
    one_class: float
    empty: float
    rounds: float


def draw_episodes(
    stream: LabelledStream, count: int, kinds: Kinds, rng: np.random.Generator
) -> list[Episode]:
    """Draws episodes of a source.

    Args:
        stream: the source.
        count: how many to draw; a place whose query brings no new template is left out.
        kinds: of their supports.
        rng: where all chance comes from.

    Raises:
        LabelError: the source has no place for an episode of lines in a row or of chosen templates.
    """
    rows = [
        _places(stream, SUPPORT_LINES, SUPPORT_ALERTS),
        _places(stream, HISTORY_LINES, HISTORY_ALERTS),
        _places(stream, SUPPORT_LINES, _NO_ALERTS),
    ]
    if not (len(rows[0]) and len(rows[1])):
        raise LabelError(
            f"the source {stream.name} ({len(stream):,} lines, {int(stream.labels.sum()):,} "
            f"alerts) has no place for an episode: {SUPPORT_LINES:,} lines in a row with "
            f"{SUPPORT_ALERTS[0]:.0%} to {SUPPORT_ALERTS[1]:.0%} alerts, or {HISTORY_LINES:,} with "
            f"any, and {QUERY_LINES:,} lines with alerts after them"
        )
    shares = np.array([kinds.chosen, kinds.one_class if len(rows[2]) else 0.0, kinds.empty])
    drawn = []
    for kind in rng.choice(4, size=count, p=[1 - shares.sum(), *shares]).tolist():
        if kind == 1:
            start = int(rng.choice(rows[1]))
            middle = start + HISTORY_LINES
            history = slice(start, middle)
            asked = int(rng.choice(ASKED))
            in_rounds = kinds.rounds > 0 and rng.random() < kinds.rounds
            choose = _asked_in_rounds if in_rounds else _asked_at_once
            known, labels = choose(stream, history, asked)
        else:
            start = int(rng.choice(rows[2] if kind == 2 else rows[0]))
            middle = start + SUPPORT_LINES
            lines = slice(middle if kind == 3 else start, middle)
            known, labels = stream.rows[lines], stream.labels[lines]
        episode = _episode(stream, known, labels, middle, chosen=kind == 1)
        if len(episode.query):
            drawn.append(episode)
    if not drawn:
        raise LabelError(
            f"the source {stream.name} never brings a template that was not there before: there "
            "is nothing to learn from it"
        )
    return drawn


def lessons(episodes: Sequence[Episode], sources: Floats, line_power: float) -> list[Lesson]:
    """Episodes seen with the evidence of some sources.

    Args:
        episodes: of one stream.
        sources: what the sources say of all templates of the stream.
        line_power: a template of the query counts by how many lines it has, to this power.
    """
    learnt = []
    for episode in episodes:
        seen = sources[episode.support]
        trust = episode.fitted.trust(seen)
        weight = episode.lines.astype(np.float32) ** line_power
        learnt.append(
            Lesson(
                episode.chosen,
                joined(episode.fitted.nearness, episode.fitted.regressions, seen, trust),
                episode.fitted.labelled.alert,
                joined(episode.nearness, episode.regressions, sources[episode.query], trust),
                episode.alert,
                weight / weight.sum(),
            )
        )
    return learnt


@dataclass(frozen=True)
class SourceTemplates:
    """The templates of a source, and fewer vectors that stand for them.

    Attributes:
        vectors: of all, [T, D].
        alert: whether each is mostly an alert, [T].
        kept: of all alerts, which are few, then of groups of normal ones, [P, D].
    """

    vectors: Floats
    alert: NDArray[np.bool_]
    kept: Floats


def source_templates(stream: LabelledStream, prototypes: int, seed: int) -> SourceTemplates:
    """A source's templates, with so many prototypes of its normal ones."""
    used, _, known = by_template(stream.rows, stream.labels)
    alert = np.zeros(len(stream.templates), dtype=np.bool_)
    alert[used] = known
    normal = group_centres(stream.vectors[~alert], prototypes, seed)
    kept = np.concatenate((stream.vectors[alert], normal))
    # As they are stored, so that a base gives the same evidence before and after.
    return SourceTemplates(stream.vectors, alert, kept.astype(np.float16).astype(np.float32))


def source_evidence(sources: Sequence[SourceTemplates], penalty: float) -> SourceEvidence:
    """What some sources know together: each counts the same, and so do its two classes.

    Args:
        sources: their templates.
        penalty: of the regression's weights, on the mean loss.
    """
    mean = np.mean([source.vectors.mean(axis=0) for source in sources], axis=0)
    square = np.mean([((one.vectors - mean) ** 2).mean(axis=0) for one in sources], axis=0)
    scale = np.maximum(np.sqrt(square), SCALE_FLOOR)
    alerts = [source.alert for source in sources]
    weights = [
        np.where(alert, 0.5 / max(alert.sum(), 1), 0.5 / max((~alert).sum(), 1)) / len(sources)
        for alert in alerts
    ]
    weight, bias = _fit_linear(
        (np.concatenate([source.vectors for source in sources]) - mean) / scale,
        np.concatenate(alerts),
        np.concatenate(weights),
        penalty,
    )
    return SourceEvidence(
        (weight / scale).astype(np.float32),
        float(bias - (weight / scale) @ mean),
        np.concatenate([source.kept for source in sources]),
        np.concatenate([np.arange(len(one.kept)) < one.alert.sum() for one in sources]),
    )


def group_centres(vectors: Floats, groups: int, seed: int) -> Floats:
    """Directions of the means of groups of like vectors; all of them if there are no more."""
    from sklearn.cluster import KMeans

    distinct = np.unique(vectors, axis=0)
    if len(distinct) <= groups:
        return distinct
    centres = KMeans(groups, n_init=1, random_state=seed).fit(vectors).cluster_centers_
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    return np.asarray(centres / np.maximum(lengths, 1e-6), dtype=np.float32)


def _places(stream: LabelledStream, lines: int, bounds: tuple[float, float]) -> NDArray[np.int64]:
    return np.flatnonzero(verdicts(stream.labels, lines, QUERY_LINES, bounds) == 0)


def _asked_at_once(
    stream: LabelledStream, history: slice, answers: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    return ask_for(stream.vectors, stream.rows[history], stream.labels[history], answers)


def _asked_in_rounds(
    stream: LabelledStream, history: slice, answers: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """As a target's are; the support's own regression stands for the model that is trained here."""
    used, lines, alert = by_template(stream.rows[history], stream.labels[history])
    vectors = stream.vectors[used]
    templates = [stream.templates[row] for row in used.tolist()]

    def model(labels: Mapping[int, bool]) -> Floats:
        rows = np.array(list(labels), dtype=np.int64)
        said = np.array(list(labels.values()), dtype=np.bool_)
        fitted = fit_support([templates[row] for row in rows.tolist()], vectors[rows], said)
        nothing = np.zeros((len(rows), 5), dtype=np.float32)
        logits = fitted.evidence(nothing).of_support(templates, vectors)[1][:, 0]
        logits[rows] = fitted.regressions[:, 0]
        return sigmoid(logits)

    labels = ask_in_rounds(vectors, lines, answers, lambda row: bool(alert[row]), model)
    rows = np.array(list(labels), dtype=np.int64)
    return used[rows], np.array(list(labels.values()), dtype=np.bool_)


def _episode(
    stream: LabelledStream,
    known: NDArray[np.int64],
    labels: NDArray[np.bool_],
    middle: int,
    *,
    chosen: bool,
) -> Episode:
    support, _, alert = by_template(known, labels)
    templates = [stream.templates[row] for row in support.tolist()]
    fitted = fit_support(templates, stream.vectors[support], alert)
    lines = slice(middle, middle + QUERY_LINES)
    used, place, counts = np.unique(stream.rows[lines], return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=stream.labels[lines]) / counts
    new = ~np.isin(used, support)
    query = used[new]
    nothing = np.zeros((len(support), 5), dtype=np.float32)
    nearness, regressions = fitted.evidence(nothing).of_support(
        [stream.templates[row] for row in query.tolist()], stream.vectors[query]
    )
    return Episode(
        chosen,
        support,
        fitted,
        query,
        nearness,
        regressions,
        share[new].astype(np.float32),
        counts[new],
    )


def _fit_linear(
    vectors: NDArray[np.float64],
    alert: NDArray[np.bool_],
    weights: NDArray[np.float64],
    penalty: float,
) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with weighted rows and an L2 penalty on the mean loss."""
    from sklearn.linear_model import LogisticRegression

    # scikit-learn's C multiplies the sum of the losses, whose weights sum to 1 here.
    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(
        vectors, alert, sample_weight=weights
    )
    return model.coef_[0], float(model.intercept_[0])
