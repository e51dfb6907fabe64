"""What labels say of a line by themselves."""

from __future__ import annotations

import numpy as np
import pytest

from crosyslog import session_contrast
from crosyslog.session_contrast import Contrast

#: Four texts in a plane: two of normal sessions, one of anomalous ones, one of neither.
TEXTS = ["routine", "usual", "broken", "another"]
VECTORS = np.array([[3, 0], [0, 1], [-2, 0], [-1, -1]], dtype=np.float32)


def contrast() -> Contrast:
    normal = np.array([True, True, False, False])
    anomalous = np.array([False, False, True, False])
    return Contrast.between(TEXTS, VECTORS, normal, anomalous)


def test_it_is_the_difference_of_the_cosines_to_the_nearest_of_either_kind() -> None:
    made = contrast()
    assert (made.normal, made.anomalous) == (["routine", "usual"], ["broken"])
    half = 0.5**0.5
    # Of the last, the nearer of the normal ones is at a right angle and more.
    assert made.of(VECTORS) == pytest.approx([-2, -1, 1, half + half], abs=1e-6)


def test_lengths_of_vectors_do_not_matter_and_one_of_zeros_says_nothing() -> None:
    made = contrast()
    lengths = np.array([1e-3, 7, 300, 1], dtype=np.float32)[:, None]
    np.testing.assert_allclose(made.of(lengths * VECTORS), made.of(VECTORS), atol=1e-5)
    assert made.of(np.zeros((2, 2), dtype=np.float32)).tolist() == [0, 0]
    assert made.of(np.zeros((0, 2), dtype=np.float32)).tolist() == []


def test_without_an_anomalous_one_it_is_the_novelty() -> None:
    none = np.zeros(4, dtype=bool)
    made = Contrast.between(TEXTS, VECTORS, np.array([True, True, False, False]), none)
    # The third is at a right angle to what is nearest, and so is, and more, the fourth.
    assert made.of(VECTORS) == pytest.approx([0, 0, 1, 1 + 0.5**0.5], abs=1e-6)
    assert made.of(np.zeros((1, 2), dtype=np.float32)).tolist() == [0]


def test_without_a_normal_one_it_is_zero() -> None:
    every, none = np.ones(4, dtype=bool), np.zeros(4, dtype=bool)
    alone = Contrast.between(TEXTS, VECTORS, none, every)
    assert alone.of(VECTORS).tolist() == [0] * 4
    assert Contrast.nothing().of(VECTORS).tolist() == [0] * 4


def test_many_texts_are_compared_in_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contrast().of(VECTORS)
    monkeypatch.setattr(session_contrast, "_TEXTS_A_PASS", 3)
    np.testing.assert_array_equal(contrast().of(VECTORS), whole)
