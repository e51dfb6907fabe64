"""Which templates' labels to ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
    chosen = []
    for _ in range(min(size, int(left.sum()))):
        # Of a candidate (a row), what it would add to each template (a column).
        gains = np.maximum(similarity - best, 0) @ weights
        row = int(np.argmax(np.where(left, gains, -1)))
        left[row] = False
        chosen.append(row)
        best = np.maximum(best, similarity[row])
    return np.array(chosen, dtype=np.int64)
