"""Scores that a support gets without its own labels, and the quiet threshold above them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from crosyslog.manifest import Threshold
from crosyslog.systems import load_system
from tests.fakes import lstm_of
from tests.trainer.made import make_base
from trainer.adaptation import adapt_to_stream
from trainer.left_out import left_out_scores, quiet_threshold, raised_without_each
from trainer.tasks import LabelledStream

if TYPE_CHECKING:
    from pathlib import Path

    from crosyslog.bundle import Bundle
    from tests.fakes import FakeEncoder

#: Template 0 to 11, of which 0 to 3 are alerts.
TEMPLATES = 12


@pytest.fixture
def support(tiny_base: Bundle) -> LabelledStream:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((TEMPLATES, tiny_base.manifest.encoder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rng.integers(0, TEMPLATES, 230)
    return LabelledStream("t", [f"t {t}" for t in range(TEMPLATES)], vectors, rows, rows < 4)


def test_a_line_is_scored_without_the_label_of_its_template(
    tiny_base: Bundle, support: LabelledStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = np.arange(TEMPLATES) % 5
    monkeypatch.setattr("trainer.left_out._deal", lambda *_: part)
    before = left_out_scores(tiny_base, support)
    flipped = replace(support, labels=support.labels ^ (support.rows == 7))
    after = left_out_scores(tiny_base, flipped)
    assert before.shape == support.rows.shape
    same = part[support.rows] == part[7]
    assert before[same].tolist() == pytest.approx(after[same].tolist(), abs=1e-6)
    assert np.abs(before[~same] - after[~same]).max() > 1e-4


def test_left_out_scores_are_those_of_an_adaptation_to_the_rest(
    tiny_base: Bundle, support: LabelledStream
) -> None:
    """Lines left out at the end change the causal detector's view of no other line."""
    part = np.arange(TEMPLATES) % 5
    rest, last = np.flatnonzero(part[support.rows] != 4), np.flatnonzero(part[support.rows] == 4)
    order = np.concatenate((rest, last))
    reordered = replace(support, rows=support.rows[order], labels=support.labels[order])
    scores = left_out_scores(tiny_base, reordered)[len(rest) :]
    adapted = adapt_to_stream(
        tiny_base,
        replace(support, rows=support.rows[rest], labels=support.labels[rest]),
        system=load_system("plain"),
        version="1",
        command="",
    )
    templates = lstm_of(adapted).project_templates(torch.from_numpy(support.vectors))
    lines = np.concatenate((reordered.rows, np.zeros(-len(order) % 100, dtype=np.int64)))
    said = adapted.detector(templates[torch.from_numpy(lines.reshape(-1, 100))]).sigmoid()
    expected = said.flatten().numpy()[len(rest) : len(order)]
    assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("alerts", [0, TEMPLATES])
def test_one_class_is_scored_by_the_base(
    tiny_base: Bundle, support: LabelledStream, alerts: int
) -> None:
    one_class = replace(support, labels=support.rows < alerts)
    flipped = replace(support, labels=support.rows >= alerts)
    before = left_out_scores(tiny_base, one_class)
    assert before.tolist() == left_out_scores(tiny_base, flipped).tolist()


def test_one_template_is_enough(tiny_base: Bundle) -> None:
    dim = tiny_base.manifest.encoder.dim
    one = LabelledStream(
        "t", ["t"], np.ones((1, dim), dtype=np.float32), np.zeros(3, dtype=np.int64),
        np.array([True, False, False]),
    )  # fmt: skip
    assert left_out_scores(tiny_base, one).shape == (3,)


def test_a_quiet_threshold_lies_above_what_normal_lines_got() -> None:
    usual = Threshold(value=0.3, chosen="so")
    labels = np.array([False, False, True])
    quiet = quiet_threshold(usual, np.array([0.2, 0.61234, 0.9], dtype=np.float32), labels)
    assert quiet.value == pytest.approx(0.6124)
    assert "quiet" in quiet.chosen
    assert quiet_threshold(usual, np.array([0.2, 0.1, 0.9], dtype=np.float32), labels).value == 0.3
    # Memory gives an alert the score 1, which stays one.
    assert quiet_threshold(usual, np.array([0.2, 1.0, 0.9], dtype=np.float32), labels).value == 1
    assert quiet_threshold(usual, np.ones(3, dtype=np.float32), np.ones(3, dtype=np.bool_)) == usual


def test_a_quiet_bundle_says_so(
    support: LabelledStream, tmp_path: Path, encoder: FakeEncoder
) -> None:
    base = make_base(tmp_path / "loud", encoder, threshold=0.001)

    def adapted(*, quiet: bool) -> Bundle:
        return adapt_to_stream(
            base,
            support,
            system=load_system("plain"),
            quiet=quiet,
            version="1",
            command="",
        )

    usual, quiet = adapted(quiet=False), adapted(quiet=True)
    assert quiet.manifest.threshold.value > usual.manifest.threshold.value
    normal = left_out_scores(base, support)[~support.labels]
    assert (normal < quiet.manifest.threshold.value).all()
    assert (usual.manifest.settings["quiet_alerts"], quiet.manifest.settings["quiet_alerts"]) == (
        False,
        True,
    )


def test_the_highest_normal_template_has_no_part_in_the_threshold_it_is_held_against() -> None:
    usual = Threshold(value=0.5, chosen="for this test")
    scores = np.array([0.95, 0.9, 0.7, float("nan"), 0.2], dtype=np.float32)
    alert = np.array([True, False, False, False, False])
    raised = raised_without_each(usual, scores, alert)
    assert raised == pytest.approx([0.9001, 0.7001, 0.9001, 0.9001, 0.9001], abs=2e-4)
    assert raised_without_each(usual, scores[4:], alert[4:]) == pytest.approx([0.5])
