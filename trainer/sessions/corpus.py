"""The sessions of a system as numbers: what meta-training, adaptation and baselines learn from.

Shapes: S sessions, T distinct texts, N' lines of sessions, D dimensions of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.drain_groups import TemplateGroups
from crosyslog.errors import InputError
from crosyslog.session_contrast import Contrast
from crosyslog.session_scorer import Rows, group_texts, template_vectors
from crosyslog.word_vectors import TfidfVectors
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from crosyslog.embedding_cache import EmbeddingCache, VectorSource
    from crosyslog.systems.profile import DrainSettings
    from crosyslog.word_vectors import WordVectors
    from trainer.session_logs import SessionLog


class Reading(NamedTuple):
    """What makes texts and vectors of templates; fitted on some sessions of a log.

    Attributes:
        groups: Drain's.
        words: what each word weighs, where vectors are those of words.
    """

    groups: TemplateGroups
    words: TfidfVectors | None


@dataclass(frozen=True)
class SessionCorpus:
    """Sessions of a system in the order in which they begin.

    Attributes:
        name: the system.
        keys: what each session is called, [S].
        texts: the distinct ones that lines are read as: of groups, or a template's own.
        rows: of the sessions' lines, the number of their text.
        vectors: of the texts, float32 [T, D].
        labels: of each session, 1 if it is anomalous, 0 if it is normal, or `NO_LABEL`, int8 [S].
        contrast: of each text by the labels that are known, float32 [T]; none where nobody asked.
    """

    name: str
    keys: Sequence[str]
    texts: list[str]
    rows: Rows
    vectors: NDArray[np.float32]
    labels: NDArray[np.int8]
    contrast: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def counts(self) -> csr_array:
        """How often each session holds each text, float32 [S, T]."""
        from scipy.sparse import csr_array

        lengths = np.diff(self.rows.starts)
        session = np.repeat(np.arange(len(self), dtype=np.int64), lengths)
        ones = np.ones(len(session), dtype=np.float32)
        shape = (len(self), len(self.texts))
        # Those of the same place are added up.
        return csr_array((ones, (session, self.rows.templates)), shape=shape)


def contrast_of(
    corpus: SessionCorpus, sessions: NDArray[np.int64], labels: NDArray[np.int8]
) -> Contrast:
    """What the labels of some sessions say of texts.

    Where none has a label, all are taken for normal: most are.

    Args:
        corpus: of the system.
        sessions: which of its sessions, [N].
        labels: of these, as far as they are known, [N].
    """
    held = corpus.counts[sessions] > 0
    taken = labels if (labels != NO_LABEL).any() else np.zeros_like(labels)
    normal, anomalous = (np.asarray(held[taken == kind].sum(axis=0) > 0) for kind in (0, 1))
    return Contrast.between(corpus.texts, corpus.vectors, normal, anomalous & ~normal)


def contrasted(corpus: SessionCorpus, contrast: Contrast) -> SessionCorpus:
    """The corpus with the contrast of its texts."""
    return replace(corpus, contrast=contrast.of(corpus.vectors))


def fit_reading(
    log: SessionLog,
    drain: DrainSettings,
    source: WordVectors | None,
    *,
    sessions: int | None = None,
) -> Reading:
    """Fits groups, and the weights of words, on the first sessions of a log.

    Args:
        log: the sessions.
        drain: the settings of Drain.
        source: of the words' vectors, where vectors are those of words.
        sessions: how many may be looked at, from the first; all unless given.
    """
    ends = log.sessions.starts[len(log) if sessions is None else sessions]
    # In the order in which they were written, as Drain would have met them.
    seen = log.lines.rows[np.sort(log.sessions.rows[:ends])]
    distinct, first = np.unique(seen, return_index=True)
    templates = [log.lines.templates[row] for row in distinct[np.argsort(first)].tolist()]
    groups = TemplateGroups.fit(templates, **drain.model_dump())
    if source is None:
        return Reading(groups, None)
    return Reading(groups, TfidfVectors.fit(groups.groups, source))


def session_corpus(
    name: str,
    log: SessionLog,
    reading: Reading,
    encoder: VectorSource,
    cache: EmbeddingCache,
) -> SessionCorpus:
    """A log's sessions, read and with vectors.

    Args:
        name: the system's.
        log: the sessions.
        reading: what makes texts and vectors of templates.
        encoder: of whole texts.
        cache: of its vectors.

    Raises:
        InputError: vectors are those of words, and none of the log's is known.
    """
    used, rows = np.unique(log.rows, return_inverse=True)
    read = group_texts(reading.groups, [log.lines.templates[row] for row in used.tolist()])
    texts = list(dict.fromkeys(read))
    number = {text: place for place, text in enumerate(texts)}
    text_of = np.array([number[text] for text in read], dtype=np.int64)
    vectors = template_vectors(texts, reading.words, encoder, cache)
    if reading.words is not None and not vectors.any():
        raise InputError(
            f"the word vectors {reading.words.source.name} have no word of the log of {name}: name "
            "a file of its language with --word-vectors"
        )
    return SessionCorpus(
        name,
        log.sessions.keys,
        texts,
        Rows(text_of[rows], log.sessions.starts),
        vectors,
        log.labels,
    )
