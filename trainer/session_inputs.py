"""Logs to sessions with vectors, as the commands of the method `metalog` need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crosyslog.errors import EncoderError, LabelError, SettingError
from crosyslog.session_scorer import group_texts
from trainer.labelled_logs import encode_texts
from trainer.session_logs import read_session_log
from trainer.sessions.corpus import fit_reading, session_corpus
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.encoder import Encoder
    from crosyslog.session_rules import SessionRule
    from crosyslog.systems import System
    from crosyslog.word_vectors import TfidfVectors, WordVectors
    from trainer.session_logs import SessionLog
    from trainer.sessions.corpus import Reading, SessionCorpus
    from trainer.sessions.training import SessionConfig


class SessionSource(NamedTuple):
    """A labelled system to learn from.

    Attributes:
        system: its profile.
        logs: its log, or several that are read as one, in this order.
        rule: which lines make a session.
        labels: the file of the sessions' labels; what is found beside the log, unless given.
        option: with which that file is given.
    """

    system: System
    logs: Sequence[Path]
    rule: SessionRule
    labels: Path | None
    option: str


def rule_of(system: System, given: SessionRule | None, option: str) -> SessionRule:
    """The given rule, else that of the profile.

    Args:
        system: the profile.
        given: a rule.
        option: with which one is given.

    Raises:
        SettingError: there is neither.
    """
    rule = given or system.sessions
    if rule is None:
        raise SettingError(
            f"the profile {system.name} does not say which lines make a session: say it with "
            f"{option}, which is key, a number of lines such as 20, or a time such as 5m"
        )
    return rule


def read_source(source: SessionSource) -> SessionLog:
    """The sessions of a source.

    Raises:
        CrosyslogError: its log cannot be read, or none of its sessions has a label.
    """
    log = read_session_log(source.logs, source.system, source.rule, source.labels)
    if not (log.labels != NO_LABEL).any():
        of_lines = "" if source.rule.by == "key" else "; it calls them by their first line's number"
        raise LabelError(
            f"no session of {', '.join(map(str, source.logs))} has a label: name the file of its "
            f"labels with {source.option}{of_lines}"
        )
    return log


def encoder_of_sources(logs: Sequence[SessionLog]) -> Encoder:
    """The encoder that all logs were prepared with; the shipped one where any was not prepared.

    Raises:
        EncoderError: they were prepared with several, or with one that is not here.
    """
    from crosyslog.encoder import EncoderOnDemand, load_encoder

    prepared = {log.lines.vectors.encoder for log in logs if log.lines.vectors is not None}
    if any(log.lines.vectors is None for log in logs):
        return load_encoder()
    if len(prepared) > 1:
        raise EncoderError(
            f"the sources were prepared with {' and '.join(sorted(one.id for one in prepared))}: "
            "prepare all with the same encoder"
        )
    # Its vectors are those of templates: those of their groups are still to be computed.
    return EncoderOnDemand(prepared.pop())


def encode_groups(
    log: SessionLog, reading: Reading, encoder: Encoder, cache: EmbeddingCache
) -> None:
    """Puts the vectors of what a log's lines are read as into the cache, behind a progress bar.

    There are none to be put where vectors are of words: those are not kept.

    Raises:
        EncoderError: the encoder is not here.
    """
    if reading.words is not None:
        return
    used = np.unique(log.rows).tolist()
    texts = group_texts(reading.groups, [log.lines.templates[row] for row in used])
    encode_texts(list(dict.fromkeys(texts)), encoder, cache)


def words_of(settings: SessionConfig, file: Path | None) -> WordVectors | None:
    """Where vectors of words come from; none where those of whole groups are read.

    Args:
        settings: of the training, which say what vectors are of.
        file: of the vectors of words, in the text format of GloVe.

    Raises:
        CrosyslogError: the file has no effect, or cannot be read.
    """
    if settings.vectors == "sentences":
        if file is not None:
            raise SettingError(
                f"--word-vectors {file} has no effect without vectors of words: write "
                'vectors = "words" into the file of --config, or leave it out'
            )
        return None
    from crosyslog.word_vectors import EncoderWords, GloveWords

    return EncoderWords() if file is None else GloveWords(file)


def read_corpora(
    sources: Sequence[SessionSource], words: WordVectors | None
) -> tuple[list[SessionCorpus], Encoder, TfidfVectors | None]:
    """The sessions of sources, the encoder of whole texts, and what made vectors of words.

    Args:
        sources: the systems.
        words: where vectors of words come from; none where vectors are those of whole texts.

    Raises:
        CrosyslogError: a source cannot be read, or has no labels; the encoder is not here.
    """
    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.locations import default_cache

    logs = [read_source(source) for source in sources]
    encoder, cache = encoder_of_sources(logs), EmbeddingCache(default_cache())
    readings = [
        fit_reading(log, source.system.drain, words)
        for source, log in zip(sources, logs, strict=True)
    ]
    corpora = []
    for source, log, reading in zip(sources, logs, readings, strict=True):
        encode_groups(log, reading, encoder, cache)
        corpora.append(session_corpus(source.system.name, log, reading, encoder, cache))
    return corpora, encoder, readings[0].words
