"""What each baseline is meant to find, on sessions that are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.trainer.sessions.corpora import HERE, corpus_of, log_of, made_corpus
from trainer.metrics import average_precision
from trainer.sessions import baselines
from trainer.sessions.baselines import (
    BASELINES,
    FARTHEST,
    count_clusters,
    count_logreg,
    never_seen,
)
from trainer.sessions.estimates import Estimates
from trainer.sessions.training import Lessons
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus

TEMPLATES = ["alpha began", "beta went on", "gamma ended", "delta copied", "zeta broke"]


def corpus(*sessions: list[int]) -> SessionCorpus:
    rows = [np.array(session) for session in sessions]
    return corpus_of(log_of(TEMPLATES, rows, np.zeros(len(rows), dtype=np.int8)))


def lessons(corpus: SessionCorpus, learnt: list[int], anomalous: Sequence[float]) -> Lessons:
    estimates = np.array(anomalous, dtype=np.float32)
    return Lessons(corpus, np.array(learnt), Estimates(estimates, np.ones_like(estimates)))


def judged(
    baseline: Callable[[Lessons, NDArray[np.int8]], NDArray[np.float32]], lessons: Lessons
) -> NDArray[np.float32]:
    """Scores where the anomalous sessions are known, and no normal one."""
    return baseline(
        lessons, np.where(lessons.estimates.anomalous == 1, 1, NO_LABEL).astype(np.int8)
    )


def test_never_seen_counts_the_texts_that_no_lesson_holds() -> None:
    made = corpus([0, 1, 1], [0, 2], [0, 1, 2], [3, 3, 0], [4, 3, 4], [0])
    assert judged(never_seen, lessons(made, [0, 1], [1, 0])).tolist() == [0, 0, 0, 1, 2, 0]


def test_where_normal_sessions_are_known_never_seen_counts_what_none_of_these_holds() -> None:
    made = corpus([0, 1, 1], [0, 2], [0, 1, 2], [3, 3, 0], [4, 3, 4], [0])
    labels = np.array([0, NO_LABEL], dtype=np.int8)
    assert never_seen(lessons(made, [0, 1], [0, 0]), labels).tolist() == [0, 1, 1, 1, 2, 0]


def test_logistic_regression_finds_what_the_anomalous_hold() -> None:
    made = made_corpus(HERE, 200)
    learnt = list(range(100))
    scores = judged(count_logreg, lessons(made, learnt, (made.labels[:100] == 1).tolist()))
    assert scores.shape == (200,)
    assert scores.dtype == np.float32
    assert average_precision(made.labels[100:] == 1, scores[100:]) > 0.98


def test_logistic_regression_believes_an_estimate_as_far_as_it_goes() -> None:
    made = corpus(*[[0, 1]] * 10, *[[0, 4]] * 5, *[[0, 3]] * 5)
    sure = judged(count_logreg, lessons(made, list(range(20)), [0] * 10 + [1] * 5 + [0.5] * 5))
    assert sure[0] < sure[-1] < sure[10]
    weights = np.array([1] * 10 + [1] * 5 + [0] * 5, dtype=np.float32)
    doubted = Estimates(np.array([0] * 10 + [1] * 10, dtype=np.float32), weights)
    unheard = judged(count_logreg, Lessons(made, np.arange(20), doubted))
    # Nothing that counts holds what the last ones hold.
    assert unheard[0] < unheard[-1] < unheard[10]


def test_clusters_find_what_is_far_from_all_lessons() -> None:
    made = corpus(*[[0, 1, 1]] * 6, *[[2, 3]] * 6, [0, 1], [2, 3, 3], [4, 0], [4, 4])
    scores = judged(count_clusters, lessons(made, list(range(12)), [0] * 12))
    assert scores[:12] == pytest.approx([0] * 12, abs=1e-6)
    assert (scores[12:14] < FARTHEST).all()
    assert (scores[14:] > FARTHEST).all()
    assert scores[15] == pytest.approx(1)


def test_the_cluster_of_an_anomaly_is_worse_than_any_distance() -> None:
    made = corpus(*[[0, 1]] * 6, *[[2, 3]] * 4, [2, 3], [2, 3, 3], [4, 4], [0, 1])
    scores = judged(count_clusters, lessons(made, list(range(10)), [0] * 6 + [0, 1, 0, 0]))
    assert scores[10] == pytest.approx(2)
    assert 1 < scores[11] < 2
    assert scores[12] == pytest.approx(1)
    assert scores[13] == pytest.approx(0, abs=1e-6)
    # An estimate that is less than sure marks none.
    unsure = judged(count_clusters, lessons(made, list(range(10)), [0] * 6 + [0, 0.99, 0, 0]))
    assert unsure.max() <= 1


def test_lessons_that_are_all_alike_are_one_cluster() -> None:
    made = corpus([0, 1], [0, 1], [0, 1], [2])
    scores = judged(count_clusters, lessons(made, [0, 1, 2], [0, 0, 0]))
    assert scores == pytest.approx([0, 0, 0, 1], abs=1e-6)


def test_of_very_many_kinds_of_sessions_some_are_clustered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = made_corpus(HERE, 120)
    every = lessons(made, list(range(120)), (made.labels == 1).tolist())
    monkeypatch.setattr(baselines, "_MOST_CLUSTERED", 30)
    scores = judged(count_clusters, every)
    np.testing.assert_array_equal(scores, judged(count_clusters, every))
    # Each lesson belongs to one of the clusters, so that one that is anomalous marks it.
    assert (scores[made.labels == 1] > 1).mean() > 0.5


@pytest.mark.parametrize("name", BASELINES)
def test_labels_of_the_corpus_change_nothing(name: str) -> None:
    """A baseline is told by its lessons alone what sessions are taken for."""
    made = made_corpus(HERE, 80)
    judge, needs_labels = BASELINES[name]
    anomalous = (made.labels[:40] == 1).tolist()
    scores = judged(judge, lessons(made, list(range(40)), anomalous))
    for labels in (1 - made.labels, np.full(80, NO_LABEL, dtype=np.int8)):
        others = replace(made, labels=labels)
        again = judged(judge, lessons(others, list(range(40)), anomalous))
        np.testing.assert_array_equal(again, scores)
    if not needs_labels:
        assert np.isfinite(judged(judge, lessons(made, list(range(40)), [0.0] * 40))).all()
