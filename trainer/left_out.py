"""What an adapted detector says of its own support, as if it had not been told.

A support that is scored by weights that were adapted to it looks easier than the lines to come. So
its templates are dealt into parts, the base adapts to all parts but one, and judges that one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from crosyslog.detector import LstmDetector
from crosyslog.manifest import Threshold
from trainer.maml import Lines, mean_logits, rates_of
from trainer.tasks import windows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crosyslog.bundle import Bundle
    from trainer.tasks import LabelledStream

#: Parts that the templates are dealt into, and so times that the base adapts.
_PARTS = 5


def left_out_scores(base: Bundle, support: LabelledStream) -> NDArray[np.float32]:
    """The scores of a support's lines, each by weights adapted without its template, [N].

    Every part gets its share of the alert templates. Where only one class is left to adapt to, no
    step is taken, as `trainer.adaptation` does.

    Args:
        base: where each adaptation starts.
        support: the labelled lines, in their order.
    """
    inner, detector = base.manifest.inner_loop, base.detector
    assert isinstance(detector, LstmDetector)  # noqa: S101 - the evidence network needs no refit
    rows, labels = support.rows, support.labels
    part = _deal(rows, labels, len(support.templates))
    left_out_KN = part[rows] == np.arange(part.max() + 1)[:, None]
    lines = windows_of(rows, labels, inner.repeat_power)
    weights_KN = np.where(left_out_KN, 0.0, lines.weights_KBL.flatten()[: len(rows)].numpy())
    kept = [labels[~left_out] for left_out in left_out_KN]
    two_classes_K = np.array([some.any() and not some.all() for some in kept])
    sums_K1 = weights_KN.sum(axis=1, keepdims=True)
    weights_KN = np.where(two_classes_K[:, None], weights_KN / np.maximum(sums_K1, 1e-12), 0.0)
    weights_KBL = torch.zeros(len(kept), lines.rows_KBL.numel())
    weights_KBL[:, : len(rows)] = torch.from_numpy(weights_KN)
    count = len(kept)
    rows_KBL = lines.rows_KBL.expand(count, -1, -1)
    vectors = detector.standardised(torch.from_numpy(support.vectors))
    logits_KBL = mean_logits(
        detector.stacked(),
        rates_of(inner),
        vectors.expand(count, -1, -1),
        Lines(rows_KBL, lines.labels_KBL.expand(count, -1, -1), weights_KBL.view(rows_KBL.shape)),
        rows_KBL,
        steps=inner.steps,
    )
    scores_KN = logits_KBL.sigmoid().flatten(1).numpy()[:, : len(rows)]
    return np.asarray(scores_KN[part[rows], np.arange(len(rows))], dtype=np.float32)


def quiet_threshold(
    threshold: Threshold, scores: NDArray[np.float32], labels: NDArray[np.bool_]
) -> Threshold:
    """A threshold above all that a normal line of the support has been given without its label.

    Args:
        threshold: the usual one, which the quiet one is never below.
        scores: left-out ones, [N].
        labels: whether a line is an alert, [N].
    """
    normal = scores[~labels]
    normal = normal[np.isfinite(normal)]
    if not len(normal):
        return threshold
    highest = float(normal.max())
    # Four digits, rounded up. What memory calls an alert has the score 1 and stays one.
    value = min((math.floor(highest * 10_000) + 1) / 10_000, 1.0)
    if value <= threshold.value:
        return threshold.model_copy(update={"chosen": f"{threshold.chosen}; quiet already"})
    return Threshold(
        value=value,
        chosen=f"quiet: above {highest:.4f}, the highest left-out score of a normal line",
    )


def raised_without_each(
    threshold: Threshold, scores: NDArray[np.float32], alert: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The quiet threshold that all templates but one lead to, for each one, [S].

    Only the normal template with the highest score changes it; by a threshold that it had a part
    in it would never be a false alert.

    Args:
        threshold: the usual one.
        scores: left-out ones of the templates, [S].
        alert: their labels, [S].
    """
    quiet = np.full(len(scores), quiet_threshold(threshold, scores, alert).value)
    normal = np.flatnonzero(~alert & np.isfinite(scores))
    if len(normal):
        highest = normal[np.argmax(scores[normal])]
        others = np.arange(len(scores)) != highest
        quiet[highest] = quiet_threshold(threshold, scores[others], alert[others]).value
    return quiet


def _deal(rows: NDArray[np.int64], labels: NDArray[np.bool_], templates: int) -> NDArray[np.int64]:
    """The part of each template: those with alerts are dealt out first, then the others."""
    alerts = np.bincount(rows, weights=labels, minlength=templates) > 0
    part = np.empty(templates, dtype=np.int64)
    part[np.argsort(~alerts, kind="stable")] = np.arange(templates) % min(_PARTS, templates)
    return part
