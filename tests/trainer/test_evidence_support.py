"""The regressions on a support, held to scikit-learn's and to fits that leave each row out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tests.fakes import FakeEncoder
from trainer.evidence_support import auc, fit_logistic, fit_support, left_out_logits


def problem(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((size, 6))
    alert = points[:, 0] + 0.7 * rng.standard_normal(size) > 0.4
    return points, alert


def weights_of(alert: np.ndarray, *, balanced: bool) -> np.ndarray:
    size = len(alert)
    if not balanced:
        return np.ones(size)
    return np.asarray(np.where(alert, 0.5 * size / alert.sum(), 0.5 * size / (~alert).sum()))


@pytest.mark.parametrize("balanced", [True, False])
def test_the_regression_is_scikit_learns(balanced: bool) -> None:
    """With an intercept whose square is penalised a hundredth as much, as in the kernel."""
    points, alert = problem(60)
    kernel = points @ points.T + 100.0
    found = kernel @ fit_logistic(kernel, alert, weights_of(alert, balanced=balanced))
    rows = np.column_stack([points, np.full(len(points), 10.0)])
    model = LogisticRegression(
        C=1 / (1e-3 * len(points)), fit_intercept=False, tol=1e-8, max_iter=10_000
    ).fit(rows, alert, sample_weight=weights_of(alert, balanced=balanced))
    assert found == pytest.approx(model.decision_function(rows), abs=1e-2)


@pytest.mark.parametrize("size", [12, 60])
def test_left_out_is_close_to_a_fit_without_the_row(size: int) -> None:
    points, alert = problem(size, seed=1)
    kernel = points @ points.T + 100.0
    weights = weights_of(alert, balanced=True)
    found = left_out_logits(kernel, alert, weights, fit_logistic(kernel, alert, weights))
    exact = np.empty(size)
    for row in range(size):
        rest = np.delete(np.arange(size), row)
        # The penalty counts rows, of which the approximation keeps the whole number.
        fitted = fit_logistic(kernel[np.ix_(rest, rest)], alert[rest], weights[rest])
        exact[row] = kernel[row, rest] @ fitted
    assert np.corrcoef(found, exact)[0, 1] > 0.97
    assert ((found > 0) == (exact > 0)).mean() > 0.9


def test_separable_labels_converge() -> None:
    points, _ = problem(40)
    alert = points[:, 0] > 0
    kernel = 100 * points @ points.T + 100.0
    fitted = fit_logistic(kernel, alert, weights_of(alert, balanced=True))
    assert np.isfinite(fitted).all()
    assert ((kernel @ fitted > 0) == alert).all()


def test_auc_counts_ties_half() -> None:
    alert = np.array([True, True, False, False])
    assert auc(np.array([2, 1, 1, 0], dtype=np.float32), alert) == pytest.approx(0.875)
    assert auc(np.array([3, 2, 1, 0], dtype=np.float32), alert) == 1
    assert auc(np.zeros(4, dtype=np.float32), alert) == 0.5
    assert auc(np.arange(4, dtype=np.float32), np.ones(4, dtype=np.bool_)) == 0.5


TEMPLATES = [f"session {state} for user" for state in ("opened", "closed", "renewed", "lost")]
TEMPLATES += [f"disk {what} on array" for what in ("failure", "fault", "error", "timeout")]


def test_what_the_regressions_say_of_the_support_does_not_know_it() -> None:
    """Two texts alike with different labels: each is given the other's when it is left out."""
    templates = ["alpha beta gamma", "alpha beta gamma delta", "one two three", "four five six"]
    alert = np.array([True, False, True, False])
    vectors = FakeEncoder().encode(templates)
    fitted = fit_support(templates, vectors, alert)
    kernel = fitted.labelled.similarities(templates, vectors).kernel
    known = kernel @ fitted.coefficients[:, 0]
    assert (known[:2] > 0).tolist() == [True, False]
    assert (fitted.regressions[:2, 0] > 0).tolist() == [False, True]


def test_trust_tells_good_experts_from_bad_ones() -> None:
    alert = np.array([False] * 4 + [True] * 4)
    fitted = fit_support(TEMPLATES, FakeEncoder().encode(TEMPLATES), alert)
    right, wrong = (np.zeros((8, 5), dtype=np.float32) for _ in range(2))
    right[:, 0], wrong[:, 0] = np.where(alert, 1, -1), np.where(alert, -1, 1)
    assert fitted.trust(right).tolist() == pytest.approx(
        [fitted.trust(right)[0], 1.0, fitted.trust(right)[2], 0.5, np.log1p(8) / 5]
    )
    assert fitted.trust(right)[0] > 0.9
    assert fitted.trust(wrong)[1] == 0


@pytest.mark.parametrize("alerts", [0, 8])
def test_one_class_has_no_regression(alerts: int) -> None:
    alert = np.arange(8) < alerts
    fitted = fit_support(TEMPLATES, FakeEncoder().encode(TEMPLATES), alert)
    assert not fitted.coefficients.any()
    assert not fitted.regressions.any()
    assert np.isfinite(fitted.left_out_features(np.zeros((8, 5), dtype=np.float32))).all()


def test_an_empty_support_is_fitted_too() -> None:
    fitted = fit_support([], np.zeros((0, 16), np.float32), np.zeros(0, np.bool_))
    nothing = np.zeros((0, 5), dtype=np.float32)
    assert fitted.left_out_features(nothing).shape == (0, 21)
    assert fitted.trust(nothing).tolist() == [0.5, 0.5, 0.5, 0, 0]
