"""What a task lets a method know: lines in a row, chosen templates, wrong or fewer labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosyslog.errors import LabelError, SettingError
from tests.fakes import FakeEncoder
from tests.trainer.made import messages
from trainer.choosing import facility_location
from trainer.protocol import Plan, draw, fewer, known_before
from trainer.tasks import LabelledStream

SMALL = Plan(support=200, query=1000, seeds=2, tasks=3)
ASKED = Plan(ask=12, history=1000, query=1000, seeds=2, tasks=3)


@pytest.fixture(scope="module")
def stream() -> LabelledStream:
    texts, labels = messages(5000)
    templates, rows = np.unique(texts, return_inverse=True)
    vectors = FakeEncoder().encode(templates.tolist())
    return LabelledStream("spirit", templates.tolist(), vectors, rows.astype(np.int64), labels)


def test_a_contiguous_support_is_the_lines_before_the_query(stream: LabelledStream) -> None:
    known = known_before(stream, 0, 700, SMALL)
    assert known.rows.tolist() == stream.rows[700:900].tolist()
    assert known.labels.tolist() == stream.labels[700:900].tolist()
    nearest = fewer(known, 50, SMALL)
    assert nearest.rows.tolist() == stream.rows[850:900].tolist()


def test_asked_templates_are_of_the_history_and_have_its_labels(stream: LabelledStream) -> None:
    _, start = draw(stream.labels, ASKED).tasks[0]
    known = known_before(stream, 0, start, ASKED)
    history = stream.rows[start : start + 1000]
    assert len(known.rows) == len(set(known.rows.tolist())) == 12
    assert set(known.rows.tolist()) <= set(history.tolist())
    alerts = {stream.templates[row] for row in known.rows[known.labels].tolist()}
    assert alerts == {
        stream.templates[row]
        for row in known.rows.tolist()
        if stream.labels[start : start + 1000][history == row].any()
    }
    assert fewer(known, 5, ASKED).rows.tolist() == known.rows[:5].tolist()


def test_which_templates_are_asked_for_does_not_depend_on_labels_or_on_the_query(
    stream: LabelledStream,
) -> None:
    changed = replace(stream, labels=~stream.labels, rows=stream.rows.copy())
    changed.rows[2000:] = 0
    before, after = (known_before(kind, 0, 1000, ASKED) for kind in (stream, changed))
    assert before.rows.tolist() == after.rows.tolist()
    assert before.labels.tolist() == (~after.labels).tolist()


def test_a_history_of_few_templates_gives_as_many_labels_as_it_has(stream: LabelledStream) -> None:
    known = known_before(stream, 0, 0, replace(ASKED, ask=1000))
    assert sorted(known.rows.tolist()) == np.unique(stream.rows[:1000]).tolist()


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_facility_location_takes_what_raises_the_sum_most(seed: int, many: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(many, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    counts = rng.integers(1, 50, many)
    chosen = facility_location(vectors, counts, size)
    assert len(chosen) == len(set(chosen.tolist())) == min(size, many)
    similarity = np.maximum(vectors @ vectors.T, 0)

    def covered(rows: list[int]) -> float:
        return float((similarity[rows].max(axis=0) * counts).sum()) if rows else 0.0

    for step, row in enumerate(chosen.tolist()):
        taken = chosen[:step].tolist()
        best = max(covered([*taken, other]) for other in range(many) if other not in taken)
        assert covered([*taken, row]) == pytest.approx(best, rel=1e-4)
    assert facility_location(vectors, counts, 1).tolist() == chosen[:1].tolist()


def test_wrong_labels_are_as_many_as_asked_for_and_the_same_again(stream: LabelledStream) -> None:
    wrong = replace(SMALL, support=2000, wrong_labels=0.25)
    known, again = known_before(stream, 3, 0, wrong), known_before(stream, 3, 0, wrong)
    turned = known.labels != stream.labels[:2000]
    assert 0.2 < turned.mean() < 0.3
    assert known.labels.tolist() == again.labels.tolist()
    assert known_before(stream, 4, 0, wrong).labels.tolist() != known.labels.tolist()


def test_the_paper_asks_for_more_alerts_in_the_support(stream: LabelledStream) -> None:
    paper = replace(SMALL, protocol="paper")
    shares = [stream.labels[s : s + 200].mean() for _, s in draw(stream.labels, paper).tasks]
    assert all(0.2 <= share <= 0.5 for share in shares)
    with pytest.raises(SettingError, match="does not go with --protocol paper"):
        replace(ASKED, protocol="paper")


def test_a_history_without_alerts_makes_no_task() -> None:
    labels = np.zeros(4000, dtype=np.bool_)
    labels[3990:] = True
    with pytest.raises(LabelError, match="history with few alerts"):
        draw(labels, replace(ASKED, history=1000))
