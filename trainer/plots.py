"""The plots of an evaluation's page, as SVG that stands inside HTML.

No name and no log text is drawn: the page's legend says in HTML which line is whose. The same
input gives the same bytes, whatever style a user has set for matplotlib.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trainer.details import LabelsPoint, ReliabilityBin

#: Colours that stay apart for colour-blind readers: Okabe and Ito, Color Universal Design, 2008,
#: without the yellow, which is too pale on white.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")

#: Lengths of dashes and gaps in points; neighbours differ in these too, for print without colour.
_DASHES = ((), (6, 2), (2, 2), (6, 2, 2, 2))

_STYLE = {
    "svg.hashsalt": "crosyslog",
    # Text stays text: it can be read aloud, selected, and drawn in the reader's font.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "lines.scale_dashes": False,
    "lines.linewidth": 1.6,
}

#: Ticks on the axis of labels; more would run into each other on a phone.
_TICKS = 8


@dataclass(frozen=True)
class Look:
    """How a method's lines are drawn.

    Attributes:
        colour: as in CSS.
        dashes: lengths of dashes and gaps in points; none for a line without gaps.
    """

    colour: str
    dashes: tuple[int, ...]


class Curve(Protocol):
    """A precision-recall curve, at the same points each."""

    @property
    def recall(self) -> Sequence[float]:
        """From 0 to 1, ascending."""

    @property
    def precision(self) -> Sequence[float]:
        """At each recall, from 0 to 1."""


def look(number: int) -> Look:
    """The look of the method of that number, counted from 0; the first 28 differ."""
    dashes = _DASHES[(number + number // len(_COLOURS)) % len(_DASHES)]
    return Look(_COLOURS[number % len(_COLOURS)], dashes)


def precision_recall_plot(
    curves: Sequence[tuple[Look, Curve, tuple[float, float]]],
) -> str:
    """Precision against recall.

    Args:
        curves: of each method its look, its curve, and the recall and precision of its threshold.
    """
    from matplotlib import style

    with style.context(["default", _STYLE]):
        figure = _figure(3.5)
        axes = figure.subplots()
        for drawn, curve, (recall, precision) in curves:
            # Precision between two points of recall is that of the next threshold: a straight
            # line would promise what no threshold gives.
            _line(axes, drawn, curve.recall, curve.precision, steps=True)
            axes.plot(recall, precision, "o", color=drawn.colour, clip_on=False, zorder=3)
        _unit(axes, "recall", "precision")
        return _svg(figure, "pr")


def labels_plot(curves: Sequence[tuple[Look, Sequence[LabelsPoint]]], what: str) -> str:
    """F1 against the number of labels, with a band for its interval.

    Args:
        curves: of each method its look and its points.
        what: is labelled: lines or templates.
    """
    from matplotlib import style

    with style.context(["default", _STYLE]):
        figure = _figure(3.5)
        axes = figure.subplots()
        for drawn, points in curves:
            labels = [point.labels for point in points]
            low, high = [point.low for point in points], [point.high for point in points]
            axes.fill_between(labels, low, high, color=drawn.colour, alpha=0.12, linewidth=0)
            # Where there is one point alone, a band has no width.
            axes.vlines(labels, low, high, color=drawn.colour, alpha=0.5, linewidth=1)
            _line(axes, drawn, labels, [point.mean for point in points], marker="o")
        ticks = sorted({point.labels for _, points in curves for point in points})
        if ticks[0] > 0 and ticks[-1] >= 10 * ticks[0]:
            axes.set_xscale("log")
        axes.minorticks_off()
        shown = ticks[:: -(-len(ticks) // _TICKS)]
        axes.set_xticks(shown, [f"{tick:,}" for tick in shown])
        axes.set(xlabel=f"labelled {what}", ylabel="F1", ylim=(0, 1))
        return _svg(figure, "labels")


def reliability_plot(curves: Sequence[tuple[Look, Sequence[ReliabilityBin]]]) -> str:
    """The share of alerts against the score, and below it how many lines have such a score."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        figure = _figure(4.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
        above.plot([0, 1], [0, 1], color="#777777", linewidth=1, dashes=(4, 3))
        for drawn, bins in curves:
            scores = [each.score for each in bins]
            _line(above, drawn, scores, [each.alerts for each in bins], marker="o")
            _line(below, drawn, scores, [each.lines for each in bins], marker="o")
        _unit(above, "", "share of alerts")
        below.set(xlabel="score", ylabel="lines", yscale="log")
        below.minorticks_off()
        return _svg(figure, "reliability")


def _figure(height: float) -> Figure:
    """Small, so that its text is still readable where a phone shrinks it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(4.6, height), layout="constrained", facecolor="white")


def _line(
    axes: Axes,
    drawn: Look,
    across: Sequence[float],
    up: Sequence[float],
    *,
    marker: str = "",
    steps: bool = False,
) -> None:
    axes.plot(
        across,
        up,
        color=drawn.colour,
        linestyle=(0, drawn.dashes) if drawn.dashes else "solid",
        marker=marker,
        markersize=4,
        drawstyle="steps-pre" if steps else "default",
    )


def _unit(axes: Axes, across: str, up: str) -> None:
    """Both axes go from 0 to 1, with room for what lies on the edge."""
    axes.set(xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _svg(figure: Figure, name: str) -> str:
    """The figure as an element of a page, with ids that no other plot of the page has."""
    file = StringIO()
    # No date, and no version of matplotlib.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # Its one rule would hold for the whole page; the page's own style has it for plots.
    text = re.sub(r"<style.*?</style>", "", text, count=1, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
