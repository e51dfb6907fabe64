"""What is known of a target's sessions says something of a line before anything is learnt.

A handful of labelled sessions shows a network two or three kinds of anomaly. What it learns from
them fits these, and says little of a kind that it has never seen. That a line is more like one of
a session known to be anomalous than like any of those known to be normal needs no learning. Where
no anomaly is known, the measure is how unlike a line is to all that is known: its novelty.

Shapes: T texts, D dimensions, K texts of normal sessions, A texts of anomalous ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.evidence import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Texts that are compared at a time: some 30 MB with 2,000 others.
_TEXTS_A_PASS = 4_096


@dataclass(frozen=True)
class Contrast:
    """Texts whose sessions have labels.

    Attributes:
        normal: texts that a session holds which is known to be normal, or is taken to be, [K].
        anomalous: texts that one holds which is known to be anomalous, and none that is known to
            be normal, [A].
        normal_KD: their vectors, of length 1.
        anomalous_AD: theirs.
    """

    normal: Sequence[str]
    anomalous: Sequence[str]
    normal_KD: NDArray[np.float32]
    anomalous_AD: NDArray[np.float32]

    @classmethod
    def between(
        cls,
        texts: Sequence[str],
        vectors_TD: NDArray[np.float32],
        normal_T: NDArray[np.bool_],
        anomalous_T: NDArray[np.bool_],
    ) -> Contrast:
        """Of texts with vectors, and which of them are of which kind."""
        normal, anomalous = np.flatnonzero(normal_T), np.flatnonzero(anomalous_T)
        return cls(
            [texts[row] for row in normal.tolist()],
            [texts[row] for row in anomalous.tolist()],
            unit(vectors_TD[normal]),
            unit(vectors_TD[anomalous]),
        )

    @classmethod
    def nothing(cls) -> Contrast:
        """Of no label."""
        none = np.zeros((0, 0), dtype=np.float32)
        return cls([], [], none, none)

    def of(self, vectors_TD: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much more a text is like an anomalous one than like a normal one, [T].

        The difference of the cosines to the nearest of either, -2 to 2. Without an anomalous one,
        a text itself takes its place, and what is known has 0; without a normal one, all have: a
        single cosine has no zero to be compared with.
        """
        found = np.zeros(len(vectors_TD), dtype=np.float32)
        if not len(self.normal):
            return found
        for start in range(0, len(found), _TEXTS_A_PASS):
            some = unit(vectors_TD[start : start + _TEXTS_A_PASS])
            # Of a text without words, all zeros, nothing is near, itself included.
            near = (some @ self.anomalous_AD.T).max(axis=1) if len(self.anomalous) else some.any(1)
            found[start : start + _TEXTS_A_PASS] = near - (some @ self.normal_KD.T).max(axis=1)
        return found
