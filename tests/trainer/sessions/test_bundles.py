"""Bases of sessions and what they adapt to, in memory and on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.errors import LabelError
from crosyslog.logits import sigmoid
from crosyslog.manifest import EncoderReference
from crosyslog.session_bundle import load_session_bundle, write_session_bundle
from crosyslog.session_contrast import Contrast
from crosyslog.session_rules import SessionRule
from crosyslog.session_scorer import Rows, SessionScorer, judge_sessions, template_vectors
from crosyslog.systems import load_system
from crosyslog.systems.profile import DrainSettings
from crosyslog.word_vectors import TfidfVectors, words_of
from tests.fakes import FakeEncoder
from tests.trainer.sessions.corpora import (
    HERE,
    QUICK,
    THERE,
    corpus_of,
    file_of_words,
    made_corpus,
    made_log,
)
from trainer.adaptation import novel_below
from trainer.metrics import average_precision, count
from trainer.sessions.bundles import Adapted, _parts, adapt_sessions, train_session_base
from trainer.sessions.corpus import fit_reading
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from crosyslog.session_bundle import SessionBundle
    from crosyslog.word_vectors import WordVectors
    from trainer.session_logs import SessionLog
    from trainer.sessions.corpus import SessionCorpus

ENCODER = EncoderReference(id=FakeEncoder().id, name="fake", dim=FakeEncoder().dim)
CONFIG = QUICK.model_copy(update={"members": 2, "kept": 2, "adaptation_steps": 12})

RULE = SessionRule(by="count", lines=20)


class Trained(NamedTuple):
    """A base, where it came from, and what its words are."""

    base: SessionBundle
    sources: list[SessionCorpus]
    words: WordVectors | None


def trained(words: WordVectors | None) -> Trained:
    sources = [
        corpus_of(made_log(made, 100, seed=seed), name, words)
        for seed, (name, made) in enumerate([("here", HERE), ("there", THERE)])
    ]
    kind = "sentences" if words is None else "words"
    base = train_session_base(
        sources,
        name="base-of-tests",
        config=CONFIG.model_copy(update={"vectors": kind}),
        encoder=ENCODER,
        words=None if words is None else TfidfVectors.fit(["error and exception"], words),
        command="made by a test",
    )
    return Trained(base, sources, words)


@pytest.fixture(scope="module")
def by_sentences() -> Trained:
    return trained(None)


@pytest.fixture(scope="module")
def by_words(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(file_of_words(tmp_path_factory.mktemp("words") / "vectors.txt", HERE, THERE))


@pytest.fixture(params=["sentences", "words"])
def made(request: pytest.FixtureRequest) -> Trained:
    """A base by either kind of vectors."""
    found = request.getfixturevalue(f"by_{request.param}")
    assert isinstance(found, Trained)
    return found


def written(bundle: SessionBundle, folder: Path) -> SessionBundle:
    write_session_bundle(folder, bundle)
    return load_session_bundle(folder)


def scored(bundle: SessionBundle, log: SessionLog) -> NDArray[np.float32]:
    scorer = SessionScorer(bundle, FakeEncoder(), EmbeddingCache())
    return scorer.score(log.lines.templates, Rows(log.rows, log.sessions.starts)).scores


def adapted(made: Trained, log: SessionLog) -> Adapted:
    return adapt_sessions(
        made.base,
        log,
        fit_reading(log, DrainSettings(), made.words),
        target="shop",
        system=load_system("plain"),
        rule=RULE,
        encoder=FakeEncoder(),
        cache=EmbeddingCache(),
        version="0007",
        command="made by a test",
    )


def with_labels(log: SessionLog, labelled: NDArray[np.int64]) -> SessionLog:
    """The log with so many labels left."""
    labels = np.full(len(log), NO_LABEL, dtype=np.int8)
    labels[labelled] = log.labels[labelled]
    return replace(log, labels=labels)


def test_a_base_has_learnt_what_tells_anomalies_from_the_rest(made: Trained) -> None:
    manifest = made.base.manifest
    assert (manifest.kind, manifest.target, manifest.version) == ("base", "base-of-tests", "1")
    assert manifest.sources == ("here", "there")
    assert manifest.detector == made.base.detector.shape
    assert manifest.encoder == ENCODER
    assert manifest.inner_loop.steps == CONFIG.adaptation_steps
    assert manifest.inner_loop.threshold == manifest.threshold
    assert manifest.threshold.chosen == "best F1 on held-out sessions of each source"
    assert manifest.figures["source_average_precision"] > 0.9
    assert manifest.settings["chosen_step"] in {20, 40}
    for source in made.sources:
        logits, _ = judge_sessions(made.base.detector, source.vectors, source.rows)
        truth = source.labels == 1
        assert average_precision(truth, logits) > 0.9
        flagged = sigmoid(logits) >= manifest.threshold.value
        assert count(flagged, truth, truth).f1 > 0.8


def test_a_base_that_is_written_and_loaded_judges_the_same(made: Trained, tmp_path: Path) -> None:
    again = written(made.base, tmp_path / "base")
    log = made_log(THERE, 40, seed=9)
    expected = scored(made.base, log)
    assert expected.std() > 0.01
    np.testing.assert_array_equal(scored(again, log), expected)
    assert again.support.equals(made.base.support)
    assert again.manifest.settings == made.base.manifest.settings


def test_a_base_holds_no_text(made: Trained, tmp_path: Path) -> None:
    write_session_bundle(tmp_path / "base", made.base)
    content = b"".join(path.read_bytes() for path in (tmp_path / "base").iterdir()).lower()
    texts = [text for source in made.sources for text in source.texts]
    assert len(texts) == 14
    for text in texts:
        assert text.encode() not in content
        for word in words_of(text):
            # One of three letters can be among the weights by chance.
            assert len(word) < 4 or word.encode() not in content, word
    assert made.base.groups.groups == []
    assert made.base.support["template"].null_count() == made.base.support.height > 0
    assert set(made.base.support["source"].to_list()) == {"here", "there"}
    # What the test looks for is found where text is held.
    write_session_bundle(tmp_path / "adapted", adapted(made, made_log(HERE, 60)).bundle)
    held = b"".join(path.read_bytes() for path in (tmp_path / "adapted").iterdir()).lower()
    assert all(text.encode() in held for text in made.sources[0].texts)


def test_the_prototypes_of_a_base_are_of_either_kind(by_sentences: Trained) -> None:
    support = by_sentences.base.support
    for number, (source, system) in enumerate(
        zip(by_sentences.sources, (HERE, THERE), strict=True)
    ):
        own = support.filter(support["source"] == source.name)
        held = source.counts.toarray() > 0
        assert own["lines"].sum() == held.sum(), number
        assert own["alerts"].sum() == held[source.labels == 1].sum()
        bad = own.filter(own["alert"])["vector"].to_numpy()
        vectors = FakeEncoder().encode(system.bad)
        np.testing.assert_allclose((bad @ vectors.T).max(axis=0), 1, atol=1e-3)


def test_the_words_of_a_base_weigh_alike(by_words: Trained) -> None:
    words = by_words.base.words
    assert words is not None
    assert by_words.words is not None
    found = by_words.words.look_up(["error", "exception", "claim"])
    expected = sum(found.values()) / 3
    np.testing.assert_allclose(words.encode(["error exception claim"])[0], expected, atol=1e-3)


def test_what_is_novel_is_told_by_the_cosine_whatever_the_length_of_vectors(
    by_words: Trained,
) -> None:
    unit, longer = (
        train_session_base(
            [replace(one, vectors=factor * one.vectors) for one in by_words.sources],
            name="b",
            config=QUICK.model_copy(update={"steps": 2}),
            encoder=ENCODER,
            words=None,
            command="",
        ).manifest.novel_below
        for factor in (np.float32(1), np.float32(4))
    )
    assert unit == longer == by_words.base.manifest.novel_below
    vectors = np.concatenate([one.vectors for one in by_words.sources])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit == novel_below(vectors)


def test_a_source_of_one_class_is_refused_in_one_line() -> None:
    source = made_corpus(HERE, 30, "here", every=31)
    with pytest.raises(LabelError) as caught:
        train_session_base(
            [source], name="b", config=QUICK, encoder=ENCODER, words=None, command=""
        )
    assert str(caught.value).startswith("here: a source needs 2 or more sessions of either kind")


def test_labels_of_both_kinds_choose_the_threshold_too(made: Trained, tmp_path: Path) -> None:
    log = made_log(THERE, 160, seed=4)
    labelled = np.arange(0, 120)
    some = with_labels(log, labelled)
    found = adapted(made, some)
    assert (found.sessions, found.labelled, found.anomalous) == (160, 120, 24)
    assert found.chosen is not None
    manifest = found.bundle.manifest
    assert manifest.threshold == found.chosen.threshold
    assert manifest.threshold.chosen == "best F1 on the last quarter of the labelled sessions"
    assert manifest.settings["steps"] == found.chosen.state.step
    assert manifest.settings["unknown"] in {"left_out", "suspicious"}
    assert manifest.figures["chosen_f1"] == pytest.approx(found.chosen.f1, abs=1e-4)
    assert manifest.base == "base-of-tests/1"
    assert manifest.sessions == RULE
    assert (manifest.support.lines, manifest.support.alerts) == (120, 24)
    flagged = found.scores >= manifest.threshold.value
    truth = log.labels == 1
    assert count(flagged[120:], truth[120:], truth[120:]).f1 > 0.8
    assert_survives(found, log, tmp_path / "bundle")


def test_what_is_chosen_by_is_not_learnt_from(by_sentences: Trained) -> None:
    """Nor is what lies between; labels of the last quarter, turned around, choose otherwise."""
    log = made_log(THERE, 80, seed=4)
    labels = log.labels.copy()
    labels[60:] = 1 - labels[60:]
    found, other = (adapted(by_sentences, one) for one in (log, replace(log, labels=labels)))
    assert found.chosen is not None
    assert other.chosen is not None
    assert found.chosen.average_precision != other.chosen.average_precision
    assert found.chosen.threshold != other.chosen.threshold
    labelled = np.flatnonzero((log.labels == 1) | (np.arange(80) % 2 == 0))
    learnt, held = _parts(corpus_of(with_labels(log, labelled)), labelled)
    assert held is not None
    assert held.sessions.tolist() == labelled[-(len(labelled) // 4) :].tolist()
    assert learnt.tolist() == list(range(held.sessions[0]))


def test_a_few_anomalous_ones_alone_are_learnt_from_at_the_threshold_of_the_base(
    made: Trained, tmp_path: Path
) -> None:
    log = made_log(THERE, 100, seed=4)
    some = with_labels(log, np.flatnonzero(log.labels == 1)[:5])
    found = adapted(made, some)
    assert (found.labelled, found.anomalous, found.chosen) == (5, 5, None)
    manifest = found.bundle.manifest
    assert manifest.threshold.value == made.base.manifest.threshold.value
    assert manifest.threshold.chosen.startswith("the base's: ")
    assert manifest.settings["steps"] == CONFIG.adaptation_steps
    assert manifest.figures == {}
    assert not same_weights(found.bundle, made.base)
    assert average_precision(log.labels == 1, found.scores) > 0.9
    assert_survives(found, log, tmp_path / "bundle")


@pytest.mark.parametrize("labels", ["none", "normal"])
def test_without_an_anomalous_one_the_weights_are_those_of_the_base(
    made: Trained, tmp_path: Path, labels: str
) -> None:
    log = made_log(THERE, 60, seed=4)
    normal = np.flatnonzero(log.labels == 0)
    some = with_labels(log, normal if labels == "normal" else normal[:0])
    found = adapted(made, some)
    assert (found.anomalous, found.chosen) == (0, None)
    assert found.labelled == (len(normal) if labels == "normal" else 0)
    assert same_weights(found.bundle, made.base)
    threshold = found.bundle.manifest.threshold
    assert threshold.chosen == "no more than one in a hundred sessions of the log is above"
    assert (found.scores >= threshold.value).sum() <= 1
    assert found.bundle.manifest.settings["steps"] == 0
    assert not found.bundle.support["alert"].any()
    assert_survives(found, log, tmp_path / "bundle")


def test_the_support_says_which_texts_are_those_of_anomalies(by_sentences: Trained) -> None:
    log = made_log(THERE, 100, seed=4)
    every = adapted(by_sentences, log).bundle.support
    bad = set(THERE.bad)
    assert set(every.filter(every["alert"])["template"].to_list()) == bad
    # What anomalous sessions share with those that nobody has labelled is none of an anomaly.
    few = np.flatnonzero(log.labels == 1)[:15]
    support = adapted(by_sentences, with_labels(log, few)).bundle.support
    assert set(support.filter(support["alert"])["template"].to_list()) == bad
    holding = {
        template: sum(
            template in {log.lines.templates[row] for row in log.rows[slice(*edges)]}
            for edges in zip(log.sessions.starts[:-1], log.sessions.starts[1:], strict=True)
        )
        for template in support["template"].to_list()
    }
    assert dict(zip(support["template"], support["lines"], strict=True)) == holding


def test_a_base_whose_settings_are_unknown_adapts_by_the_usual_ones(by_sentences: Trained) -> None:
    base = by_sentences.base
    bare = base.__class__(
        base.manifest.model_copy(update={"settings": {}}),
        base.detector,
        base.groups,
        base.words,
        base.contrast,
        base.support,
        "",
    )
    log = made_log(THERE, 60, seed=4)
    found = adapted(by_sentences._replace(base=bare), log)
    assert found.chosen is not None


def same_weights(one: SessionBundle, other: SessionBundle) -> bool:
    theirs = other.detector.state_dict()
    return all(
        bool((value == theirs[name]).all()) for name, value in one.detector.state_dict().items()
    )


def assert_survives(found: Adapted, log: SessionLog, folder: Path) -> None:
    """The bundle judges the log from disk as it did in memory."""
    again = written(found.bundle, folder)
    np.testing.assert_allclose(scored(again, log), found.scores, atol=1e-6)
    assert found.scores.std() > 0
    assert again.manifest.target == "shop"
    assert again.manifest.version == "0007"
    assert again.groups.groups == found.bundle.groups.groups
    assert again.support.equals(found.bundle.support)
    assert set(again.support["template"].to_list()) == {*THERE.routine, *THERE.bad}
    expected = template_vectors(
        again.support["template"].to_list(), again.words, FakeEncoder(), EmbeddingCache()
    )
    np.testing.assert_array_equal(again.support["vector"].to_numpy(), expected)


def test_what_has_a_label_says_which_lines_are_like_anomalies(by_sentences: Trained) -> None:
    log = made_log(THERE, 60, seed=4)
    found = adapted(by_sentences, log)
    contrast = found.bundle.contrast
    assert set(contrast.normal) == set(THERE.routine)
    assert set(contrast.anomalous) <= set(THERE.bad)
    assert contrast.anomalous
    # Sessions that choose are not learnt from, and say nothing here either.
    bad_before = {
        log.lines.templates[row]
        for session in np.flatnonzero(log.labels[:45] == 1).tolist()
        for row in log.rows[log.sessions.starts[session] : log.sessions.starts[session + 1]]
    }
    assert set(contrast.anomalous) <= bad_before


def test_without_a_label_a_line_that_is_like_none_of_the_log_speaks_for_an_anomaly(
    by_sentences: Trained,
) -> None:
    log = with_labels(made_log(THERE, 60, seed=4), np.zeros(0, dtype=np.int64))
    bundle = adapted(by_sentences, log).bundle
    assert set(bundle.contrast.normal) == {*THERE.routine, *THERE.bad}
    assert not bundle.contrast.anomalous
    templates = [*THERE.routine, "disc on fire"]
    rows = Rows(np.array([0, 1, 0, 5]), np.array([0, 2, 4]))
    known, new = (
        SessionScorer(one, FakeEncoder(), EmbeddingCache()).score(templates, rows).scores
        for one in (replace(bundle, contrast=Contrast.nothing()), bundle)
    )
    assert new[0] == pytest.approx(known[0])
    assert new[1] > known[1]
