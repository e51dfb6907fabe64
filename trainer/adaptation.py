"""From a base and a few labelled lines of a target to a bundle of its own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crosyslog.bundle import Bundle, Detector, now, support_frame
from crosyslog.detector import LstmDetector
from crosyslog.errors import BundleVersionError, LabelError
from crosyslog.logits import sigmoid
from crosyslog.manifest import Manifest, SupportSummary, Threshold
from trainer.evidence_adaptation import adapt_evidence, is_chosen
from trainer.left_out import left_out_scores, quiet_threshold, raised_without_each
from trainer.maml import Lines, adapt_parameters, for_members, rates_of
from trainer.self_estimate import SelfEstimate, self_estimate
from trainer.tasks import LabelledStream, labelled_stream, windows_of

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.manifest import InnerLoop
    from crosyslog.systems import System
    from trainer.labelled_lines import LabelledLines

#: The share of the support's own templates that may count as novel beside the rest of it.
_NOVEL_SHARE = 0.05

#: Where the similarity that makes a line novel must lie, however odd the support.
_NOVEL_RANGE = (0.3, 0.95)


def adapt(
    base: Bundle,
    support: pl.DataFrame | LabelledLines,
    *,
    system: System,
    target: str,
    encoder: Encoder,
    cache: EmbeddingCache,
    quiet: bool = False,
    version: str = "unsaved",
    command: str = "",
) -> Bundle:
    """Adapts a base to the labelled lines of a target.

    The inner loop's steps, rates and thresholds are the base's: nothing is chosen on the target,
    but for the quiet threshold, on the support.
    A support of one class is a normal case: there is no step to learn from, memory holds what was
    given, and the base's own weights and threshold judge the rest.

    Args:
        base: where to start.
        support: lines in the order they were written; of a frame, `text` and `label` are read.
        system: the profile that splits the target's lines.
        target: the target's name.
        encoder: the encoder of the base, or its vectors of all templates of the support.
        cache: where vectors are kept.
        quiet: raise the threshold above all that a normal line of the support is given by weights
            that do not know it: fewer alerts, and fewer false ones.
        version: the bundle's version in the store.
        command: what was called, for the manifest.

    Returns:
        A bundle in memory.

    Raises:
        LabelError: no line has a label.
        BundleVersionError: the base was made with another encoder.
    """
    check_encoder(base.manifest, encoder)
    return adapt_to_stream(
        base,
        labelled_stream(target, support, encoder, cache),
        system=system,
        quiet=quiet,
        version=version,
        command=command,
    )


def check_encoder(base: Manifest, encoder: Encoder) -> None:
    """Refuses an encoder that is not the base's.

    Raises:
        BundleVersionError: the base was made with another one.
    """
    if base.encoder.id != encoder.id:
        raise BundleVersionError(
            f"the base {base.target} was made with the encoder {base.encoder.id}, and "
            f"{encoder.id} is loaded: use its encoder ({base.encoder.name}), or train a base with "
            "yours"
        )


def adapt_to_stream(
    base: Bundle,
    support: LabelledStream,
    *,
    system: System,
    quiet: bool = False,
    version: str,
    command: str,
) -> Bundle:
    """What `adapt` does, for a support whose templates are encoded already.

    Raises:
        LabelError: the support is empty.
    """
    return adapt_and_estimate(
        base, support, system=system, quiet=quiet, version=version, command=command
    )[0]


def adapt_and_estimate(
    base: Bundle,
    support: LabelledStream,
    *,
    system: System,
    quiet: bool = False,
    version: str,
    command: str,
) -> tuple[Bundle, SelfEstimate | None]:
    """The same, with how the model does on the support when it does not know it.

    Returns:
        The bundle, and the estimate: none for `maml_lstm`, or a support of one class.

    Raises:
        LabelError: the support is empty.
    """
    if not len(support):
        raise LabelError(f"no labelled line to adapt {support.name} on")
    lines = np.bincount(support.rows, minlength=len(support.templates))
    alerts = np.bincount(support.rows, weights=support.labels, minlength=len(lines)).astype(int)
    # A template with both labels is remembered as what it mostly is; half and half is an alert.
    alert = 2 * alerts >= lines
    both_classes = 0 < int(support.labels.sum()) < len(support)
    base_manifest = base.manifest
    inner = base_manifest.inner_loop
    threshold = inner.threshold
    if not both_classes:
        only = "alerts" if support.labels.any() else "normal lines"
        threshold = Threshold(
            value=base_manifest.threshold.value,
            chosen=f"the base's, without inner steps: the support holds {only} alone",
        )
    detector, threshold, estimate = _adapted(base, support, alert, lines, threshold, quiet=quiet)
    settings: dict[str, Any] = {
        "inner_steps": _steps(base.detector, inner, lines) if both_classes else 0,
        "quiet_alerts": quiet,
    }
    manifest = Manifest(
        kind="adapted",
        target=support.name,
        version=version,
        created=now(),
        system=system,
        masking=base_manifest.masking,
        encoder=base_manifest.encoder,
        detector=detector.shape,
        memory=base_manifest.memory,
        inner_loop=inner,
        threshold=threshold,
        novel_below=novel_below(support.vectors),
        support=SupportSummary(
            lines=len(support),
            alerts=int(support.labels.sum()),
            templates=len(lines),
            alert_templates=int(alert.sum()),
        ),
        sources=base_manifest.sources,
        base=f"{base_manifest.target}/{base_manifest.version}",
        figures=estimate.figures() if estimate else {},
        settings=settings,
        command=command,
    )
    table = support_frame(
        templates=support.templates,
        alert=alert,
        lines=lines,
        alerts=alerts,
        source=None,
        vectors=support.vectors,
    )
    return Bundle(manifest, detector, table, sha256=""), estimate


def novel_below(vectors: NDArray[np.float32]) -> float:
    """The similarity below which a template counts as novel beside these.

    Nearly all of the given ones have a neighbour at least this close among the others.
    """
    if len(vectors) < 2:
        return _NOVEL_RANGE[1]
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    low = float(np.quantile(similarity.max(axis=1), _NOVEL_SHARE))
    return round(min(max(low, _NOVEL_RANGE[0]), _NOVEL_RANGE[1]), 4)


def _adapted(
    base: Bundle,
    support: LabelledStream,
    alert: NDArray[np.bool_],
    lines: NDArray[np.int64],
    threshold: Threshold,
    *,
    quiet: bool,
) -> tuple[Detector, Threshold, SelfEstimate | None]:
    """The adapted detector, the threshold that it is used with, and what they do together."""
    inner = base.manifest.inner_loop
    if isinstance(base.detector, LstmDetector):
        if quiet:
            threshold = quiet_threshold(threshold, left_out_scores(base, support), support.labels)
        return _after_inner_loop(base.detector, inner, support), threshold, None
    adapted = adapt_evidence(base.detector, inner, support.templates, support.vectors, alert, lines)
    scores = sigmoid(adapted.left_out)
    estimate = None
    if 0 < int(alert.sum()) < len(alert):
        raised = raised_without_each(threshold, scores, alert) if quiet else None
        estimate = self_estimate(scores, adapted.regression, alert, threshold.value, raised)
    if quiet:
        threshold = quiet_threshold(threshold, scores[support.rows], support.labels)
    return adapted.detector, threshold, estimate


def _steps(detector: Detector, inner: InnerLoop, lines: NDArray[np.int64]) -> int:
    return inner.steps if isinstance(detector, LstmDetector) or is_chosen(lines) else 0


def _after_inner_loop(
    base: LstmDetector, inner: InnerLoop, support: LabelledStream
) -> LstmDetector:
    detector = copy.deepcopy(base)
    if not 0 < int(support.labels.sum()) < len(support):
        return detector
    vectors = detector.standardised(torch.from_numpy(support.vectors))
    members = detector.shape.members
    lines = windows_of(support.rows, support.labels, inner.repeat_power)
    adapted = adapt_parameters(
        detector.stacked(),
        rates_of(inner),
        for_members(vectors.unsqueeze(0), members),
        Lines(*(for_members(part, members) for part in lines)),
        steps=inner.steps,
    )
    detector.load_stacked(adapted)
    return detector
