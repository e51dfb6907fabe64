"""The dashboards as JSON, as Grafana reads it."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.grafana import detection, overview, pipeline
from deploy.grafana.panels import DATASOURCE, DETECTION, OVERVIEW, PIPELINE
from deploy.grafana.sdk import JSONEncoder, dashboard, dashboard_models

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deploy.grafana.panels import Panel

_TAG = "crosyslog"


class _Content(NamedTuple):
    uid: str
    title: str
    description: str
    rows: Mapping[str, Iterable[Panel]]


_CONTENTS = {
    "overview.json": _Content(
        OVERVIEW,
        "CroSysLog: overview",
        "Is it well: are lines read, judged and delivered, how fast, and what is found?",
        overview.rows(),
    ),
    "detection.json": _Content(
        DETECTION,
        "CroSysLog: detection",
        "Is what it finds to be trusted: do the lines still look like those it was adapted on?",
        detection.rows(),
    ),
    "pipeline.json": _Content(
        PIPELINE,
        "CroSysLog: pipeline",
        "Where does the time go, what fails, and what does it cost?",
        pipeline.rows(),
    ),
}


def build() -> dict[str, dict[str, Any]]:
    """Each dashboard's file name and content."""
    return {name: _built(content) for name, content in _CONTENTS.items()}


def _built(content: _Content) -> dict[str, Any]:
    board = (
        dashboard.Dashboard(content.title)
        .uid(content.uid)
        .description(content.description)
        .tags([_TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(dashboard_models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("CroSysLog")
            .type(dashboard_models.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            _variable("job", "Job", "label_values(crosyslog_agent_info, job)").description(
                "The agents' job in Prometheus's scrape configuration."
            )
        )
        .with_variable(
            _variable("topic", "Topic", 'label_values(crosyslog_agent_info{job="$job"}, topic)')
            .description("The topics that are read.")
            .multi(True)
            .include_all(True)
            .all_value(".+")
            .current(dashboard_models.VariableOption(text=["All"], value=["$__all"]))
        )
    )
    ids = count(1)
    for title, panels in content.rows.items():
        board.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            board.with_panel(panel.id(next(ids)))
    built: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for variable in built["templating"]["list"]:
        # Of variables that are intervals alone; the SDK gives them to all.
        for name in ("auto", "auto_min", "auto_count"):
            variable.pop(name, None)
    for links in (built["links"], *(panel.get("links", ()) for panel in built["panels"])):
        for link in links:
            # The SDK's default would hide it in a menu.
            link.pop("placement", None)
    return built


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(DATASOURCE)
        # So that a topic that was read in the time shown can be chosen, too.
        .refresh(dashboard_models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard_models.VariableSort.ALPHABETICAL_ASC)
    )
