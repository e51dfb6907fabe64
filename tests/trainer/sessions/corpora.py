"""Sessions that are made up: a rule says which are anomalous, and a seed what else they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.sessions import Sessions
from crosyslog.systems.profile import DrainSettings
from crosyslog.word_vectors import GloveWords, words_of
from tests.fakes import FakeEncoder
from trainer.session_logs import SessionLog
from trainer.sessions.corpus import fit_reading, session_corpus
from trainer.sessions.training import SessionConfig
from trainer.whole_logs import NO_LABEL, WholeLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.word_vectors import WordVectors
    from trainer.sessions.corpus import SessionCorpus

#: What is learnt in a moment. The rate is that of networks with few units, which have no dimension
#: to spare.
QUICK = SessionConfig(
    hidden=4,
    layers=1,
    members=1,
    steps=40,
    batch=16,
    first_order=False,
    dropout=0,
    rate=2e-2,
    kept=4,
    adaptation_steps=24,
)


class Made(NamedTuple):
    """What sessions of a system say.

    Attributes:
        routine: templates of all sessions.
        bad: those that an anomalous session holds one of.
    """

    routine: tuple[str, ...]
    bad: tuple[str, ...]


#: Two systems that say other things, and complain in words that they share.
HERE = Made(
    ("receiving block from peer", "verification of block succeeded", "packet responder ends",
     "block map was updated", "deleting old copy of block"),
    ("error write failed with exception", "connection broken error closing"),
)  # fmt: skip
THERE = Made(
    ("instance spawned on node", "image cache was cleaned", "claim for cores granted",
     "network info came back", "lifecycle event says started"),
    ("exception error spawn failed", "error volume connection broken"),
)  # fmt: skip


def made_log(
    made: Made, sessions: int, *, seed: int = 0, every: int = 5, unlabelled: Sequence[int] = ()
) -> SessionLog:
    """Sessions of two to seven lines, one after the other.

    Args:
        made: what they say.
        sessions: how many there are.
        seed: of what each says, and of which ones are anomalous.
        every: among so many in a row, one is anomalous.
        unlabelled: those without a label.
    """
    draw = np.random.default_rng(seed)
    labels = np.zeros(sessions, dtype=np.int8)
    for start in range(0, sessions - every + 1, every):
        labels[start + draw.integers(every)] = 1
    rows = []
    for label in labels.tolist():
        lines = draw.integers(len(made.routine), size=draw.integers(2, 7))
        if label:
            bad = len(made.routine) + draw.integers(len(made.bad))
            lines = np.insert(lines, draw.integers(len(lines) + 1), bad)
        rows.append(lines)
    labels[list(unlabelled)] = NO_LABEL
    return log_of([*made.routine, *made.bad], rows, labels)


def log_of(
    templates: list[str], rows: Sequence[NDArray[np.int64]], labels: NDArray[np.int8]
) -> SessionLog:
    """The log of sessions that come one after the other.

    Args:
        templates: of lines.
        rows: of each session's lines, the number of their template.
        labels: of the sessions.
    """
    lines = np.concatenate(rows)
    starts = np.concatenate([[0], np.cumsum([len(one) for one in rows])])
    whole = WholeLog(
        templates, lines, np.full(len(lines), NO_LABEL, dtype=np.int8), np.full(len(lines), np.nan)
    )
    keys = [f"s{number}" for number in range(len(rows))]
    return SessionLog(whole, Sessions(keys, np.arange(len(lines)), starts), labels)


def corpus_of(
    log: SessionLog, name: str = "made", words: WordVectors | None = None
) -> SessionCorpus:
    """A log's sessions as the fake encoder, or a source of words' vectors, has them."""
    reading = fit_reading(log, DrainSettings(), words)
    return session_corpus(name, log, reading, FakeEncoder(), EmbeddingCache())


def made_corpus(made: Made, sessions: int, name: str = "made", **options: int) -> SessionCorpus:
    """`made_log` with vectors."""
    return corpus_of(made_log(made, sessions, **options), name)  # type: ignore[arg-type]


def file_of_words(path: Path, *systems: Made, dim: int = 8) -> GloveWords:
    """A file of vectors of all words of some systems, in the text format of GloVe."""
    texts = [text for made in systems for text in (*made.routine, *made.bad)]
    draw = np.random.default_rng(0)
    lines = [
        " ".join([word, *(f"{number:.3f}" for number in draw.standard_normal(dim))])
        for word in dict.fromkeys(word for text in texts for word in words_of(text))
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return GloveWords(path)
