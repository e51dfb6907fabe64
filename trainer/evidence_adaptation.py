"""From a base of the detector `evidence` and a support to one that knows the support.

Shapes: S templates of the support, F features, N lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from crosyslog.evidence_network import EvidenceDetector
from trainer.evidence_inner_loop import inner_steps
from trainer.evidence_support import fit_support

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crosyslog.manifest import InnerLoop

#: Templates that others are compared with; fitting takes seconds for so many, and the cube of it.
MOST_TEMPLATES = 3000

#: With more labelled lines a template, these were written in a row and not chosen.
_LINES_A_TEMPLATE = 2


class AdaptedEvidence(NamedTuple):
    """A detector that knows a support, and what is said of that support when it is not known.

    Attributes:
        detector: the adapted one.
        left_out: its logits of the support's templates, each as if it were not known, [S]; NaN
            for those that were left aside.
        regression: the same of the balanced logistic regression.
    """

    detector: EvidenceDetector
    left_out: NDArray[np.float32]
    regression: NDArray[np.float32]


def adapt_evidence(
    base: EvidenceDetector,
    inner: InnerLoop,
    templates: Sequence[str],
    vectors: NDArray[np.float32],
    alert: NDArray[np.bool_],
    lines: NDArray[np.int64],
) -> AdaptedEvidence:
    """Fits the support and, where its templates were chosen, takes the inner steps on it.

    Lines in a row hold bursts of texts that resemble each other. Left out, each is still easy to
    judge by the others, so steps on them would teach trust that the lines to come do not deserve.

    Of more templates than `MOST_TEMPLATES`, those of alerts come first, up to half of them, and
    then the most frequent ones; the others are remembered all the same.

    Args:
        base: the detector of a base; it stays as it is.
        inner: the base's inner loop.
        templates: of the support, S of them.
        vectors: of these, [S, D].
        alert: their labels, [S].
        lines: labelled ones of each, [S].
    """
    rows = _compared(alert, lines)
    kept = [templates[row] for row in rows.tolist()]
    fitted = fit_support(kept, vectors[rows], alert[rows])
    said = base.sources.features(kept, vectors[rows])
    adapted = EvidenceDetector(base.shape.model_copy(update={"support_templates": len(rows)}))
    state = base.state_dict() | {
        "support_rows": torch.from_numpy(rows),
        "coefficients": torch.from_numpy(fitted.coefficients),
        "trust": torch.from_numpy(fitted.trust(said)),
    }
    adapted.load_state_dict(state)
    adapted.eval().requires_grad_(requires_grad=False)
    adapted.attach(templates, vectors, alert)
    steps = inner.steps if is_chosen(lines) else 0
    features = torch.from_numpy(fitted.left_out_features(said))
    labels = torch.from_numpy(alert[rows].astype(np.float32))
    for number, member in enumerate(adapted.each()):
        parameters = inner_steps(
            member,
            dict(member.named_parameters()),
            {name: rates[number] for name, rates in inner.rates.items()},
            adapted.standardised(features),
            labels,
            steps=steps,
        )
        member.load_state_dict({name: value.detach() for name, value in parameters.items()})
    left_out, regression = np.full((2, len(templates)), np.nan, dtype=np.float32)
    with torch.inference_mode():
        left_out[rows] = adapted.logits(features).numpy()
    regression[rows] = fitted.regressions[:, 0]
    return AdaptedEvidence(adapted, left_out, regression)


def is_chosen(lines: NDArray[np.int64]) -> bool:
    """Whether a support are labels of chosen templates, and not lines in a row.

    Args:
        lines: labelled ones of each template.
    """
    return bool(lines.sum() <= _LINES_A_TEMPLATE * len(lines))


def _compared(alert: NDArray[np.bool_], lines: NDArray[np.int64]) -> NDArray[np.int64]:
    """The templates that others are compared with, ascending."""
    if len(alert) <= MOST_TEMPLATES:
        return np.arange(len(alert), dtype=np.int64)
    by_lines = np.argsort(-lines, kind="stable")
    alerts = by_lines[alert[by_lines]][: MOST_TEMPLATES // 2]
    rest = by_lines[~np.isin(by_lines, alerts)][: MOST_TEMPLATES - len(alerts)]
    return np.sort(np.concatenate((alerts, rest)))
