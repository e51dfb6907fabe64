"""How well alerts were found: counts, rates, and an interval for the mean of tasks.

Every rate is between 0 and 1. What has no cases (no alert to find, nothing flagged) is 0, never
NaN, so that a method that flags nothing is judged and not left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Resamples of the bootstrap: the ends of a 95 % interval move by less than .005 with more.
_RESAMPLES = 10_000

#: Points of a precision-recall curve: no eye sees more of them.
_POINTS = 200


@dataclass(frozen=True)
class Counts:
    """Lines by what they are and what they were taken for.

    Attributes:
        hits: alerts that were flagged.
        false_alerts: normal lines that were flagged.
        misses: alerts that were not.
        passed: normal lines that were not.
        unseen_hits: hits whose template the support did not hold.
        unseen_misses: misses of that kind.
    """

    hits: int = 0
    false_alerts: int = 0
    misses: int = 0
    passed: int = 0
    unseen_hits: int = 0
    unseen_misses: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.false_alerts + other.false_alerts,
            self.misses + other.misses,
            self.passed + other.passed,
            self.unseen_hits + other.unseen_hits,
            self.unseen_misses + other.unseen_misses,
        )

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.hits, self.false_alerts + self.misses)

    @property
    def precision(self) -> float:
        """The share of the flagged lines that are alerts."""
        return _share(self.hits, self.false_alerts)

    @property
    def recall(self) -> float:
        """The share of the alerts that were flagged."""
        return _share(self.hits, self.misses)

    @property
    def unseen_recall(self) -> float:
        """The same, of the alerts whose template the support did not hold."""
        return _share(self.unseen_hits, self.unseen_misses)

    @property
    def false_alerts_per_10k(self) -> float:
        """Flagged lines among 10,000 normal ones."""
        return 10_000 * _share(self.false_alerts, self.passed)


def count(
    flagged: NDArray[np.bool_], labels: NDArray[np.bool_], unseen: NDArray[np.bool_]
) -> Counts:
    """Counts the lines of a query.

    Args:
        flagged: of each line, whether a method takes it for an alert.
        labels: whether it is one.
        unseen: whether its template is missing from the support.
    """
    hit, missed = flagged & labels, ~flagged & labels
    return Counts(
        hits=int(hit.sum()),
        false_alerts=int((flagged & ~labels).sum()),
        misses=int(missed.sum()),
        passed=int((~flagged & ~labels).sum()),
        unseen_hits=int((hit & unseen).sum()),
        unseen_misses=int((missed & unseen).sum()),
    )


def average_precision(labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """The area under the precision-recall curve, as a sum over recall steps; 0 without an alert."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if labels.any() else 0.0


def precision_recall(
    labels: NDArray[np.bool_], scores: NDArray[np.float32]
) -> tuple[list[float], list[float]]:
    """The precision-recall curve, at no more than 200 points that lie evenly along the recall.

    Args:
        labels: whether each line, or session, is an alert.
        scores: of each, the higher the more likely it is one.

    Returns:
        Recall, ascending, and the precision at each.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[::-1], recall[::-1]
    if len(recall) > _POINTS:
        picked = np.unique(
            np.searchsorted(recall, np.linspace(0, 1, _POINTS)).clip(0, len(recall) - 1)
        )
        precision, recall = precision[picked], recall[picked]
    return recall.tolist(), precision.tolist()


def block_interval(
    values: NDArray[np.float64], blocks: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """A 95 % interval for the mean of values that are not independent within a block.

    Tasks at neighbouring positions of a stream judge mostly the same lines, so whole blocks are
    resampled, with all the tasks that begin in them (percentile cluster bootstrap: Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 and 13). With a dozen blocks its 95 %
    would hold the truth in some 91 % of cases, so wider percentiles are taken, as Student's t has
    wider ones than the normal distribution (expanded percentiles: Hesterberg, What Teachers Should
    Know About the Bootstrap, 2015, ch. 4). A single block says nothing about the spread: the
    interval is then all that is possible, 0 to 1.

    Args:
        values: one a task, each from 0 to 1.
        blocks: of each task, the number of its block.
        seed: of the resampling; the same arguments give the same interval.

    Returns:
        The low and the high end; the mean of the values lies between them.
    """
    found, member = np.unique(blocks, return_inverse=True)
    if len(found) < 2:
        return 0.0, 1.0
    sums = np.bincount(member, weights=values)
    sizes = np.bincount(member)
    chosen = np.random.default_rng(seed).integers(len(found), size=(_RESAMPLES, len(found)))
    means = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    tail = _tail(len(found))
    low, high = np.quantile(means, [tail, 1 - tail])
    mean = float(values.mean())
    return min(float(low), mean), max(float(high), mean)


def _tail(blocks: int) -> float:
    """The percentile at which an interval from so many blocks ends, on either side."""
    from scipy.stats import norm, t

    return float(norm.cdf(math.sqrt(blocks / (blocks - 1)) * t.ppf(0.025, blocks - 1)))


def _share(part: int, rest: int) -> float:
    return part / (part + rest) if part else 0.0
