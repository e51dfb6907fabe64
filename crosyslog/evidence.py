"""Evidence on a template: how it stands to the support and to the source systems.

What a word means differs from system to system; how a new template stands to labelled ones means
the same everywhere. So the detector `evidence` is told nothing of a vector itself, only the numbers
of `FEATURES`: how near the nearest normal and the nearest alert of the support are, what a logistic
regression on the support says, what the sources say, and how far each of these has proved right on
the support. They depend on the template alone.

Of a template of the support itself they are *left out*: computed as if it were not there, so that
they can be learnt from.

Shapes: T templates that are judged, S of the support, P of the sources, D dimensions of a vector,
F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from crosyslog.words import alert_words, words_and_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

#: What is known of a template, in this order. *Standard*: on vectors standardised by the support.
FEATURES: Final = (
    "cosine to the nearest normal",
    "cosine to the nearest alert",
    "cosine to the nearest of any label",
    "nearest alert less nearest normal",
    "standard cosine to the nearest normal",
    "standard cosine to the nearest alert",
    "label average weighted by similarity",
    "words shared with the nearest normal",
    "words shared with the nearest alert",
    "logit of the balanced regression",
    "logit of the plain regression",
    "logit of the sources' regression",
    "cosine to the nearest normal of the sources",
    "cosine to the nearest alert of the sources",
    "nearest alert less nearest normal of the sources",
    "alert words",
    "left-out AUC of the regression",
    "AUC of the sources' regression",
    "left-out AUC of the label average",
    "share of alerts in the support",
    "size of the support",
)

#: Where each kind of them stands.
NEARNESS, REGRESSIONS, SOURCES, TRUST = slice(0, 9), slice(9, 11), slice(11, 16), slice(16, 21)

#: Columns that the trust in an expert is measured on.
AVERAGE, BALANCED, SOURCE_LOGIT = 6, 9, 11

#: Some MiniLM dimensions hardly vary; dividing by less than this would blow up noise.
SCALE_FLOOR: Final = 0.02

#: How much a shared word or pair of words counts beside a standardised dimension; as in `logreg`.
_GRAM_WEIGHT: Final = 6.0

#: The kernel's constant: the variance of the regression's intercept, which is hardly penalised.
_INTERCEPT: Final = 100.0

#: How quickly a label's say in the average falls with the cosine.
_SHARPNESS: Final = 20.0

#: Alert words beyond which more say nothing.
_MOST_WORDS: Final = 3

#: Templates that are judged in one go: bounds the memory of their similarities to the support.
_AT_ONCE: Final = 2048


@dataclass(frozen=True)
class SourceEvidence:
    """What the source systems know: a logistic regression, and vectors of their templates.

    Attributes:
        weight: of the regression, [D].
        bias: of the regression.
        vectors: of length 1, [P, D].
        alert: whether these are of alerts, [P].
    """

    weight: Floats
    bias: float
    vectors: Floats
    alert: NDArray[np.bool_]

    def features(self, templates: Sequence[str], vectors: Floats) -> Floats:
        """The columns `SOURCES` of some templates, [T, 5]."""
        similarity = vectors @ self.vectors.T
        normal, alert = nearest(similarity, ~self.alert), nearest(similarity, self.alert)
        words = [min(alert_words(template), _MOST_WORDS) for template in templates]
        logits = vectors @ self.weight + self.bias
        columns = logits, normal, alert, alert - normal, np.array(words)
        return np.column_stack(columns).astype(np.float32)


class LabelledTemplates:
    """Templates with labels, and how others are similar to them; none at all is a case, too."""

    def __init__(self, templates: Sequence[str], vectors: Floats, alert: NDArray[np.bool_]) -> None:
        """Prepares them.

        Args:
            templates: distinct ones, S of them.
            vectors: of length 1, [S, D].
            alert: their labels, [S].
        """
        self.vectors, self.alert = vectors, alert
        empty = not len(vectors)
        self._mean = np.zeros(vectors.shape[1], np.float32) if empty else vectors.mean(axis=0)
        deviation = np.ones_like(self._mean) if empty else vectors.std(axis=0)
        self._scale = np.maximum(deviation, SCALE_FLOOR)
        self._standard = self._standardised(vectors)
        self._holders: dict[str, list[int]] = {}
        for row, template in enumerate(templates):
            for gram in set(words_and_pairs(template)):
                self._holders.setdefault(gram, []).append(row)
        self._grams = np.array([len(set(words_and_pairs(one))) for one in templates], np.float32)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def both_classes(self) -> bool:
        """Whether there is anything to tell apart."""
        return bool(self.alert.any() and not self.alert.all())

    def similarities(self, templates: Sequence[str], vectors: Floats) -> Similarities:
        """How some templates are similar to these."""
        grams = [list(set(words_and_pairs(template))) for template in templates]
        shared = np.zeros((len(templates), len(self)), dtype=np.float32)
        for row, held in enumerate(grams):
            holders = [member for gram in held for member in self._holders.get(gram, ())]
            shared[row] = np.bincount(holders, minlength=len(self)) if holders else 0
        standard = self._standardised(vectors)
        sizes = np.array([len(held) for held in grams], dtype=np.float32)
        kernel = standard @ self._standard.T + _GRAM_WEIGHT**2 * shared + _INTERCEPT
        return Similarities(
            vectors @ self.vectors.T,
            unit(standard) @ unit(self._standard).T,
            np.asarray(shared / np.sqrt(np.outer(sizes, self._grams)), dtype=np.float32),
            np.asarray(kernel, dtype=np.float32),
        )

    def _standardised(self, vectors: Floats) -> Floats:
        return ((vectors - self._mean) / self._scale).astype(np.float32)


@dataclass(frozen=True)
class Similarities:
    """Of some templates to those of a support, each [T, S].

    Attributes:
        cosine: of the vectors.
        standard: of the vectors standardised by the support.
        words: of the presence of words and pairs of words.
        kernel: of the logistic regression, on standardised vectors and words.
    """

    cosine: Floats
    standard: Floats
    words: Floats
    kernel: Floats

    def without_themselves(self) -> Similarities:
        """The same for a support to itself, where nothing is near to itself."""
        cosine, standard, words = self.cosine.copy(), self.standard.copy(), self.words.copy()
        for part in (cosine, standard, words):
            np.fill_diagonal(part, -np.inf)
        return Similarities(cosine, standard, words, self.kernel)

    def features(self, alert: NDArray[np.bool_]) -> Floats:
        """The columns `NEARNESS`, [T, 9]."""
        normal_cosine, alert_cosine = (nearest(self.cosine, alert == is_) for is_ in (False, True))
        any_cosine = nearest(self.cosine, np.ones_like(alert))
        finite = np.where(np.isfinite(self.cosine), self.cosine, -9.0)
        say = np.exp(_SHARPNESS * (finite - any_cosine[:, None]))
        average = say @ alert / np.maximum(say.sum(axis=1), 1e-9)
        columns = [normal_cosine, alert_cosine, any_cosine, alert_cosine - normal_cosine]
        columns += [nearest(self.standard, alert == is_) for is_ in (False, True)]
        columns.append(average)
        columns += [nearest(self.words, alert == is_) for is_ in (False, True)]
        return np.column_stack(columns).astype(np.float32)


class SupportEvidence:
    """A support with regressions fitted to it: gives the evidence on any template."""

    def __init__(self, labelled: LabelledTemplates, coefficients: Floats, trust: Floats) -> None:
        """Takes what was fitted.

        Args:
            labelled: the support.
            coefficients: of the kernel regressions' dual form, [S, 2].
            trust: the columns `TRUST`, [5].
        """
        self._labelled, self._coefficients, self._trust = labelled, coefficients, trust

    def of_support(self, templates: Sequence[str], vectors: Floats) -> tuple[Floats, Floats]:
        """What the support alone says of templates that it does not hold: [T, 9] and [T, 2]."""
        similar = self._labelled.similarities(templates, vectors)
        nearness = similar.features(self._labelled.alert)
        return nearness, (similar.kernel @ self._coefficients).astype(np.float32)

    def features(
        self, templates: Sequence[str], vectors: Floats, sources: SourceEvidence
    ) -> Floats:
        """All evidence on templates that the support does not hold, [T, F]."""
        parts = [np.zeros((0, len(FEATURES)), dtype=np.float32)]
        for start in range(0, len(templates), _AT_ONCE):
            piece = slice(start, start + _AT_ONCE)
            own = self.of_support(templates[piece], vectors[piece])
            theirs = sources.features(templates[piece], vectors[piece])
            parts.append(joined(*own, theirs, self._trust))
        return np.concatenate(parts)


def joined(nearness: Floats, regressions: Floats, sources: Floats, trust: Floats) -> Floats:
    """The features of some templates from their parts, [T, F]."""
    rows = np.broadcast_to(trust, (len(nearness), len(trust)))
    return np.column_stack([nearness, regressions, sources, rows]).astype(np.float32)


def nearest(similarity: Floats, among: NDArray[np.bool_]) -> Floats:
    """The highest similarity to some columns, [T]; 0 where there are none, or none but itself."""
    if not among.any():
        return np.zeros(len(similarity), dtype=np.float32)
    highest = similarity[:, among].max(axis=1)
    return np.where(np.isfinite(highest), highest, 0.0).astype(np.float32)


def unit(vectors: Floats) -> Floats:
    """Vectors of length 1; one of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), dtype=np.float32)
