"""A log's sessions as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.systems.profile import DrainSettings
from crosyslog.word_vectors import TfidfVectors
from tests.fakes import FakeEncoder
from tests.trainer.sessions.corpora import HERE, corpus_of, file_of_words, log_of, made_log
from trainer.sessions.corpus import fit_reading, session_corpus
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.session_logs import SessionLog

#: The first two are one group once both are seen.
TEMPLATES = ["session # opened for ann", "session # opened for bob", "disk failure", "never said"]


def small_log() -> SessionLog:
    rows = [np.array(one) for one in ([0, 2, 0], [2], [1, 0, 1, 1])]
    return log_of(TEMPLATES, rows, np.array([1, NO_LABEL, 0], dtype=np.int8))


def test_templates_of_a_group_are_one_text() -> None:
    corpus = corpus_of(small_log())
    assert corpus.texts == ["session # opened for #", "disk failure"]
    assert corpus.counts.toarray().tolist() == [[2, 1], [0, 1], [4, 0]]
    assert [corpus.rows.of(session).tolist() for session in range(3)] == [
        [0, 1, 0],
        [1],
        [0, 0, 0, 0],
    ]
    assert corpus.labels.tolist() == [1, NO_LABEL, 0]
    assert corpus.keys == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(corpus.vectors, FakeEncoder().encode(corpus.texts))


def test_what_comes_after_the_sessions_of_a_fit_changes_no_group() -> None:
    log = small_log()
    reading = fit_reading(log, DrainSettings(), None, sessions=2)
    assert reading.groups.groups == ["session # opened for ann", "disk failure"]
    corpus = session_corpus("made", log, reading, FakeEncoder(), EmbeddingCache())
    # That of Bob is like that of Ann, and is read as it.
    assert corpus.texts == ["session # opened for ann", "disk failure"]
    assert fit_reading(log, DrainSettings(), None).groups.groups == [
        "session # opened for #",
        "disk failure",
    ]


def test_vectors_can_be_those_of_words(tmp_path: Path) -> None:
    words = file_of_words(tmp_path / "words.txt", HERE)
    log = made_log(HERE, 20)
    corpus = corpus_of(log, words=words)
    expected = TfidfVectors.fit(fit_reading(log, DrainSettings(), None).groups.groups, words)
    np.testing.assert_array_equal(corpus.vectors, expected.encode(corpus.texts))
    assert corpus.vectors.shape == (7, 8)
