"""Fits what the detector `evidence` needs to know of a support: regressions, and their worth.

Shapes: S templates of the support, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.evidence import (
    AVERAGE,
    BALANCED,
    SOURCE_LOGIT,
    SOURCES,
    LabelledTemplates,
    SupportEvidence,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Doubles = NDArray[np.float64]

#: Strength of the L2 penalty, on the mean loss of the support's templates.
_PENALTY = 1e-3

#: Newton's method has then long converged; it takes about eight steps.
_MOST_STEPS = 50

#: Where a step of Newton's method changes the loss by less than this share, it has converged.
_CONVERGED = 1e-6

#: A logit beyond this one is as good as certain.
_CERTAIN = 30.0

#: What an AUC is where there are no pairs to order.
_NO_AUC = 0.5


@dataclass(frozen=True)
class FittedSupport:
    """A support whose regressions are fitted.

    Attributes:
        labelled: its templates.
        nearness: of each to the others, [S, 9].
        regressions: what the regressions say of each when they do not know it, [S, 2].
        coefficients: of the regressions' dual form, [S, 2].
    """

    labelled: LabelledTemplates
    nearness: Floats
    regressions: Floats
    coefficients: Floats

    def trust(self, sources: Floats) -> Floats:
        """How far each expert has proved right on this support; what the support is like, [5].

        Args:
            sources: what the sources say of its templates, [S, 5].
        """
        alert = self.labelled.alert
        source_logit = sources[:, SOURCE_LOGIT - SOURCES.start]
        regression = self.regressions[:, BALANCED - self.nearness.shape[1]]
        aucs = [auc(one, alert) for one in (regression, source_logit, self.nearness[:, AVERAGE])]
        share = float(alert.mean()) if len(alert) else 0.0
        return np.array([*aucs, share, np.log1p(len(alert)) / 5], dtype=np.float32)

    def left_out_features(self, sources: Floats) -> Floats:
        """The evidence on each template of the support as if it were not there, [S, F]."""
        return joined(self.nearness, self.regressions, sources, self.trust(sources))

    def evidence(self, sources: Floats) -> SupportEvidence:
        """What gives the evidence on other templates."""
        return SupportEvidence(self.labelled, self.coefficients, self.trust(sources))


def fit_support(
    templates: Sequence[str], vectors: Floats, alert: NDArray[np.bool_]
) -> FittedSupport:
    """Fits a support.

    Args:
        templates: distinct ones, S of them; none is a case, too.
        vectors: of length 1, [S, D].
        alert: their labels, [S]. Of one class alone there is no regression: its logits are 0.
    """
    labelled = LabelledTemplates(templates, vectors, alert)
    similar = labelled.similarities(templates, vectors)
    size = len(templates)
    coefficients, left_out = np.zeros((size, 2)), np.zeros((size, 2))
    if labelled.both_classes:
        balanced = np.where(alert, 0.5 * size / alert.sum(), 0.5 * size / (~alert).sum())
        kernel = similar.kernel.astype(np.float64)
        for column, weights in enumerate((balanced, np.ones(size))):
            fitted = fit_logistic(kernel, alert, weights)
            coefficients[:, column] = fitted
            left_out[:, column] = left_out_logits(kernel, alert, weights, fitted)
    return FittedSupport(
        labelled,
        similar.without_themselves().features(alert),
        left_out.astype(np.float32),
        coefficients.astype(np.float32),
    )


def fit_logistic(kernel: Doubles, alert: NDArray[np.bool_], weights: Doubles) -> Doubles:
    """Kernel logistic regression with an L2 penalty, by Newton's method with halved steps.

    There are a few hundred templates and more dimensions than that, so the dual form is the small
    one, and its Hessian serves `left_out_logits`.

    Args:
        kernel: of the templates, [S, S].
        alert: their labels, [S]; both classes occur.
        weights: how much each counts, [S].

    Returns:
        Coefficients a, [S]: the logits are kernel @ a.
    """
    size = len(alert)
    labels = alert.astype(np.float64)
    found, logits = np.zeros(size), np.zeros(size)

    def loss(coefficients: Doubles, of: Doubles) -> float:
        penalty = 0.5 * _PENALTY * size * coefficients @ of
        return float(weights @ (np.logaddexp(0, of) - labels * of) + penalty)

    best = loss(found, logits)
    for _ in range(_MOST_STEPS):
        residual, curvature = _derivatives(logits, labels, weights)
        system = curvature[:, None] * kernel
        system[np.diag_indices(size)] += _PENALTY * size
        step = np.linalg.solve(system, curvature * logits + residual) - found
        change, length = kernel @ step, 1.0
        while (new := loss(found + length * step, logits + length * change)) > best:
            length /= 2
            if length < 1e-6:
                return found
        found, logits = found + length * step, logits + length * change
        if best - new < _CONVERGED * max(best, 1e-6):
            break
        best = new
    return found


def left_out_logits(
    kernel: Doubles, alert: NDArray[np.bool_], weights: Doubles, fitted: Doubles
) -> Doubles:
    """What `fit_logistic` would say of each template had it been fitted without it, [S].

    Approximate leave-one-out: one Newton step away from the fit, which costs one inverse in place
    of S fits (Rad, Maleki, A scalable estimate of the out-of-sample prediction error via
    approximate leave-one-out cross-validation, 2020).
    """
    logits = kernel @ fitted
    residual, curvature = _derivatives(logits, alert.astype(np.float64), weights)
    curvature = np.maximum(curvature, 1e-6)
    inverse = np.linalg.inv(kernel + np.diag(_PENALTY * len(alert) / curvature))
    target = logits + residual / curvature
    return np.asarray(target - (inverse @ target) / np.diag(inverse))


def auc(scores: Floats, alert: NDArray[np.bool_]) -> float:
    """How often an alert has a higher score than a normal one, ties counting half."""
    if alert.all() or not alert.any():
        return _NO_AUC
    normal = np.sort(scores[~alert])
    below = np.searchsorted(normal, scores[alert], side="left")
    not_above = np.searchsorted(normal, scores[alert], side="right")
    return float((below + not_above).mean() / 2 / len(normal))


def _derivatives(logits: Doubles, labels: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """The loss's first derivative by the logits with its sign turned, and the second one."""
    share = 1 / (1 + np.exp(-np.clip(logits, -_CERTAIN, _CERTAIN)))
    return weights * (labels - share), weights * share * (1 - share)
