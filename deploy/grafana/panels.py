"""The kinds of panels, each drawn the same way wherever it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.grafana.sdk import (
    common,
    common_models,
    dashboard,
    dashboard_models,
    heatmap,
    heatmap_models,
    prometheus,
    prometheus_models,
    stat,
    statetimeline,
    timeseries,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: All panels read from the data source that the variable of that name chooses.
DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")

#: The dashboards' names in addresses, which links and bookmarks rely on.
OVERVIEW, DETECTION, PIPELINE = "crosyslog-overview", "crosyslog-detection", "crosyslog-pipeline"

#: Takes the time range and what is chosen along to another dashboard.
_KEPT = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${topic:queryparam}"

#: Any of the SDK's panels: they share no class of their own.
Panel = Any


class Query(NamedTuple):
    """What a panel asks.

    Attributes:
        expr: the PromQL.
        legend: how a series is called, with labels in braces.
    """

    expr: str
    legend: str


class Limit(NamedTuple):
    """From this value on, a panel changes its colour."""

    value: float
    color: str


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    axis: str = "",
    width: int = 12,
    limits: Sequence[Limit] = (),
    colors: Mapping[str, str] | None = None,
    stacked: bool = False,
    steps: bool = False,
    beside: bool = False,
    highest: float | None = None,
    more: str = "",
) -> Panel:
    """Series over time.

    Args:
        title: of the panel.
        description: what it shows, and what to do where it looks bad.
        queries: what is drawn.
        unit: Grafana's name of the unit.
        axis: what the numbers are, where the unit does not say it.
        width: in Grafana's columns, of which there are 24.
        limits: values to draw a dashed line at.
        colors: of series, by what the legend calls them.
        stacked: bars on top of each other, for counts of what is rare or adds up.
        steps: no slope between two values, for counts of things.
        beside: the legend stands beside the graph, for many series.
        highest: the end of the axis.
        more: uid of the dashboard that tells more.
    """
    panel = (
        timeseries.Panel()
        .height(8)
        .min(0)
        .show_points(common_models.VisibilityMode.AUTO)
        .line_width(1)
        .fill_opacity(10)
        .axis_label(axis)
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(
                common_models.LegendPlacement.RIGHT
                if beside
                else common_models.LegendPlacement.BOTTOM
            )
            .calcs(["lastNotNull", "max"])
        )
    )
    if highest is not None:
        panel.max(highest)
    if stacked:
        panel.draw_style(common_models.GraphDrawStyle.BARS).fill_opacity(70).stacking(
            common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")
        )
    if steps:
        panel.line_interpolation(common_models.LineInterpolation.STEP_AFTER)
    if limits:
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    for name, color in (colors or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(name, [dashboard_models.DynamicConfigValue("color", fixed)])
    _limit(panel, limits, "transparent")
    return _common(panel, title, description, queries, unit=unit, width=width, more=more)


def figure(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    width: int = 3,
    height: int = 4,
    limits: Sequence[Limit] = (),
    decimals: int | None = None,
    named: bool = False,
    more: str = "",
) -> Panel:
    """What holds now, large.

    Args:
        title: of the panel.
        description: what it shows, and what to do where it looks bad.
        queries: what is shown.
        unit: Grafana's name of the unit.
        width: in Grafana's columns.
        height: in Grafana's rows.
        limits: values from which on it is shown in another colour.
        decimals: digits behind the point.
        named: shows what the legend says, and no number.
        more: uid of the dashboard that tells more.
    """
    panel = (
        stat.Panel()
        .height(height)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_scheme(dashboard.FieldColor().mode(dashboard_models.FieldColorModeId.THRESHOLDS))
    )
    if named:
        panel.text_mode(common_models.BigValueTextMode.NAME)
    if decimals is not None:
        panel.decimals(decimals)
    _limit(panel, limits, "green" if limits else "text")
    return _common(
        panel, title, description, queries, unit=unit, width=width, more=more, instant=True
    )


def spread(title: str, description: str, query: Query, *, unit: str, width: int = 24) -> Panel:
    """A histogram over time: the darker, the more values.

    Args:
        title: of the panel.
        description: what it shows, and what to do where it looks bad.
        query: the buckets; its legend is the bound of each.
        unit: Grafana's name of the unit of a value.
        width: in Grafana's columns.
    """
    panel = (
        heatmap.Panel()
        .height(9)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            # Nearly all lines are routine: the few high scores have to be seen beside them.
            .exponent(0.3)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common_models.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("short"))
        .tooltip(
            heatmap.HeatmapTooltip().mode(common_models.TooltipDisplayMode.SINGLE).y_histogram(True)
        )
    )
    return _common(panel, title, description, (query,), unit=unit, width=width)


def states(
    title: str,
    description: str,
    query: Query,
    names: Mapping[int, tuple[str, str]],
    *,
    width: int = 12,
) -> Panel:
    """One bar a series, coloured by its state.

    Args:
        title: of the panel.
        description: what it shows, and what to do where it looks bad.
        query: what is shown.
        names: of each state, and its colour.
        width: in Grafana's columns.
    """
    mapping = dashboard_models.ValueMap(
        options={
            str(value): dashboard_models.ValueMappingResult(text=text, color=color, index=place)
            for place, (value, (text, color)) in enumerate(names.items())
        }
    )
    panel = (
        statetimeline.Panel()
        .height(8)
        .mappings([mapping])
        .merge_values(True)
        .show_value(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
    )
    return _common(panel, title, description, (query,), unit="none", width=width)


def _limit(panel: Panel, limits: Sequence[Limit], below: str) -> None:
    panel.thresholds(
        dashboard.ThresholdsConfig()
        .mode(dashboard_models.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                dashboard_models.Threshold(value=None, color=below),
                *(dashboard_models.Threshold(value=one.value, color=one.color) for one in limits),
            ]
        )
    )


def _common(
    panel: Panel,
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    width: int,
    more: str = "",
    instant: bool = False,
) -> Panel:
    """What every panel has."""
    panel.title(title).description(description).datasource(DATASOURCE).unit(unit).span(width)
    if more:
        link = dashboard.DashboardLink("More of this").url(f"/d/{more}?{_KEPT}")
        panel.links([link.type(dashboard_models.DashboardLinkType.LINK)])
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = (
            prometheus.Dataquery()
            .ref_id(letter)
            .datasource(DATASOURCE)
            .expr(query.expr)
            .legend_format(query.legend)
        )
        if isinstance(panel, heatmap.Panel):
            target.format(prometheus_models.PromQueryFormat.HEATMAP)
        panel.with_target(target.instant() if instant else target.range())
    return panel
