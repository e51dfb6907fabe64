"""What an evaluation found beyond its figures: what the page shows."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LabelsPoint:
    """The F1 that a number of labels gives.

    Attributes:
        labels: labelled lines, or labelled templates where they are chosen.
        mean: of the tasks' F1.
        low: the low end of its 95 % interval.
        high: the high end.
    """

    labels: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Query lines of like scores.

    Attributes:
        score: the mean of their scores.
        alerts: the share of alerts among them.
        lines: how many there are.
    """

    score: float
    alerts: float
    lines: int


@dataclass(frozen=True)
class WrongTemplate:
    """A template whose lines were judged wrong, over all tasks.

    Attributes:
        template: masked text.
        lines: lines of it that were judged wrong.
        tasks: tasks in which that happened.
        seen: whether a support had shown it in any of these.
        example: a raw line of it; none where the log is prepared, which keeps no lines.
    """

    template: str
    lines: int
    tasks: int
    seen: bool
    example: str | None


@dataclass(frozen=True)
class MethodDetails:
    """One method.

    Attributes:
        recall: of the precision-recall curve pooled over tasks, ascending; at most 200 points.
        precision: at each of these.
        by_labels: F1 against the number of labels, ascending; empty where it was not asked for.
        reliability: by score, ascending; empty for a method whose scores are no probabilities.
        misses: alerts taken for normal, the most lines first.
        false_alerts: normal lines taken for alerts, the most lines first.
        seconds: what all tasks took, adaptation included.
    """

    recall: list[float]
    precision: list[float]
    by_labels: list[LabelsPoint] = field(default_factory=list)
    reliability: list[ReliabilityBin] = field(default_factory=list)
    misses: list[WrongTemplate] = field(default_factory=list)
    false_alerts: list[WrongTemplate] = field(default_factory=list)
    seconds: float = 0.0
