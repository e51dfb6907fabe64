"""What an adapted model says of its own support, each template as if it had no label.

Shapes: S templates of the support.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Contradicted labels that are printed.
_SHOWN = 5

#: The normal distribution's quantile for an interval of 95 %.
_QUANTILE = 1.96


@dataclass(frozen=True)
class Rate:
    """A share of cases with an interval for what it would be of many more.

    Attributes:
        hits: cases of the kind.
        cases: all of them; with none, nothing is known.
    """

    hits: int
    cases: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % score interval (Wilson 1927), which is right for few cases and for 0 and 1."""
        if not self.cases:
            return 0.0, 1.0
        share, spread = self.hits / self.cases, _QUANTILE**2 / self.cases
        centre = share + spread / 2
        reach = math.sqrt(share * (1 - share) * spread + (spread / 2) ** 2)
        return max((centre - reach) / (1 + spread), 0.0), min((centre + reach) / (1 + spread), 1.0)

    def __str__(self) -> str:
        if not self.cases:
            return "unknown"
        low, high = self.interval
        return (
            f"{self.hits / self.cases:.2f} ({low:.2f} to {high:.2f}), {self.hits} of {self.cases}"
        )


@dataclass(frozen=True)
class SelfEstimate:
    """How a model does on the templates of its support when it does not know their labels.

    Attributes:
        precision: of the templates that it takes for alerts, how many are.
        recall: of the templates of alerts, how many it takes for such.
        disagreement: of all templates, on how many a plain logistic regression on the same
            support says something else: much of it is a warning that the sources do not fit.
        contradicted: rows of the templates whose label it would not have expected, the most
            doubtful first.
    """

    precision: Rate
    recall: Rate
    disagreement: Rate
    contradicted: Sequence[int]

    def figures(self) -> dict[str, float]:
        """For the manifest; what is unknown is left out."""
        rates = {
            "left_out_precision": self.precision,
            "left_out_recall": self.recall,
            "logreg_disagreement": self.disagreement,
        }
        found = {"contradicted_labels": float(len(self.contradicted))}
        for name, rate in rates.items():
            if rate.cases:
                low, high = rate.interval
                found[name] = round(rate.hits / rate.cases, 4)
                found |= {f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
        return found


def self_estimate(
    scores: NDArray[np.float32],
    regression: NDArray[np.float32],
    alert: NDArray[np.bool_],
    threshold: float,
    raised: NDArray[np.float64] | float | None = None,
) -> SelfEstimate:
    """Compares left-out scores with the labels.

    Args:
        scores: left-out ones of the model, [S]; NaN where there is none.
        regression: left-out logits of a plain logistic regression, [S].
        alert: the labels, [S].
        threshold: from which score on the model takes a template for an alert.
        raised: from which score on it raises one, if that is not the same, [S] or of all: what
            precision and recall are of. A label is as doubtful as before.
    """
    rows = np.flatnonzero(np.isfinite(scores))
    raised_R = np.broadcast_to(threshold if raised is None else raised, scores.shape)[rows]
    flagged, truth = scores[rows] >= threshold, alert[rows]
    doubt = np.where(truth, 1 - scores[rows], scores[rows])
    order = np.argsort(-doubt, kind="stable")
    return SelfEstimate(
        *left_out_rates(scores[rows], truth, raised_R),
        Rate(int((flagged != (regression[rows] > 0)).sum()), len(rows)),
        [int(rows[place]) for place in order if flagged[place] != truth[place]],
    )


def left_out_facts(precision: Rate, recall: Rate) -> list[tuple[str, str]]:
    """What is printed of these two."""
    took = f"{precision} templates taken for alerts, each left out in turn"
    return [
        ("precision", took if precision.cases else f"{precision}: no template is taken for one"),
        ("recall", f"{recall} templates of alerts, each left out in turn"),
    ]


def contradicted_facts(doubtful: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What is printed of templates and labels that the other labels contradict."""
    if not doubtful:
        return []
    count, shown = len(doubtful), doubtful[:_SHOWN]
    which = "have another look:" if count <= _SHOWN else f"the {_SHOWN} most doubtful:"
    return [
        ("contradicted", f"{count} by the other labels; {which}"),
        *(("", f"{label}: {template}") for template, label in shown),
    ]


def left_out_rates(
    scores: NDArray[np.float32],
    alert: NDArray[np.bool_],
    threshold: NDArray[np.float64] | float,
) -> tuple[Rate, Rate]:
    """Precision and recall over templates whose left-out scores are compared with their labels."""
    flagged = scores >= threshold
    hits = int((flagged & alert).sum())
    return Rate(hits, int(flagged.sum())), Rate(hits, int(alert.sum()))
