"""What methods may know when a target is judged, and what is said of how they did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from crosyslog.errors import LabelError
from tests.trainer.sessions.corpora import HERE, QUICK, THERE, corpus_of, log_of, made_corpus
from trainer.metrics import average_precision, count
from trainer.sessions.baselines import BASELINES
from trainer.sessions.estimates import Unknown
from trainer.sessions.evaluation import (
    OURS,
    PLAIN,
    SessionEvaluation,
    SessionResult,
    source_parts,
    split_sessions,
)
from trainer.sessions.training import logits_of
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus

SESSIONS = 100
METHODS = [OURS, PLAIN, *BASELINES]
CONFIG = QUICK.model_copy(update={"steps": 6, "kept": 2, "batch": 8})

LEARNT, CHOSEN_ON, JUDGED = slice(30), slice(30, 40), slice(40, None)


@pytest.fixture(scope="module")
def source() -> SessionCorpus:
    return made_corpus(HERE, 60, "here")


@pytest.fixture(scope="module")
def target() -> SessionCorpus:
    return made_corpus(THERE, SESSIONS, "there", seed=1)


def evaluation(
    target: SessionCorpus, source: SessionCorpus, share: float = 0.5, normal_share: float = 0.5
) -> SessionEvaluation:
    return SessionEvaluation(target, [source], CONFIG, share, normal_share)


@pytest.fixture(scope="module")
def results(target: SessionCorpus, source: SessionCorpus) -> dict[str, SessionResult]:
    return evaluation(target, source).judge(METHODS, [0, 1])


@pytest.fixture(scope="module")
def unlabelled(target: SessionCorpus, source: SessionCorpus) -> dict[str, SessionResult]:
    return evaluation(target, source, 0).judge(METHODS, [0])


def flipped(corpus: SessionCorpus, part: slice) -> SessionCorpus:
    labels = corpus.labels.copy()
    labels[part] = 1 - labels[part]
    return replace(corpus, labels=labels)


def assert_same_judgement(
    found: dict[str, SessionResult], expected: dict[str, SessionResult]
) -> None:
    assert found.keys() == expected.keys()
    for name, result in expected.items():
        assert found[name].thresholds == result.thresholds, name
        np.testing.assert_array_equal(found[name].scores, result.scores, err_msg=name)
        np.testing.assert_array_equal(found[name].flagged, result.flagged, err_msg=name)


def test_sessions_are_split_where_they_begin_at_30_and_40_percent() -> None:
    for sessions in (*range(1, 1_000), 11_111, 575_061):
        learnt, chosen_on, _ = split_sessions(sessions)
        assert len(learnt) == sessions * 3 // 10
        assert len(learnt) + len(chosen_on) == sessions * 4 // 10
    assert np.concatenate(split_sessions(17)).tolist() == list(range(17))


def test_labels_of_what_is_judged_reach_no_method(
    target: SessionCorpus, source: SessionCorpus, results: dict[str, SessionResult]
) -> None:
    others = evaluation(flipped(target, JUDGED), source).judge(METHODS, [0, 1])
    assert_same_judgement(others, results)
    for name, result in results.items():
        assert others[name].counts != result.counts
        assert others[name].average_precisions != result.average_precisions
    assert any(others[name].best_on_judged != results[name].best_on_judged for name in METHODS)


def test_labels_of_the_first_parts_reach_them(
    target: SessionCorpus, source: SessionCorpus, results: dict[str, SessionResult]
) -> None:
    assert set(target.labels[CHOSEN_ON].tolist()) == {0, 1}
    others = evaluation(flipped(target, CHOSEN_ON), source).judge(METHODS, [0, 1])
    for name in (OURS, PLAIN, "count_logreg"):
        assert others[name].thresholds != results[name].thresholds
    others = evaluation(flipped(target, LEARNT), source).judge([OURS, "count_logreg"], [0, 1])
    for name, result in others.items():
        assert not np.array_equal(result.scores, results[name].scores)


@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_of_the_sessions_to_learn_from_only_the_drawn_labels_are_known(
    target: SessionCorpus, source: SessionCorpus, unknown: Unknown
) -> None:
    task = evaluation(target, source).task(0)
    assert 0 < (task.labels == 1).sum() < (target.labels[LEARNT] == 1).sum()
    found, other = (
        evaluation(one, source)._lessons(task, unknown).estimates
        for one in (target, flipped(target, LEARNT))
    )
    np.testing.assert_array_equal(found.anomalous, other.anomalous)
    np.testing.assert_array_equal(found.weights, other.weights)


def test_without_labels_of_the_target_none_is_used_but_to_measure(
    target: SessionCorpus, source: SessionCorpus, unlabelled: dict[str, SessionResult]
) -> None:
    assert set(unlabelled) == {OURS, PLAIN, "never_seen", "count_clusters"}
    assert unlabelled["never_seen"].thresholds == [0.5]
    assert unlabelled["count_clusters"].thresholds == [0.3]
    for other in (
        flipped(target, slice(None)),
        flipped(target, LEARNT),
        flipped(target, CHOSEN_ON),
    ):
        assert_same_judgement(evaluation(other, source, 0).judge(METHODS, [0]), unlabelled)
    labels = np.full(SESSIONS, NO_LABEL, dtype=np.int8)
    labels[JUDGED] = target.labels[JUDGED]
    bare = evaluation(replace(target, labels=labels), source, 0)
    assert_same_judgement(bare.judge(METHODS, [0]), unlabelled)


@pytest.mark.parametrize(
    ("share", "expected"), [(0, 0), (0.001, 1), (0.07, 7), (0.29, 29), (0.291, 30), (1, 100)]
)
def test_of_the_anomalous_sessions_a_share_has_a_label(
    source: SessionCorpus, share: float, expected: int
) -> None:
    made = made_corpus(THERE, 1_000, every=3)
    labels = made.labels.copy()
    labels[:300] = 0
    anomalous = np.random.default_rng(0).choice(300, 100, replace=False)
    labels[anomalous] = 1
    judging = evaluation(replace(made, labels=labels), source, share)
    tasks = [judging.task(seed).labels for seed in (0, 0, 1)]
    for given in tasks:
        assert len(given) == 300
        assert (given == 1).sum() == expected == judging.labels_given
        assert (given == 0).sum() == judging.normal_given == (100 if share else 0)
        assert not labels[:300][given == 0].any()
        assert set(np.flatnonzero(given == 1)) <= set(anomalous)
    np.testing.assert_array_equal(tasks[0], tasks[1])
    assert np.array_equal(tasks[0], tasks[2]) == (share == 0)


def test_what_is_said_is_what_the_flags_come_to(
    target: SessionCorpus, results: dict[str, SessionResult]
) -> None:
    truth = target.labels[JUDGED] == 1
    known = (target.counts[LEARNT].toarray() > 0).any(axis=0)
    unseen = (target.counts[JUDGED].toarray()[:, ~known] > 0).any(axis=1)
    for name, result in results.items():
        assert len(result.counts) == len(result.scores) == len(result.thresholds) == 2
        for seed in range(2):
            scores, flagged = result.scores[seed], result.flagged[seed]
            np.testing.assert_array_equal(flagged, scores >= result.thresholds[seed])
            assert result.counts[seed] == count(flagged, truth, unseen)
            assert result.average_precisions[seed] == average_precision(truth, scores)
        assert result.seconds > 0
        network = name not in BASELINES
        assert (len(result.best_on_judged) == 2) == network == (result.judging_seconds > 0)
        assert result.judged == (2 * len(truth) if network else 0)
    assert not np.array_equal(results[OURS].scores, results[PLAIN].scores)


def test_the_best_on_judged_is_the_best_of_all_states_at_one_half(
    target: SessionCorpus, source: SessionCorpus, results: dict[str, SessionResult]
) -> None:
    judging = evaluation(target, source)
    states, chosen = judging._trained(judging.task(0), CONFIG.model_copy(update={"seed": 0}))
    assert [state.step for state in states] == [3, 6]
    truth = target.labels[JUDGED] == 1
    target = judging.task(0).target
    each = [
        count(logits_of(state, target, judging.judged) >= 0, truth, truth).f1 for state in states
    ]
    assert results[OURS].best_on_judged[0] == max(each)
    assert results[OURS].thresholds[0] == chosen.threshold.value
    assert chosen.state in states


def test_anomalies_are_found_on_what_nobody_labelled() -> None:
    config = QUICK.model_copy(update={"steps": 24, "kept": 2})
    judging = SessionEvaluation(
        made_corpus(THERE, 200, "there", seed=1), [made_corpus(HERE, 100, "here")], config, 0.3, 0.5
    )
    told: list[int] = []
    results = judging.judge([OURS, "count_logreg"], [0], told.append)
    assert told == [1]
    for result in results.values():
        assert result.average_precisions[0] > 0.9
        assert result.counts[0].f1 > 0.8


def test_sessions_without_a_label_are_not_judged(
    target: SessionCorpus, source: SessionCorpus, results: dict[str, SessionResult]
) -> None:
    labels = target.labels.copy()
    hidden = np.arange(45, 60)
    labels[hidden] = NO_LABEL
    judging = evaluation(replace(target, labels=labels), source)
    rest = np.setdiff1d(np.arange(40, SESSIONS), hidden)
    assert judging.judged.tolist() == rest.tolist()
    found = judging.judge(["count_logreg", "never_seen"], [0])
    for name, result in found.items():
        np.testing.assert_array_equal(result.scores[0], results[name].scores[0][rest - 40])
        counts = result.counts[0]
        whole = counts.hits + counts.misses + counts.false_alerts + counts.passed
        assert whole == len(rest)


def relabelled(target: SessionCorpus, part: slice, label: int) -> SessionCorpus:
    labels = target.labels.copy()
    labels[part] = label
    return replace(target, labels=labels)


@pytest.mark.parametrize(
    ("part", "label", "said"),
    [
        (JUDGED, 0, "there: none of the 60 sessions to be judged is anomalous"),
        (JUDGED, NO_LABEL, "there: none of the 0 sessions to be judged is anomalous"),
        (LEARNT, 0, "there: none of the first 30 sessions is anomalous, so none can have a label"),
        (LEARNT, NO_LABEL, "there: none of the first 30 sessions is anomalous"),
        (CHOSEN_ON, 0, "there: 0 of the 10 sessions to choose by are anomalous, and both kinds"),
        (CHOSEN_ON, 1, "there: 10 of the 10 sessions to choose by are anomalous, and both kinds"),
        (CHOSEN_ON, NO_LABEL, "there: 0 of the 0 sessions to choose by are anomalous"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    target: SessionCorpus, source: SessionCorpus, part: slice, label: int, said: str
) -> None:
    other = relabelled(target, part, label)
    with pytest.raises(LabelError) as caught:
        evaluation(other, source)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    if part is not JUDGED:
        assert "--label-share 0" in str(caught.value)
        evaluation(other, source, 0)


@pytest.mark.parametrize("sessions", [1, 3, 9])
def test_a_log_of_a_few_sessions_is_refused_in_one_line(
    source: SessionCorpus, sessions: int
) -> None:
    rows = list(np.arange(sessions)[:, None])
    labels = np.ones(sessions, dtype=np.int8)
    few = corpus_of(log_of([f"text {word}" for word in "abcdefghi"], rows, labels), "few")
    with pytest.raises(LabelError) as caught:
        evaluation(few, source)
    assert str(caught.value).startswith("few: ")


def with_kinds(anomalous: int, normal: int, unlabelled: int = 3) -> SessionCorpus:
    labels = np.repeat([1, 0, NO_LABEL], [anomalous, normal, unlabelled]).astype(np.int8)
    rows: list[NDArray[np.int64]] = [np.array([number % 5]) for number in range(len(labels))]
    return corpus_of(log_of([*HERE.routine], rows, labels), "source")


@pytest.mark.parametrize("kinds", [(0, 5), (5, 0), (0, 0)])
def test_a_source_of_one_class_is_refused_in_one_line(kinds: tuple[int, int]) -> None:
    for held in (0.0, 0.1):
        with pytest.raises(LabelError) as caught:
            source_parts(with_kinds(*kinds), np.random.default_rng(0), held)
        assert str(caught.value) == (
            f"source: a source needs {2 if held else 1} or more sessions of either kind, and of "
            f"its {sum(kinds)} with a label {kinds[0]} are anomalous"
        )
    with pytest.raises(LabelError):
        source_parts(with_kinds(1, 5), np.random.default_rng(0), 0.1)


@pytest.mark.parametrize("kinds", [(2, 2), (2, 50), (41, 7)])
def test_a_share_of_either_kind_of_a_source_is_held_out(kinds: tuple[int, int]) -> None:
    corpus = with_kinds(*kinds)
    lessons, held = source_parts(corpus, np.random.default_rng(0), 0.1)
    expected = [int(np.ceil(0.1 * many)) for many in kinds]
    assert [int(held.labels.sum()), int((~held.labels).sum())] == expected
    both = np.concatenate([lessons.sessions, held.sessions])
    assert np.sort(both).tolist() == np.flatnonzero(corpus.labels != NO_LABEL).tolist()
    np.testing.assert_array_equal(lessons.estimates.anomalous, corpus.labels[lessons.sessions])
    assert lessons.estimates.weights.tolist() == [1] * len(lessons.sessions)
    everything, nothing = source_parts(corpus, np.random.default_rng(0), 0.0)
    assert len(everything.sessions) == sum(kinds)
    assert len(nothing.sessions) == 0
