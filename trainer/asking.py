"""Which templates' labels to ask for, in rounds: each looks at what the answers so far have taught.

Shapes: T templates of the history, A answers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.evidence_network import EvidenceDetector
from crosyslog.logits import sigmoid
from trainer.choosing import facility_location
from trainer.evidence_adaptation import adapt_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from trainer.baselines import History, Known

    #: From the labels of some templates to what a model adapted to them says of the history: the
    #: score of each of its templates, [T], of those with a label as if it were not known.
    Model = Callable[[Mapping[int, bool]], NDArray[np.float32]]

#: Templates that are asked for before the model has a say, and in each round after.
ROUND = 20

#: What a template counts whose label the model is sure of, beside 1 for one it knows nothing of.
_SURE = 0.1

#: One in so many answers is asked for again.
_AGAIN = 10

#: An answer that the model holds for less likely than this is contradicted.
_CONTRADICTED = 0.5


def next_round(
    vectors: NDArray[np.float32],
    lines: NDArray[np.int64],
    labels: Mapping[int, bool],
    scores: NDArray[np.float32] | None,
    size: int,
) -> NDArray[np.int64]:
    """The templates to ask for next, by facility location.

    A template counts by its lines, and by how little the model is sure of it.

    Args:
        vectors: of the history's templates, [T, D].
        lines: of each, [T].
        labels: the answers so far, by the template's row.
        scores: what the model says of each, [T]; none before the first round.
        size: how many to ask for.

    Returns:
        Rows, in the order in which they are asked for.
    """
    weights = lines.astype(np.float64)
    if scores is not None:
        weights = weights * (4 * scores * (1 - scores) + _SURE)
    return facility_location(vectors, weights, size, taken=list(labels))


def contradicted(labels: Mapping[int, bool], scores: NDArray[np.float32], most: int) -> list[int]:
    """The labelled templates that the others contradict, the most doubtful first.

    Args:
        labels: the answers, by the template's row.
        scores: what the model says of each template as if its label were not known, [T].
        most: of how many.
    """
    rows = np.array(list(labels), dtype=np.int64)
    if not len(rows):
        return []
    said = scores[rows]
    doubt = np.where(np.array(list(labels.values())), 1 - said, said)
    order = np.argsort(-doubt, kind="stable")[:most]
    return [int(rows[place]) for place in order if doubt[place] > _CONTRADICTED]


def ask_in_rounds(
    vectors: NDArray[np.float32],
    lines: NDArray[np.int64],
    answers: int,
    answer: Callable[[int], bool],
    model: Model,
) -> dict[int, bool]:
    """Asks for labels in rounds, with a number of answers in all.

    The last tenth of the answers is for labels that the others contradict. Where fewer are
    contradicted, new templates take their place.

    Args:
        vectors: of the history's templates, [T, D].
        lines: of each, [T].
        answers: how many may be asked for, those asked for again included.
        answer: gives the label of a template.
        model: adapts to the answers.

    Returns:
        The labels by the template's row.
    """
    labels: dict[int, bool] = {}
    again = answers // _AGAIN
    left = answers - again
    scores: NDArray[np.float32] | None = None

    def ask(rows: NDArray[np.int64]) -> None:
        nonlocal scores
        labels.update({row: answer(row) for row in rows.tolist()})
        scores = model(labels)

    while left:
        rows = next_round(vectors, lines, labels, scores, min(left, ROUND))
        if not len(rows):
            break
        ask(rows)
        left -= len(rows)
    doubtful = contradicted(labels, scores, again) if scores is not None else []
    labels.update({row: answer(row) for row in doubtful})
    if doubtful:
        scores = model(labels)
    rest = again - len(doubtful) + left
    if rest:
        ask(next_round(vectors, lines, labels, scores, rest))
    return labels


def asked_in_rounds(base: Bundle, known: Known, history: History) -> Known:
    """What is known after `ask_in_rounds` of a history, in place of labels chosen at once."""
    rows, lines = np.unique(history.rows, return_counts=True)
    vectors = known.vectors[rows]
    templates = [known.templates[row] for row in rows.tolist()]
    labels = ask_in_rounds(
        vectors,
        lines,
        history.answers,
        lambda place: history.answer(int(rows[place])),
        model_of(base, templates, vectors),
    )
    places = np.array(list(labels), dtype=np.int64)
    return replace(known, rows=rows[places], labels=np.array(list(labels.values())), history=None)


def model_of(base: Bundle, templates: Sequence[str], vectors: NDArray[np.float32]) -> Model:
    """What a base says of a history once it is adapted to some labels.

    Args:
        base: of the detector `evidence`.
        templates: of the history, T of them.
        vectors: of these, [T, D].
    """
    detector, inner = base.detector, base.manifest.inner_loop
    assert isinstance(detector, EvidenceDetector)  # noqa: S101 - the caller has looked

    def scores(labels: Mapping[int, bool]) -> NDArray[np.float32]:
        places = np.array(list(labels), dtype=np.int64)
        adapted, left_out, _ = adapt_evidence(
            detector,
            inner,
            [templates[place] for place in places],
            vectors[places],
            np.array(list(labels.values()), dtype=np.bool_),
            np.ones(len(places), dtype=np.int64),
        )
        logits = adapted.template_columns(templates, vectors)[:, 0]
        logits[places] = np.where(np.isfinite(left_out), left_out, logits[places])
        return sigmoid(logits)

    return scores
