"""Bases and adapted bundles that judge sessions.

Shapes: S sessions of a log, N of them to learn from, T texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crosyslog.bundle import now, support_frame
from crosyslog.drain_groups import TemplateGroups
from crosyslog.evidence import unit
from crosyslog.logits import score_of, sigmoid
from crosyslog.manifest import (
    EncoderReference,
    InnerLoop,
    Manifest,
    SupportSummary,
    Threshold,
)
from crosyslog.session_bundle import SessionBundle
from crosyslog.session_contrast import Contrast
from crosyslog.session_scorer import judge_sessions
from crosyslog.systems.profile import DrainSettings
from trainer.adaptation import novel_below
from trainer.base_parts import Labelled, prototypes_of
from trainer.sessions.corpus import contrast_of, contrasted, session_corpus
from trainer.sessions.estimates import cluster_sessions, estimate_labels, ways
from trainer.sessions.evaluation import source_parts
from trainer.sessions.metrics import unlabelled_threshold
from trainer.sessions.training import (
    Held,
    Lessons,
    SessionConfig,
    adapt_states,
    choose,
    meta_train,
)
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from crosyslog.embedding_cache import EmbeddingCache, VectorSource
    from crosyslog.session_rules import SessionRule
    from crosyslog.systems import System
    from crosyslog.word_vectors import TfidfVectors
    from trainer.session_logs import SessionLog
    from trainer.sessions.corpus import Reading, SessionCorpus
    from trainer.sessions.training import Chosen

#: Of each source, sessions that the state and the threshold of a base are chosen by.
_HELD_SHARE = 0.1

#: Of the labelled sessions of a target, the last ones choose; with fewer of either kind, nothing
#: can be chosen by them.
_CHOOSING_SHARE, _FEWEST_TO_CHOOSE = 0.25, 3


class Adapted(NamedTuple):
    """What an adaptation came to.

    Attributes:
        bundle: in memory.
        sessions: how many were there.
        labelled: how many of them had a label.
        anomalous: how many of these were anomalous.
        chosen: by which the state and the threshold were chosen; none where labels did not
            suffice for a choice.
        scores: of all sessions of the log, by the bundle, [S].
    """

    bundle: SessionBundle
    sessions: int
    labelled: int
    anomalous: int
    chosen: Chosen | None
    scores: NDArray[np.float32]


def train_session_base(
    sources: Sequence[SessionCorpus],
    *,
    name: str,
    config: SessionConfig,
    encoder: EncoderReference,
    words: TfidfVectors | None,
    command: str,
    progress: Callable[[int, float], None] | None = None,
) -> SessionBundle:
    """Meta-trains a base on labelled source systems.

    Args:
        sources: their sessions.
        name: the base's.
        config: the settings.
        encoder: what made the vectors of whole texts.
        words: what made those of words, where the base reads them.
        command: what was called, for the manifest.
        progress: told the steps done, of all members together, and the loss.

    Returns:
        A base in memory: weights, threshold and prototypes; no log text.

    Raises:
        LabelError: a source does not have both kinds of sessions.
    """
    rng = np.random.default_rng(config.seed)
    parts = [source_parts(source, rng, _HELD_SHARE) for source in sources]
    states = meta_train([lessons for lessons, _ in parts], None, config, progress)
    chosen = choose(states, [held for _, held in parts], "held-out sessions of each source")
    manifest = Manifest(
        kind="base",
        target=name,
        version="1",
        created=now(),
        encoder=encoder,
        detector=chosen.state.detector.shape,
        memory=False,
        inner_loop=InnerLoop(
            steps=config.adaptation_steps, rates={}, threshold=chosen.threshold, repeat_power=0.0
        ),
        threshold=chosen.threshold,
        novel_below=_novel_below(np.concatenate([source.vectors for source in sources])),
        sources=tuple(source.name for source in sources),
        figures={
            "source_f1": round(chosen.f1, 4),
            "source_average_precision": round(chosen.average_precision, 4),
        },
        settings=config.model_dump() | {"chosen_step": chosen.state.step},
        command=command,
    )
    detector = chosen.state.detector
    # Every word weighs alike until a target has shown its own: a base holds no text.
    plain = None if words is None else words.without_weights()
    nothing = TemplateGroups.fit([], **DrainSettings().model_dump())
    return SessionBundle(
        manifest, detector, nothing, plain, Contrast.nothing(), _prototypes(sources), sha256=""
    )


def adapt_sessions(
    base: SessionBundle,
    log: SessionLog,
    reading: Reading,
    *,
    target: str,
    system: System,
    rule: SessionRule,
    encoder: VectorSource,
    cache: EmbeddingCache,
    version: str,
    command: str,
) -> Adapted:
    """Adapts a base to a target from few labels of its sessions, or none.

    With enough labels of either kind among the last quarter of the labelled sessions, these choose
    the state, the way in which unknown sessions are taken, and the threshold; else all labels are
    learnt from, and the threshold is the base's. With no anomalous session among them, the weights
    are the base's: from normal ones alone, a network learns that all is normal. The threshold is
    then one that few sessions of the log are above.

    Args:
        base: where to start.
        log: the target's sessions, those without a label too.
        reading: fitted on them.
        target: its name.
        system: the profile of its lines.
        rule: which of them make a session.
        encoder: of whole texts.
        cache: of its vectors.
        version: of the bundle.
        command: what was called, for the manifest.
    """
    manifest = base.manifest
    corpus = session_corpus(target, log, reading, encoder, cache)
    labelled = np.flatnonzero(corpus.labels != NO_LABEL)
    learnt, held = _parts(corpus, labelled)
    # Of the sessions that choose, nothing may be known that is not known of later ones either.
    contrast = contrast_of(corpus, learnt, corpus.labels[learnt])
    corpus = contrasted(corpus, contrast)
    own = SessionConfig.model_fields.keys() & manifest.settings.keys()
    config = SessionConfig.model_validate({name: manifest.settings[name] for name in own})
    config = config.model_copy(update={"adaptation_steps": manifest.inner_loop.steps})
    detector, threshold, chosen = base.detector, manifest.threshold, None
    settings: dict[str, Any] = {"sessions": str(rule), "steps": 0}
    if held is not None or (corpus.labels == 1).any():
        clusters = cluster_sessions(corpus, learnt)
        for unknown in ways(corpus.labels[learnt]):
            estimates = estimate_labels(clusters, corpus.labels[learnt], unknown)
            states = adapt_states(base.detector, Lessons(corpus, learnt, estimates), config)
            if held is None:
                detector, settings = states[-1].detector, settings | {"steps": states[-1].step}
                break
            found = choose(
                states, [Held(corpus, held.sessions)], "the last quarter of the labelled sessions"
            )
            if chosen is None or found.average_precision > chosen.average_precision:
                chosen, detector, threshold = found, found.state.detector, found.threshold
                settings |= {"steps": found.state.step, "unknown": unknown}
    logits, _ = judge_sessions(detector, corpus.vectors, corpus.rows, corpus.contrast)
    if detector is base.detector:
        value = score_of(unlabelled_threshold(logits))
        threshold = Threshold(
            value=value, chosen="no more than one in a hundred sessions of the log is above"
        )
    elif chosen is None:
        threshold = Threshold(
            value=threshold.value, chosen="the base's: too few labels to choose another one by"
        )
    anomalous = int((corpus.labels == 1).sum())
    support = _support(corpus)
    adapted = Manifest(
        kind="adapted",
        target=target,
        version=version,
        created=now(),
        system=system,
        sessions=rule,
        masking=manifest.masking,
        encoder=manifest.encoder,
        detector=detector.shape,
        memory=False,
        inner_loop=manifest.inner_loop,
        threshold=threshold,
        novel_below=_novel_below(corpus.vectors),
        support=SupportSummary(
            lines=len(labelled),
            alerts=anomalous,
            templates=support.height,
            alert_templates=int(support["alert"].sum()),
        ),
        sources=manifest.sources,
        base=f"{manifest.target}/{manifest.version}",
        figures={}
        if chosen is None
        else {
            "chosen_f1": round(chosen.f1, 4),
            "chosen_average_precision": round(chosen.average_precision, 4),
        },
        settings=settings,
        command=command,
    )
    bundle = SessionBundle(
        adapted, detector, reading.groups, reading.words, contrast, support, sha256=""
    )
    return Adapted(bundle, len(corpus), len(labelled), anomalous, chosen, sigmoid(logits))


def _parts(
    corpus: SessionCorpus, labelled: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Held | None]:
    """The sessions to learn from, and those to choose by, if the last labels suffice for that."""
    every = np.arange(len(corpus))
    last = labelled[len(labelled) - int(_CHOOSING_SHARE * len(labelled)) :]
    anomalous = int((corpus.labels[last] == 1).sum())
    if min(anomalous, len(last) - anomalous) < _FEWEST_TO_CHOOSE:
        return every, None
    # Whatever comes after the first of them is not learnt from either: it is later.
    learnt = every[: int(last[0])]
    return learnt, Held(corpus, last)


def _novel_below(vectors: NDArray[np.float32]) -> float:
    """As for lines, by the cosine: vectors of words come in all lengths."""
    return novel_below(unit(vectors))


def _support(corpus: SessionCorpus) -> pl.DataFrame:
    """A row for each text: in how many sessions it occurs, and in how many known anomalous ones.

    A text is an anomaly's if most sessions that hold it are known to be anomalous: where a few of
    these are all that is known, what they share with the others is not.
    """
    held = corpus.counts > 0
    holding = np.asarray(held.sum(axis=0)).astype(np.int64)
    bad = np.asarray(held[corpus.labels == 1].sum(axis=0)).astype(np.int64)
    return support_frame(
        templates=corpus.texts,
        alert=2 * bad > holding,
        lines=holding,
        alerts=bad,
        source=None,
        vectors=corpus.vectors,
    )


def _prototypes(sources: Sequence[SessionCorpus]) -> pl.DataFrame:
    """Means of groups of like texts, by source and kind, as a base of lines has them."""
    parts = []
    for source in sources:
        support = _support(source)
        alert, lines, alerts = (support[name].to_numpy() for name in ("alert", "lines", "alerts"))
        parts.append(Labelled(source.name, source.vectors, alert, lines, alerts))
    return prototypes_of(parts, seed=0)
