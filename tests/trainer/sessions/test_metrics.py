"""The best threshold against every one that there can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics import average_precision, count
from trainer.sessions.metrics import best_threshold, unlabelled_threshold

#: Neighbours in float32 among them, and scores that many sessions share.
SCORES = st.one_of(
    st.floats(-20, 20, width=32),
    st.integers(-3, 3).map(float),
    st.sampled_from([1.0, float(np.nextafter(np.float32(1), np.float32(2))), -1e10, 1e10]),
)
SYSTEM = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=25).filter(
    lambda sessions: any(anomalous for _, anomalous in sessions)
)


@given(st.lists(SYSTEM, min_size=1, max_size=3))
@settings(max_examples=80, deadline=None)
def test_no_threshold_is_better(systems: list[list[tuple[float, bool]]]) -> None:
    scores = [np.array([score for score, _ in one], dtype=np.float32) for one in systems]
    labels = [np.array([anomalous for _, anomalous in one]) for one in systems]

    def mean_f1(threshold: float) -> float:
        flagged = [one >= threshold for one in scores]
        return float(
            np.mean([count(*pair, pair[0]).f1 for pair in zip(flagged, labels, strict=True)])
        )

    found = best_threshold(scores, labels)
    assert found.f1 == pytest.approx(mean_f1(found.threshold))
    assert found.f1 == pytest.approx(max(mean_f1(value) for value in np.concatenate(scores)))
    precisions = [average_precision(*pair) for pair in zip(labels, scores, strict=True)]
    assert found.average_precision == pytest.approx(np.mean(precisions))


@given(SYSTEM)
@settings(max_examples=60, deadline=None)
def test_it_lies_half_way_between_what_is_flagged_and_what_is_not(
    sessions: list[tuple[float, bool]],
) -> None:
    scores = np.array([score for score, _ in sessions], dtype=np.float32)
    labels = np.array([anomalous for _, anomalous in sessions])
    threshold = best_threshold([scores], [labels]).threshold
    flagged, passed = scores[scores >= threshold], scores[scores < threshold]
    assert len(flagged)
    if len(passed):
        middle = (float(flagged.min()) + float(passed.max())) / 2
        assert threshold == pytest.approx(middle, rel=1e-6, abs=1e-6)


def test_a_few_anomalies_among_very_many_sessions_are_told_apart_exactly() -> None:
    draw = np.random.default_rng(0)
    scores = draw.permutation(50_000).astype(np.float32)
    labels = scores >= 49_993
    found = best_threshold([scores], [labels])
    assert tuple(found) == (49_992.5, 1, 1)
    labels[np.argsort(scores)[-3]] = False
    assert best_threshold([scores], [labels]).f1 == pytest.approx(12 / 13)


@pytest.mark.parametrize(
    ("logits", "flagged"),
    [
        ([*range(1_000)], 10),
        ([0] * 985 + [*range(1, 16)], 10),
        ([*range(7)], 1),
        ([3], 1),
        # More share the highest than may be flagged: a rarer one still would be.
        ([0] * 900 + [5] * 100, 0),
        ([2] * 50, 0),
        ([-40.0, *[-50.0] * 199], 1),
    ],
)
def test_without_labels_few_sessions_are_flagged(logits: list[float], flagged: int) -> None:
    known = np.array(logits, dtype=np.float32)
    threshold = unlabelled_threshold(known)
    assert (known >= threshold).sum() == flagged
    assert np.nextafter(known.max(), np.float32(np.inf)) >= threshold
