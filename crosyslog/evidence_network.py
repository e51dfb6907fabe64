"""The detector `evidence`: a small network over the evidence on a template.

Shapes: T templates, S of the support, P of the sources, D dimensions of a vector, F features,
H hidden units, M members.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crosyslog.evidence import FEATURES, LabelledTemplates, SourceEvidence, SupportEvidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from crosyslog.manifest import EvidenceShape

#: A feature that is the same in all tasks of the training would be blown up without it.
_SCALE_FLOOR = 1e-2


class EvidenceMember(nn.Module):
    """Two hidden layers beside a linear one: [T, F] standardised features to [T] logits."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(len(FEATURES), hidden)
        self.second = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, 1)
        self.linear = nn.Linear(len(FEATURES), 1)

    def forward(self, features_TF: Tensor, dropout: float = 0.0) -> Tensor:
        """The logits; dropout is for training alone."""
        hidden_TH = features_TF
        for layer in (self.first, self.second):
            hidden_TH = functional.dropout(torch.relu(layer(hidden_TH)), dropout, dropout > 0)
        return torch.as_tensor(self.head(hidden_TH) + self.linear(features_TF)).squeeze(-1)


class EvidenceDetector(nn.Module):
    """Members whose mean logit counts, with all that they need to know of sources and support.

    A line's score depends on its template alone, so it is computed once a template; there is no
    window to look at.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    source_weight: Tensor
    source_bias: Tensor
    source_vectors: Tensor
    source_alert: Tensor
    support_rows: Tensor
    coefficients: Tensor
    trust: Tensor

    reads_context = False
    columns = 1

    def __init__(self, shape: EvidenceShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("feature_mean", torch.zeros(len(FEATURES)))
        self.register_buffer("feature_scale", torch.ones(len(FEATURES)))
        self.register_buffer("source_weight", torch.zeros(shape.dim))
        self.register_buffer("source_bias", torch.zeros(1))
        vectors = torch.zeros(shape.source_templates, shape.dim, dtype=torch.float16)
        self.register_buffer("source_vectors", vectors)
        self.register_buffer("source_alert", torch.zeros(shape.source_templates, dtype=torch.bool))
        self.register_buffer("support_rows", torch.zeros(shape.support_templates, dtype=torch.long))
        self.register_buffer("coefficients", torch.zeros(shape.support_templates, 2))
        self.register_buffer("trust", torch.zeros(5))
        self.members = nn.ModuleList(EvidenceMember(shape.hidden) for _ in range(shape.members))
        self._known: tuple[SupportEvidence, SourceEvidence] | None = None

    def attach(
        self, templates: Sequence[str], vectors: NDArray[np.float32], alert: NDArray[np.bool_]
    ) -> None:
        """Gives it the support of its bundle, of which it reads `support_rows`; none for a base.

        Raises:
            IndexError: it is not that support.
        """
        rows = self.support_rows.numpy(force=True)
        labelled = LabelledTemplates([templates[row] for row in rows], vectors[rows], alert[rows])
        support = SupportEvidence(
            labelled, self.coefficients.numpy(force=True), self.trust.numpy(force=True)
        )
        self._known = support, self.sources

    @property
    def sources(self) -> SourceEvidence:
        """What the source systems know, in single precision."""
        return SourceEvidence(
            self.source_weight.numpy(force=True),
            float(self.source_bias),
            self.source_vectors.float().numpy(force=True),
            self.source_alert.numpy(force=True),
        )

    def template_columns(
        self, templates: Sequence[str], vectors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The logit of each template, [T, 1]."""
        assert self._known is not None, "attach the support first"  # noqa: S101
        support, sources = self._known
        features = support.features(templates, vectors, sources)
        with torch.inference_mode():
            on_device = torch.from_numpy(features).to(self.feature_mean.device)
            return np.asarray(self.logits(on_device).numpy(force=True)[:, None])

    def standardised(self, features_TF: Tensor) -> Tensor:
        """The features as the members take them, [T, F]."""
        return (features_TF - self.feature_mean) / self.feature_scale

    def standardise_by(self, features_TF: NDArray[np.float32]) -> None:
        """Sets mean and scale by the features of the training."""
        self.feature_mean.copy_(torch.from_numpy(features_TF.mean(axis=0)))
        scale = np.maximum(features_TF.std(axis=0), _SCALE_FLOOR)
        self.feature_scale.copy_(torch.from_numpy(scale))

    def logits(self, features_TF: Tensor) -> Tensor:
        """The members' mean logit, [T]."""
        standard_TF = self.standardised(features_TF)
        return torch.stack([member(standard_TF) for member in self.each()]).mean(dim=0)

    def forward(self, templates_BLC: Tensor) -> Tensor:
        """The logits of windows of lines, [B, L]: those of their templates."""
        return templates_BLC[..., 0]

    def each(self) -> list[EvidenceMember]:
        """The members."""
        return cast("list[EvidenceMember]", list(self.members))
