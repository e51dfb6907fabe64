"""What our detector must beat: four methods that need no base.

A method is given the support's lines with their labels, and of the query its lines alone: no
label of the query can reach it. Lines are numbers of templates (`trainer.tasks.LabelledStream`).

Shapes: N lines of the support, Q of the query, T templates of the stream, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crosyslog.evidence import SCALE_FLOOR
from crosyslog.words import alert_words, words_and_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

#: How much a word or pair of words counts beside a standardised dimension.
_GRAM_WEIGHT = 6.0

#: Strength of the L2 penalty, on the mean loss of the support's templates.
_PENALTY = 1e-4


@dataclass(frozen=True)
class History:
    """Lines without labels, and somebody who knows them.

    Attributes:
        rows: of its lines, the number of their template.
        answer: gives the label of a template of these; asked again, whoever answers may think
            better of it.
        answers: how many may be asked for in all.
    """

    rows: NDArray[np.int64]
    answer: Callable[[int], bool]
    answers: int


@dataclass(frozen=True)
class Known:
    """What is known of a task before its query is judged.

    Attributes:
        templates: the stream's distinct templates, T of them.
        vectors: of these, [T, D].
        rows: of the support's lines, the number of their template, [N].
        labels: whether they are alerts, [N].
        history: where labels are asked for, what they can be asked of: a method may choose by
            itself, with as many answers as it is given labels here.
    """

    templates: Sequence[str]
    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.bool_]
    history: History | None = None

    def shares(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The support's templates, ascending, and the share of alerts among the lines of each."""
        seen, member = np.unique(self.rows, return_inverse=True)
        return seen, np.bincount(member, weights=self.labels) / np.bincount(member)


@dataclass(frozen=True)
class Judgement:
    """What a method says of a query's lines.

    Attributes:
        scores: the more likely an alert, the higher, [Q].
        flagged: which of them the method takes for alerts, [Q].
    """

    scores: NDArray[np.float32]
    flagged: NDArray[np.bool_]


def keyword(known: Known, query: NDArray[np.int64]) -> Judgement:
    """Alert words alone: the support is not read. The score grows with their number."""
    used, lines = np.unique(query, return_inverse=True)
    words = np.array([alert_words(known.templates[row]) for row in used], dtype=np.float32)
    return Judgement((words / (1 + words))[lines], (words > 0)[lines])


def memory(known: Known, query: NDArray[np.int64]) -> Judgement:
    """A template of the support keeps its majority label; any other is normal."""
    return _by_template(known, query, lambda _, unseen: np.zeros(len(unseen)))


def nearest(known: Known, query: NDArray[np.int64]) -> Judgement:
    """Memory, and a template that the support lacks has the label of the most similar one in it.

    The score is the cosine to the nearest alert less that to the nearest normal one, brought
    to 0 to 1.
    """

    def judge(alert: NDArray[np.bool_], unseen: NDArray[np.int64]) -> NDArray[np.float64]:
        seen, _ = known.shares()
        similarity = known.vectors[unseen] @ known.vectors[seen].T
        difference = similarity[:, alert].max(axis=1) - similarity[:, ~alert].max(axis=1)
        return np.asarray(0.5 + difference / 4, dtype=np.float64)

    return _by_template(known, query, judge)


def logreg(known: Known, query: NDArray[np.int64]) -> Judgement:
    """Memory, and a logistic regression for what the support lacks: the strong plain baseline.

    One row a template, so that a storm does not drown the rest; classes balanced; features are the
    vector, standardised on the support with a floor, beside the presence of single words and pairs
    of words of the support. The weight of words and the penalty were chosen with a look at the
    four reconstructed streams, which can only favour the baseline.
    """

    def judge(alert: NDArray[np.bool_], unseen: NDArray[np.int64]) -> NDArray[np.float64]:
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression

        seen, _ = known.shares()
        vectors = known.vectors[seen]
        mean, scale = vectors.mean(axis=0), np.maximum(vectors.std(axis=0), SCALE_FLOOR)
        # Blanks alone part words, and an empty template (a line without message) must be a word.
        words = CountVectorizer(analyzer=words_and_pairs, binary=True, dtype=np.float32).fit(
            [known.templates[row] for row in seen]
        )

        def features(rows: NDArray[np.int64]) -> NDArray[Any]:
            grams = words.transform([known.templates[row] for row in rows]).toarray()
            return np.hstack([(known.vectors[rows] - mean) / scale, _GRAM_WEIGHT * grams])

        model = LogisticRegression(
            C=1 / (_PENALTY * len(seen)), class_weight="balanced", max_iter=1000
        ).fit(features(seen), alert)
        return np.asarray(model.predict_proba(features(unseen))[:, 1], dtype=np.float64)

    return _by_template(known, query, judge)


#: By the name that `--method` takes.
BASELINES: dict[str, Callable[[Known, NDArray[np.int64]], Judgement]] = {
    "keyword": keyword,
    "memory": memory,
    "nearest": nearest,
    "logreg": logreg,
}


def _by_template(
    known: Known,
    query: NDArray[np.int64],
    judge: Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]],
) -> Judgement:
    """Memory over a judgement of the templates that the support lacks.

    A support of one class leaves nothing to learn from: what it lacks is then taken for normal.

    Args:
        known: the support.
        query: the lines to judge.
        judge: from which of the support's templates are alerts, and the numbers of the templates
            that it lacks, to their scores from 0 to 1; an alert from 0.5 on.
    """
    seen, share = known.shares()
    alert = share >= 0.5
    used, lines = np.unique(query, return_inverse=True)
    place = np.minimum(np.searchsorted(seen, used), len(seen) - 1)
    remembered = seen[place] == used
    scores = np.where(remembered, share[place], 0.0)
    if not remembered.all() and alert.any() and not alert.all():
        scores[~remembered] = judge(alert, used[~remembered])
    return Judgement(scores.astype(np.float32)[lines], (scores >= 0.5)[lines])
