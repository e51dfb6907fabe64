"""How well scores tell anomalous sessions from normal ones, and the threshold to choose by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainer.metrics import average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


#: Of a target's sessions, so many are flagged where no label says how many should be.
_FLAGGED_SHARE = 0.01


class Found(NamedTuple):
    """The best threshold on some labelled sessions.

    Attributes:
        threshold: from it on, a session is anomalous.
        f1: with it, a mean over systems.
        average_precision: of the scores, a mean over systems.
    """

    threshold: float
    f1: float
    average_precision: float


def best_threshold(
    scores: Sequence[NDArray[np.float32]], labels: Sequence[NDArray[np.bool_]]
) -> Found:
    """The threshold with the best mean F1 over systems.

    It lies half way between the lowest score that is flagged and the highest that is not: a session
    to come that resembles either is then judged as that one was.

    Args:
        scores: of each system's sessions, on any scale; best on one where distances mean the same
            everywhere, as logits do.
        labels: whether they are anomalous.
    """
    values = np.unique(np.concatenate(scores))
    means = np.mean(
        [_f1s(one, known, values) for one, known in zip(scores, labels, strict=True)], 0
    )
    best = int(np.argmax(means))
    below = values[best - 1] if best else np.nextafter(values[0] - 1, np.float32(-np.inf))
    # As the scores are compared with it: between neighbours in float32, there is nothing.
    middle = np.float32((float(values[best]) + float(below)) / 2)
    threshold = float(max(middle, np.nextafter(below, np.float32(np.inf))))
    precisions = [average_precision(known, one) for one, known in zip(scores, labels, strict=True)]
    return Found(threshold, float(means[best]), float(np.mean(precisions)))


def unlabelled_threshold(logits: NDArray[np.float32]) -> float:
    """The threshold for a system of which nobody has labelled a session.

    From a source's sessions, its logits carry over in their order, not in their height: what is
    high on the one system may be usual on the other. So it is put where few of the target's own
    sessions, most of which are normal, lie above it.

    Args:
        logits: of the target's sessions, one or more.

    Returns:
        A logit from which on at most one session in a hundred is, or one where there are fewer;
        none where more share the highest logit.
    """
    values, counts = np.unique(logits, return_counts=True)
    above = np.cumsum(counts[::-1])[::-1]
    few = values[above <= max(1, int(_FLAGGED_SHARE * len(logits)))]
    return float(few[0] if len(few) else np.nextafter(values[-1], np.float32(np.inf)))


def _f1s(
    scores: NDArray[np.float32], labels: NDArray[np.bool_], values: NDArray[np.float32]
) -> NDArray[np.float64]:
    """F1 where everything from a value on is flagged, for each value."""
    ascending = np.sort(scores)
    bad = np.sort(scores[labels])
    flagged = len(ascending) - np.searchsorted(ascending, values)
    hits = len(bad) - np.searchsorted(bad, values)
    return np.asarray(2 * hits / np.maximum(flagged + len(bad), 1))
