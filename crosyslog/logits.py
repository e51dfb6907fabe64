"""Logits to scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores from 0 to 1; NaN stays NaN."""
    # Clipped where float32 is at 0 or 1 anyway, so that exp cannot overflow.
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), dtype=np.float32)


def score_of(logit: float) -> float:
    """The score of one logit, as `sigmoid` gives it to many: a threshold and what reaches it agree.

    Args:
        logit: in float32.
    """
    return float(sigmoid(np.array([logit], dtype=np.float32))[0])
