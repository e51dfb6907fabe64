"""Which templates' labels to ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Candidates that get another look at a time.
_AT_ONCE = 32


def facility_location(
    vectors: NDArray[np.float32],
    counts: NDArray[np.int64] | NDArray[np.float64],
    size: int,
    taken: Sequence[int] = (),
) -> NDArray[np.int64]:
    """Templates that stand for the others, by greedy maximisation of facility location.

    Each time the template is taken that most raises the sum, over all templates, of how many lines
    a template has times its cosine to the most similar one taken. The sum is submodular, so greedy
    choice comes within 1 - 1/e of the best one (Nemhauser, Wolsey, Fisher 1978), and the choice of
    fewer templates is the beginning of that of more.

    Args:
        vectors: of length 1, [T, D].
        counts: lines of each template, or how much each counts, [T].
        size: how many to take; all of them if there are no more.
        taken: rows that were taken before, and stand for others already.

    Returns:
        Rows of `vectors` in the order in which they are taken.
    """
    similarity = np.maximum(vectors @ vectors.T, 0)
    best = np.zeros(len(vectors), dtype=np.float32)
    weights = counts.astype(np.float32)
    left = np.ones(len(vectors), dtype=np.bool_)
    for row in taken:
        left[row] = False
        best = np.maximum(best, similarity[row])
    # What each would have added when it was last looked at. It never adds more later on, so only
    # those need another look that might still be the best (Minoux 1978).
    bounds = np.where(left, np.maximum(similarity - best, 0) @ weights, -1)
    chosen = []
    for _ in range(min(size, int(left.sum()))):
        row = _most_gained(similarity, best, weights, bounds)
        bounds[row] = -1
        chosen.append(row)
        best = np.maximum(best, similarity[row])
    return np.array(chosen, dtype=np.int64)


def _most_gained(
    similarity: NDArray[np.float32],
    best: NDArray[np.float32],
    weights: NDArray[np.float32],
    bounds: NDArray[np.float32],
) -> int:
    """The row that adds most; brings bounds up to date as far as that takes."""
    fresh = np.zeros(len(bounds), dtype=np.bool_)
    while True:
        rows = np.argsort(-bounds, kind="stable")[:_AT_ONCE]
        if fresh[rows[0]]:
            return int(rows[0])
        stale = rows[~fresh[rows]]
        gains = np.maximum(similarity[stale] - best, 0) @ weights
        # Rounding may lift a gain above its bound, and nothing but that.
        bounds[stale] = np.where(bounds[stale] < 0, -1, np.minimum(gains, bounds[stale]))
        fresh[stale] = True
