"""What the page shows of judged tasks, and the file of predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from crosyslog.errors import SettingError
from trainer.baselines import Judgement, Known
from trainer.evaluation import judge
from trainer.inspection import inspect, write_predictions
from trainer.protocol import Drawn, Plan
from trainer.tasks import LabelledStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.details import MethodDetails

#: Templates 0 and 1 are normal, 2 and 3 alerts; 1 and 3 are not in the support of task 0.
ROWS = np.array([0, 2] * 10 + [0, 1, 2, 3] * 10 + [0, 1, 2, 3] * 10, dtype=np.int64)
STREAM = LabelledStream(
    "spirit", ["up", "sideways", "down", "gone"], np.eye(4, dtype=np.float32), ROWS, ROWS >= 2
)
PLAN = Plan(support=20, query=40, seeds=1, tasks=2)
DRAWN = Drawn([(0, 0), (0, 20)], [], {})
SCORES = np.array([0.1, 0.8, 0.4, 0.9], dtype=np.float32)


def sure(known: Known, middle: int) -> Judgement:  # noqa: ARG001 - judges by the template alone
    """Takes `sideways` and `gone` for alerts: one right, one wrong, `down` missed."""
    scores = SCORES[ROWS[middle : middle + 40]]
    return Judgement(scores, scores >= 0.5)


@pytest.fixture
def details() -> MethodDetails:
    results = judge(STREAM, DRAWN, [("sure", sure)], PLAN)
    places: list[int] = []

    def raw(wanted: list[int]) -> dict[int, str]:
        places.extend(wanted)
        return {place: f"raw {place}" for place in wanted}

    found = inspect(STREAM, DRAWN, PLAN, results, np.array([0, 1]), raw)["sure"]
    assert all(ROWS[place] in (1, 2) for place in places)
    return found


def test_wrong_templates_are_counted_by_lines_and_tasks(details: MethodDetails) -> None:
    (miss,) = details.misses
    assert (miss.template, miss.lines, miss.tasks, miss.seen) == ("down", 20, 2, True)
    assert miss.example == "raw 22"
    (false,) = details.false_alerts
    # The second task's support has shown it.
    assert (false.template, false.lines, false.tasks, false.seen) == ("sideways", 20, 2, True)


def test_a_curve_runs_to_the_whole_recall_and_bins_hold_all_lines(details: MethodDetails) -> None:
    recall, precision = details.recall, details.precision
    assert recall == sorted(recall)
    assert recall[-1] == 1
    # At the score of `gone` all is right; then `sideways` comes in, then `down`.
    assert precision[recall.index(0.5)] in (0.5, 1.0)
    assert precision[-1] == pytest.approx(0.5)
    bins = details.reliability
    assert sum(part.lines for part in bins) == 80
    assert [part.alerts for part in bins] == [0, 1, 0, 1]


def test_fewer_labels_make_the_curve_and_all_labels_its_end() -> None:
    plan = Plan(support=300, query=40, seeds=1, tasks=2, curve=True)
    rows = np.tile(ROWS[:40], 20)
    stream = LabelledStream("spirit", STREAM.templates, STREAM.vectors, rows, rows >= 2)
    given: list[int] = []

    def counting(known: Known, middle: int) -> Judgement:
        given.append(len(known.rows))
        flagged = rows[middle : middle + 40] >= (2 if len(known.rows) > 100 else 9)
        return Judgement(flagged.astype(np.float32), flagged)

    drawn = Drawn([(0, 0), (0, 300)], [], {})
    results = judge(stream, drawn, [("counting", counting)], plan)
    assert given == [300, 100, 200] * 2
    found = inspect(stream, drawn, plan, results, np.array([0, 1]))["counting"]
    assert [(point.labels, point.mean) for point in found.by_labels] == [
        (100, 0),
        (200, 1),
        (300, 1),
    ]
    assert found.misses == found.false_alerts == []


def test_the_oracle_takes_the_best_step_and_says_so() -> None:
    def stepped(known: Known, middle: int) -> Iterator[Judgement]:  # noqa: ARG001
        for threshold in (0.95, 0.85, 0.0):
            scores = SCORES[ROWS[middle : middle + 40]]
            yield Judgement(scores, scores >= threshold)

    results = judge(STREAM, DRAWN, [("sure", sure)], PLAN, oracles={"sure": stepped})
    assert list(results) == ["sure", "sure (oracle step)"]
    # None is flagged: 0; `gone` alone: 2/3; all: 2/3 of half of them.
    assert [counts.f1 for counts in results["sure (oracle step)"].counts] == pytest.approx(
        [2 / 3] * 2
    )


def test_predictions_hold_every_judged_line(tmp_path: Path) -> None:
    results = judge(STREAM, DRAWN, [("sure", sure)], PLAN)
    offsets = np.arange(len(ROWS)) * 2
    path = tmp_path / "predictions.parquet"
    write_predictions(path, STREAM, offsets, DRAWN, PLAN, results)
    frame = pl.read_parquet(path)
    assert frame.columns == [
        "task", "seed", "support_line", "line", "label", "sure_score", "sure_flagged",
    ]  # fmt: skip
    assert frame.height == 80
    second = frame.filter(pl.col("task") == 1)
    assert second["support_line"].unique().to_list() == [40]
    assert second["line"].to_list() == list(range(80, 160, 2))
    assert second["label"].to_list() == (ROWS[40:80] >= 2).tolist()
    assert second["sure_score"].to_list() == pytest.approx(SCORES[ROWS[40:80]].tolist())
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.parquet"]
    with pytest.raises(SettingError, match="--predictions"):
        write_predictions(tmp_path / "no" / "p.parquet", STREAM, offsets, DRAWN, PLAN, results)
