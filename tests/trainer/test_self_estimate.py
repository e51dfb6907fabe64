"""What a model says of its own support, against counts by hand."""

import numpy as np
import pytest

from trainer.self_estimate import Rate, self_estimate

NAN = float("nan")


def test_an_interval_is_wilsons() -> None:
    assert Rate(8, 10).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert Rate(0, 5).interval == pytest.approx((0.0, 0.4345), abs=1e-4)
    assert Rate(5, 5).interval == pytest.approx((0.5655, 1.0), abs=1e-4)
    assert Rate(0, 0).interval == (0, 1)
    assert str(Rate(8, 10)) == "0.80 (0.49 to 0.94), 8 of 10"
    assert str(Rate(0, 0)) == "unknown"


def test_templates_are_counted() -> None:
    scores = np.array([0.9, 0.4, 0.6, 0.1, NAN, 0.2], dtype=np.float32)
    alert = np.array([True, True, False, False, True, False])
    regression = np.array([1, 1, 1, -1, NAN, 1], dtype=np.float32)
    found = self_estimate(scores, regression, alert, 0.5)
    assert (found.precision, found.recall) == (Rate(1, 2), Rate(1, 2))
    assert found.disagreement == Rate(2, 5)
    assert found.contradicted == [1, 2]
    figures = found.figures()
    assert figures["left_out_precision"] == 0.5
    assert figures["contradicted_labels"] == 2
    assert figures["left_out_recall_low"] < 0.5 < figures["left_out_recall_high"]


def test_what_is_unknown_is_left_out() -> None:
    nothing = np.zeros(3, dtype=np.float32)
    found = self_estimate(nothing, nothing, np.array([True, False, False]), 0.5)
    assert "left_out_precision" not in found.figures()
    assert found.figures()["left_out_recall"] == 0


def test_a_raised_threshold_counts_for_alerts_and_not_for_doubt() -> None:
    scores = np.array([0.9, 0.6, 0.7, 0.1], dtype=np.float32)
    alert = np.array([True, True, False, False])
    regression = np.array([1, 1, -1, -1], dtype=np.float32)
    usual = self_estimate(scores, regression, alert, 0.5)
    quiet = self_estimate(scores, regression, alert, 0.5, 0.8)
    assert (usual.precision, usual.recall) == (Rate(2, 3), Rate(2, 2))
    assert (quiet.precision, quiet.recall) == (Rate(1, 1), Rate(1, 2))
    assert quiet.contradicted == usual.contradicted == [2]
    assert quiet.disagreement == usual.disagreement
