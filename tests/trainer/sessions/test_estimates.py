"""Labels that are estimated from those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest

from tests.trainer.sessions.corpora import corpus_of, log_of
from trainer.sessions.estimates import (
    Clusters,
    Unknown,
    cluster_sessions,
    estimate_labels,
    ways,
)
from trainer.whole_logs import NO_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.sessions.corpus import SessionCorpus

#: Three kinds of sessions, by the texts that they hold, and how many there are of each.
KINDS = {(0, 1, 2): 30, (0, 3, 4): 12, (5, 6, 7): 8}

TEMPLATES = ["alpha began", "beta went on", "gamma ended", "delta copied", "epsilon moved",
             "zeta broke", "eta failed", "theta lost", "iota strayed", "kappa ran"]  # fmt: skip


def of_kinds(*strays: tuple[int, ...]) -> SessionCorpus:
    """Sessions of each kind, every one with lines repeated in a way of its own; then strays."""
    draw = np.random.default_rng(0)
    rows = [
        np.repeat(kind, draw.integers(1, 9, size=3)) for kind, many in KINDS.items()
        for _ in range(many)
    ]  # fmt: skip
    rows += [np.array(stray) for stray in strays]
    return corpus_of(log_of(TEMPLATES, rows, np.full(len(rows), NO_LABEL, dtype=np.int8)))


def unlabelled(many: int) -> NDArray[np.int8]:
    return np.full(many, NO_LABEL, dtype=np.int8)


def test_sessions_that_hold_the_same_texts_are_a_cluster_however_often_they_repeat_them() -> None:
    corpus = of_kinds()
    numbers = cluster_sessions(corpus, np.arange(len(corpus))).numbers
    kinds = np.split(numbers, np.cumsum(list(KINDS.values()))[:-1])
    assert [len(set(kind.tolist())) for kind in kinds] == [1, 1, 1]
    assert sorted({int(kind[0]) for kind in kinds}) == [0, 1, 2]


def test_a_session_that_is_like_none_has_no_cluster() -> None:
    corpus = of_kinds((8, 9), (2, 4, 8), (1, 7, 9))
    found = cluster_sessions(corpus, np.arange(len(corpus)))
    assert found.numbers[-3:].tolist() == [-1, -1, -1]
    assert found.probabilities[-3:].tolist() == [0, 0, 0]
    assert (found.numbers[:-3] >= 0).all()


def test_only_the_sessions_that_are_named_are_looked_at() -> None:
    corpus = of_kinds()
    some = np.arange(25, len(corpus))
    found = cluster_sessions(corpus, some)
    assert len(found.numbers) == len(some)
    rows = [corpus.rows.of(session) for session in some.tolist()]
    alone = corpus_of(log_of(corpus.texts, rows, corpus.labels[some]))
    np.testing.assert_array_equal(found.numbers, cluster_sessions(alone, np.arange(len(some)))[0])


@pytest.mark.parametrize("many", [0, 1, 4, 5])
def test_fewer_sessions_than_a_cluster_are_none(many: int) -> None:
    found = cluster_sessions(of_kinds(), np.arange(many))
    assert found.numbers.tolist() == [-1] * many
    assert found.probabilities.tolist() == [0] * many


def test_sessions_that_are_all_alike_are_none_either() -> None:
    assert set(cluster_sessions(of_kinds(), np.arange(30)).numbers.tolist()) == {-1}


@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_a_cluster_with_a_known_anomaly_is_anomalous_as_surely_as_one_belongs_to_it(
    unknown: Unknown,
) -> None:
    clusters = Clusters(np.array([0, 0, 0, 0, 1, 1, 1, -1]), np.array([1, 1, 0.7, 0, 1, 1, 0.5, 0]))
    labels = unlabelled(8)
    labels[0] = 1
    before = estimate_labels(clusters, unlabelled(8), unknown)
    found = estimate_labels(clusters, labels, unknown)
    prior = before.anomalous[2]
    expected = [1, 1, 0.7 + 0.3 * prior, before.anomalous[3]]
    assert found.anomalous[:4] == pytest.approx(expected)
    assert found.weights[:3] == pytest.approx([1, 1, max(0.7, before.weights[2])])
    np.testing.assert_array_equal(found.anomalous[4:], before.anomalous[4:])
    np.testing.assert_array_equal(found.weights[4:], before.weights[4:])


@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_who_has_a_label_keeps_it(unknown: Unknown) -> None:
    clusters = Clusters(np.array([0, 0, 0, 0, -1, -1]), np.array([1, 1, 1, 0.5, 0, 0]))
    labels = np.array([1, 1, 0, 0, 1, 0], dtype=np.int8)
    found = estimate_labels(clusters, labels, unknown)
    assert found.anomalous.tolist() == labels.tolist()
    assert found.weights.tolist() == [1] * 6


def test_a_cluster_of_both_kinds_is_what_most_of_it_is() -> None:
    clusters = Clusters(np.zeros(6, dtype=np.int64), np.ones(6))
    labels = np.array([1, 0, 0, 0, NO_LABEL, NO_LABEL], dtype=np.int8)
    assert estimate_labels(clusters, labels, "normal").anomalous[4:].tolist() == [0.25, 0.25]


def test_the_unknown_can_be_taken_for_normal() -> None:
    clusters = Clusters(np.array([0, 0, 0, -1]), np.array([1, 0.6, 0, 0]))
    found = estimate_labels(clusters, unlabelled(4), "normal")
    assert found.anomalous.tolist() == [0, 0, 0, 0]
    # At the edge of a cluster, a session counts as much as in none.
    assert found.weights == pytest.approx([1, 0.6, 0.1, 0.1])


def test_the_unknown_can_be_the_more_suspicious_the_smaller_its_cluster() -> None:
    numbers = np.repeat([0, 1, 2, -1], [850, 139, 10, 1])
    found = estimate_labels(Clusters(numbers, np.ones(1_000)), unlabelled(1_000), "suspicious")
    large, middle, small, stray = (float(found.anomalous[place]) for place in (0, 850, 989, 999))
    assert large < 0.02 < middle < 0.1
    assert small == pytest.approx(0.5)  # of one in a hundred sessions
    assert stray == 1
    assert found.weights.tolist() == [1] * 1_000


@pytest.mark.parametrize("unknown", get_args(Unknown))
def test_estimates_of_real_clusters_are_shares(unknown: Unknown) -> None:
    corpus = of_kinds((8, 9), (1, 7, 9))
    labels = unlabelled(len(corpus))
    labels[43] = 1
    clusters = cluster_sessions(corpus, np.arange(len(corpus)))
    found = estimate_labels(clusters, labels, unknown)
    assert found.anomalous.dtype == found.weights.dtype == np.float32
    assert found.anomalous.shape == found.weights.shape == labels.shape
    assert (found.anomalous[42:50] > 0.9).all()
    assert (found.anomalous[:42] < 0.1).all() or unknown == "suspicious"
    for part in found:
        assert part.min() >= 0
        assert part.max() <= 1
    assert (found.weights.min() > 0) == (unknown != "left_out")


def test_what_nobody_knows_can_be_left_out() -> None:
    clusters = Clusters(np.array([0, 0, 1, 1, -1, -1]), np.array([1, 0.6, 1, 1, 0, 0]))
    labels = np.array([0, NO_LABEL, NO_LABEL, NO_LABEL, NO_LABEL, 1], dtype=np.int8)
    found = estimate_labels(clusters, labels, "left_out")
    assert found.weights == pytest.approx([1, 0.6, 0, 0, 0, 1])
    assert found.anomalous.tolist() == [0, 0, 0, 0, 0, 1]


def test_only_a_line_that_normal_sessions_do_not_hold_makes_a_stray_suspicious() -> None:
    # The first two strays mix lines of normal sessions, the others hold one more line.
    corpus = of_kinds((0, 2, 4), (1, 2, 3), (0, 1, 8), (2, 9))
    clusters = cluster_sessions(corpus, np.arange(len(corpus)))
    clusters.numbers[-4:] = -1
    labels = unlabelled(len(corpus))
    labels[:42] = 0
    found = estimate_labels(clusters, labels, "suspicious")
    assert found.anomalous[-4:].tolist() == [0, 0, 1, 1]
    # A cluster in which no normal session is known, and each with lines of its own.
    assert (found.anomalous[42:50] >= 0.5).all()
    nobody_looked = estimate_labels(clusters._replace(held=None), labels, "suspicious")
    assert nobody_looked.anomalous[-4:].tolist() == [1] * 4
    # The same where no normal session is known at all.
    none = estimate_labels(clusters, unlabelled(len(corpus)), "suspicious")
    assert none.anomalous[-4:].tolist() == [1] * 4


def test_what_is_known_says_which_ways_are_tried() -> None:
    assert ways(np.array([1, NO_LABEL, 0])) == ("left_out", "suspicious")
    assert ways(np.array([1, NO_LABEL])) == ("normal", "suspicious")
