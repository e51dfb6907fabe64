"""The evidence on templates: each number against a computation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crosyslog.evidence import (
    FEATURES,
    NEARNESS,
    REGRESSIONS,
    SOURCES,
    TRUST,
    LabelledTemplates,
    SourceEvidence,
    SupportEvidence,
)
from tests.fakes import FakeEncoder

TEMPLATES = ["disk failure on array", "fan fault seen", "session opened for #", "lease renewed"]
ALERT = np.array([True, True, False, False])
OTHERS = ["disk failure on bus", "session closed for #", "", "FATAL error: kernel panic, abort"]


def column(name: str) -> int:
    return FEATURES.index(name)


def vectors(templates: list[str]) -> np.ndarray:
    return FakeEncoder().encode(templates)


def sources() -> SourceEvidence:
    known = vectors(["raid failure", "cron started", "cron ended"])
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((known.shape[1],), dtype=np.float32)
    return SourceEvidence(weight, 0.5, known, np.array([True, False, False]))


def evidence(alert: np.ndarray = ALERT) -> SupportEvidence:
    labelled = LabelledTemplates(TEMPLATES, vectors(TEMPLATES), alert)
    coefficients = np.array([[1, 2], [3, 4], [-1, -2], [0, 0]], dtype=np.float32)
    return SupportEvidence(labelled, coefficients, np.arange(5, dtype=np.float32))


def features(templates: list[str] = OTHERS, alert: np.ndarray = ALERT) -> np.ndarray:
    return evidence(alert).features(templates, vectors(templates), sources())


def test_every_feature_has_its_column() -> None:
    kinds = [NEARNESS, REGRESSIONS, SOURCES, TRUST]
    places = [place for kind in kinds for place in range(kind.start, kind.stop)]
    assert places == list(range(len(FEATURES)))
    assert features().shape == (len(OTHERS), len(FEATURES))
    assert features().dtype == np.float32
    assert np.isfinite(features()).all()


def test_nearness_is_the_highest_cosine_of_each_label() -> None:
    cosine = vectors(OTHERS) @ vectors(TEMPLATES).T
    found = features()
    alert, normal = cosine[:, ALERT].max(axis=1), cosine[:, ~ALERT].max(axis=1)
    assert found[:, column("cosine to the nearest alert")] == pytest.approx(alert, abs=1e-6)
    assert found[:, column("cosine to the nearest normal")] == pytest.approx(normal, abs=1e-6)
    either = np.maximum(alert, normal)
    assert found[:, column("cosine to the nearest of any label")] == pytest.approx(either, abs=1e-6)
    less = found[:, column("nearest alert less nearest normal")]
    assert less == pytest.approx(alert - normal, abs=1e-6)


def test_words_and_pairs_in_common_are_counted() -> None:
    """`disk failure on bus` has 7 words and pairs; 5 of them are among the 7 of its neighbour."""
    found = features()[0]
    assert found[column("words shared with the nearest alert")] == pytest.approx(5 / 7)
    assert found[column("words shared with the nearest normal")] == 0


def test_the_label_average_is_drawn_to_the_similar() -> None:
    found = features()[:2, column("label average weighted by similarity")]
    assert found[0] > 0.9
    assert found[1] < 0.1


def test_the_sources_say_what_they_know() -> None:
    known, found = sources(), features()
    logit = found[:, column("logit of the sources' regression")]
    assert logit == pytest.approx(vectors(OTHERS) @ known.weight + 0.5, abs=1e-5)
    alert = (vectors(OTHERS) @ known.vectors.T)[:, 0]
    assert found[:, column("cosine to the nearest alert of the sources")] == pytest.approx(
        alert, abs=1e-6
    )
    # fatal, err, panic and abort are four; three is the most that counts.
    assert found[:, column("alert words")].tolist() == [1, 0, 0, 3]


def test_the_regressions_are_linear_in_their_coefficients() -> None:
    found = features()[:, REGRESSIONS]
    twice = SupportEvidence(
        LabelledTemplates(TEMPLATES, vectors(TEMPLATES), ALERT),
        2 * np.array([[1, 2], [3, 4], [-1, -2], [0, 0]], dtype=np.float32),
        np.zeros(5, dtype=np.float32),
    ).features(OTHERS, vectors(OTHERS), sources())[:, REGRESSIONS]
    assert twice == pytest.approx(2 * found, rel=1e-5)


@pytest.mark.parametrize("alert", [True, False])
def test_a_support_of_one_class_is_a_case(alert: bool) -> None:
    found = features(alert=np.full(4, alert))
    missing = "normal" if alert else "alert"
    assert (found[:, column(f"cosine to the nearest {missing}")] == 0).all()
    assert np.isfinite(found).all()


def test_no_support_leaves_the_sources() -> None:
    dim = vectors(TEMPLATES).shape[1]
    nothing = LabelledTemplates([], np.zeros((0, dim), np.float32), np.zeros(0, np.bool_))
    empty = SupportEvidence(nothing, np.zeros((0, 2), np.float32), np.zeros(5, np.float32))
    found = empty.features(OTHERS, vectors(OTHERS), sources())
    assert (found[:, NEARNESS] == 0).all()
    assert (found[:, SOURCES] == features()[:, SOURCES]).all()


def test_a_template_is_not_near_to_itself() -> None:
    labelled = LabelledTemplates(TEMPLATES, vectors(TEMPLATES), ALERT)
    similar = labelled.similarities(TEMPLATES, vectors(TEMPLATES))
    themselves = similar.features(ALERT)
    left_out = similar.without_themselves().features(ALERT)
    assert themselves[:, 2] == pytest.approx(1.0, abs=1e-3)
    assert (left_out[:, 2] < 0.99).all()
    assert (similar.cosine.diagonal() > 0.99).all(), "the similarities themselves stay"


def test_many_templates_are_judged_as_few_are() -> None:
    many = [f"worker {number} answered" for number in range(5_000)]
    found = features(many)
    few = features(many[3_000:3_003])
    assert found[3_000:3_003] == pytest.approx(few, abs=1e-4)
