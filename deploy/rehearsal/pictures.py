"""Pictures of the dashboards, drawn from what a Prometheus answers to their queries.

No Grafana: each panel's queries over the time of a rehearsal, in the places that the panels have.
"""

from __future__ import annotations

import re
from itertools import accumulate
from math import isfinite, log1p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    Ask = Callable[[str], list[dict[str, Any]]]

#: Grafana's grid: columns of a page; and in inches the page, a row of the grid, and the title.
_COLUMNS, _WIDTH, _ROW, _TITLE = 24, 15, 0.42, 0.5

#: Lines of a panel's legend; more would cover it.
_MOST_NAMES = 8

#: A series without a value for this long is over.
_ENDED_SECONDS = 5.0

_TEXT, _GRID = "#24292e", "#e4e7eb"


def draw(
    dashboard: Mapping[str, Any],
    ask: Ask,
    resolve: Callable[[str], str],
    happenings: Sequence[tuple[float, str]],
    began: float,
    path: Path,
) -> None:
    """Draws a dashboard.

    Args:
        dashboard: as Grafana reads it.
        ask: the series of an expression over the time of the picture.
        resolve: an expression without Grafana's variables.
        happenings: what was provoked, by Unix seconds.
        began: Unix seconds of the picture's left edge.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    panels = [one for one in dashboard["panels"] if one["type"] != "row"]
    starts = sorted({one["gridPos"]["y"] for one in panels})
    # Without the headings of rows, what is below moves up.
    heights = {
        at: max(p["gridPos"]["h"] for p in panels if p["gridPos"]["y"] == at) for at in starts
    }
    tops = dict(zip(starts, accumulate((heights[at] for at in starts), initial=0), strict=False))
    rows = sum(heights.values())
    inches = rows * _ROW + _TITLE
    figure = Figure(figsize=(_WIDTH, inches), dpi=90, facecolor="white")
    figure.text(0.01, 1 - 0.3 / inches, f"{dashboard['title']}: a rehearsal", fontsize=13)
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / _COLUMNS, place["w"] / _COLUMNS
        below = rows - tops[place["y"]] - place["h"]
        axes = figure.add_axes(
            (
                left + 0.035,
                (below * _ROW + 0.3) / inches,
                width - 0.045,
                (place["h"] * _ROW - 0.65) / inches,
            )
        )
        axes.set_title(panel["title"], loc="left", fontsize=9, color=_TEXT)
        axes.tick_params(labelsize=7, colors=_TEXT)
        for spine in axes.spines.values():
            spine.set_color(_GRID)
        _draw_panel(axes, panel, ask, resolve, happenings, began)
    figure.savefig(path)


def _draw_panel(
    axes: Axes,
    panel: Mapping[str, Any],
    ask: Ask,
    resolve: Callable[[str], str],
    happenings: Sequence[tuple[float, str]],
    began: float,
) -> None:
    found: list[tuple[str, list[tuple[float, float]]]] = []
    for target in panel["targets"]:
        for series in ask(resolve(target["expr"])):
            values = [
                (float(at) - began, float(value))
                for at, value in series["values"]
                if isfinite(float(value))
            ]
            if values:
                found.append((_name(target.get("legendFormat", ""), series["metric"]), values))
    if panel["type"] in {"stat", "gauge"}:
        _write(axes, found)
    elif panel["type"] == "heatmap":
        _shade(axes, found)
    else:
        for number, (name, values) in enumerate(sorted(found)):
            label = name if number < _MOST_NAMES else None
            axes.plot(*zip(*values, strict=True), label=label, linewidth=1.1)
        for at, _ in happenings:
            axes.axvline(at - began, color=_GRID, linewidth=0.8, zorder=0)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.grid(visible=True, color=_GRID, linewidth=0.5)
        if any(name for name, _ in found):
            axes.legend(fontsize=6, loc="upper left", framealpha=0.6, edgecolor="none")


def _write(axes: Axes, found: list[tuple[str, list[tuple[float, float]]]]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    last = max((values[-1][0] for _, values in found), default=0.0)
    # What is there at the end.
    found = [one for one in found if one[1][-1][0] > last - _ENDED_SECONDS]
    for number, (name, values) in enumerate(found[:3]):
        value = values[-1][1]
        said = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + (f"  {name}" if name else "")
        height = 1 - (number + 0.5) / min(len(found), 3)
        axes.text(0.5, height, said, ha="center", va="center", fontsize=12, color=_TEXT)


def _shade(axes: Axes, found: list[tuple[str, list[tuple[float, float]]]]) -> None:
    """A histogram over time: counts by bucket, a row each."""
    found = sorted(found, key=lambda one: _bound(one[0]))
    below: dict[float, float] = {}
    for row, (_, values) in enumerate(found):
        counts = [value - below.get(at, 0.0) for at, value in values]
        below = dict(values)
        axes.scatter(
            [at for at, _ in values], [row] * len(values), c=[log1p(max(0.0, n)) for n in counts],
            cmap="Blues", vmin=0, vmax=6, marker="s", s=40, linewidths=0,
        )  # fmt: skip
    axes.set_yticks(range(len(found)), [name for name, _ in found], fontsize=6)


def _bound(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return float("inf")


def _name(legend: str, metric: Mapping[str, str]) -> str:
    if legend in {"", "__auto"}:
        return ", ".join(value for key, value in metric.items() if key not in {"__name__", "job"})
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: metric.get(found[1], ""), legend)
