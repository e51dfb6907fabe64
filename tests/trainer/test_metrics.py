"""Figures against scikit-learn and by hand; intervals that keep their promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from trainer.metrics import (
    Counts,
    average_precision,
    block_interval,
    count,
    precision_recall,
)


def test_rates_by_hand() -> None:
    counts = Counts(hits=6, false_alerts=2, misses=3, passed=1998, unseen_hits=1, unseen_misses=3)
    assert counts.precision == 6 / 8
    assert counts.recall == 6 / 9
    assert counts.f1 == pytest.approx(2 * (6 / 8) * (6 / 9) / (6 / 8 + 6 / 9))
    assert counts.unseen_recall == 1 / 4
    assert counts.false_alerts_per_10k == 10


def test_a_method_that_flags_nothing_is_judged() -> None:
    nothing = Counts(misses=5, passed=5)
    assert (nothing.f1, nothing.precision, nothing.recall, nothing.unseen_recall) == (0, 0, 0, 0)
    assert nothing.false_alerts_per_10k == 0
    assert average_precision(np.zeros(3, dtype=np.bool_), np.zeros(3, dtype=np.float32)) == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
def test_rates_are_those_of_scikit_learn(lines: list[tuple[bool, bool, bool]]) -> None:
    flagged, labels, unseen = (
        np.array(column, dtype=np.bool_) for column in zip(*lines, strict=True)
    )
    counts = count(flagged, labels, unseen)
    assert counts.f1 == pytest.approx(f1_score(labels, flagged, zero_division=0))
    assert counts.precision == pytest.approx(precision_score(labels, flagged, zero_division=0))
    assert counts.recall == pytest.approx(recall_score(labels, flagged, zero_division=0))
    if unseen.any():
        expected = recall_score(labels[unseen], flagged[unseen], zero_division=0)
        assert counts.unseen_recall == pytest.approx(expected)
    assert counts.hits + counts.false_alerts + counts.misses + counts.passed == len(lines)


def test_counts_add_up() -> None:
    rng = np.random.default_rng(0)
    flagged, labels, unseen = rng.random((3, 100)) < 0.4
    parts = [
        count(flagged[part], labels[part], unseen[part]) for part in (slice(40), slice(40, 100))
    ]
    assert sum(parts, Counts()) == count(flagged, labels, unseen)


def test_average_precision_by_hand() -> None:
    labels = np.array([True, False, True])
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    assert average_precision(labels, scores) == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_a_curve_of_many_scores_has_few_points() -> None:
    draw = np.random.default_rng(0)
    labels = draw.random(5_000) < 0.3
    scores = (labels + draw.standard_normal(5_000)).astype(np.float32)
    recall, precision = precision_recall(labels, scores)
    assert 150 < len(recall) == len(precision) <= 200
    assert recall == sorted(recall)
    assert recall[-1] == 1
    area = np.sum(np.diff(recall) * np.array(precision[1:]))
    assert area == pytest.approx(average_precision(labels, scores), abs=0.01)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8)), min_size=1, max_size=40),
    st.integers(0, 5),
)
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_the_mean_and_is_the_same_again(
    tasks: list[tuple[float, int]], seed: int
) -> None:
    values = np.array([value for value, _ in tasks])
    blocks = np.array([block for _, block in tasks])
    low, high = block_interval(values, blocks, seed)
    assert low <= values.mean() <= high
    assert (low, high) == block_interval(values, blocks, seed)


def test_tasks_of_one_block_say_nothing_about_the_spread() -> None:
    assert block_interval(np.full(20, 0.7), np.zeros(20, dtype=np.int64), seed=0) == (0.0, 1.0)


def test_tasks_that_judge_the_same_lines_do_not_make_an_interval_narrow() -> None:
    rng = np.random.default_rng(0)
    of_block = rng.random(6)
    blocks = np.repeat(np.arange(6), 20)
    low, high = block_interval(of_block[blocks], blocks, seed=0)
    as_if_independent = block_interval(of_block[blocks], np.arange(120), seed=0)
    assert high - low > 3 * (as_if_independent[1] - as_if_independent[0])


def test_an_interval_of_few_blocks_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(8), 3)
    held = 0
    for seed in range(400):
        low, high = block_interval(np.repeat(rng.beta(4, 3, 8), 3), blocks, seed)
        held += low <= 4 / 7 <= high
    # The plain percentile bootstrap comes to .91.
    assert 0.93 <= held / 400 <= 0.98
