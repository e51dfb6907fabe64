"""The queries of the dashboards' panels, read off their JSON."""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class PanelQuery(NamedTuple):
    """What one panel asks Prometheus.

    Attributes:
        dashboard: the file's name.
        panel: its title.
        expr: the PromQL, with Grafana's variables in it.
        instant: whether it asks for the value of now alone.
        kind: the panel's type, as Grafana calls it.
    """

    dashboard: str
    panel: str
    expr: str
    instant: bool
    kind: str


def panel_queries(dashboards: Mapping[str, dict[str, Any]]) -> list[PanelQuery]:
    """Every query of every panel, in the order of the dashboards.

    Args:
        dashboards: file names, and the JSON.
    """
    return [
        PanelQuery(
            name, panel["title"], target["expr"], target.get("instant", False), panel["type"]
        )
        for name, dashboard in dashboards.items()
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


def resolved(expr: str, *, job: str, topic: str, rate_interval: str) -> str:
    """The expression without Grafana's variables, so that Prometheus alone understands it.

    Args:
        expr: as it stands in a panel.
        job: of the agents.
        topic: a regular expression of topics, as PromQL's `=~` takes it.
        rate_interval: such as `1m`.

    Raises:
        KeyError: it names a variable that is not one of these.
    """
    return Template(expr).substitute(
        job=_quoted(job), topic=_quoted(topic), __rate_interval=rate_interval
    )


def _quoted(value: str) -> str:
    """A value as it stands between double quotes in PromQL."""
    return value.replace("\\", "\\\\").replace('"', '\\"')
