"""Every panel's query, asked of a real Prometheus that scrapes what agents export."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

import pytest

from crosyslog.errors import ToolMissingError
from deploy.grafana.dashboards import build
from deploy.grafana.queries import panel_queries, resolved
from deploy.prometheus.local_prometheus import LocalPrometheus
from deploy.prometheus.scraping import JOB
from tests.conftest import absent
from tests.deploy.grafana.two_agents import two_agents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.grafana.queries import PanelQuery

QUERIES = panel_queries(build())

each_query = pytest.mark.parametrize(
    "query", [pytest.param(one, id=f"{one.dashboard}: {one.panel}") for one in QUERIES]
)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPrometheus]:
    """One that has scraped two agents for long enough to tell a rate."""
    with two_agents(tmp_path_factory.mktemp("store")) as agents:
        try:
            started = LocalPrometheus(None, agents, scrape_seconds=0.25)
            with started as prometheus:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline and not all(
                    _can_be_drawn(asked(prometheus, one)) for one in QUERIES
                ):
                    time.sleep(0.5)
                yield prometheus
        except ToolMissingError as error:
            absent("prometheus", str(error))


def asked(
    prometheus: LocalPrometheus, query: PanelQuery, *, job: str = JOB, topic: str = ".+"
) -> dict[str, float]:
    """The values now, by the series' labels as JSON."""
    expr = resolved(query.expr, job=job, topic=topic, rate_interval="3s")
    return {
        json.dumps(one["metric"], sort_keys=True): float(one["value"][1])
        for one in prometheus.query(expr)
    }


def _can_be_drawn(values: dict[str, float]) -> bool:
    return bool(values) and all(map(math.isfinite, values.values()))


@each_query
def test_a_query_has_something_to_draw(query: PanelQuery, prometheus: LocalPrometheus) -> None:
    values = asked(prometheus, query)
    assert _can_be_drawn(values), values


@each_query
def test_what_is_not_chosen_is_not_drawn(query: PanelQuery, prometheus: LocalPrometheus) -> None:
    assert asked(prometheus, query, topic="other-logs") == {}
    assert asked(prometheus, query, job="another") == {}


def test_topics_are_told_apart(prometheus: LocalPrometheus) -> None:
    def values(panel: str, topic: str) -> dict[str, float]:
        (query,) = (one for one in QUERIES if one.panel == panel)
        return asked(prometheus, query, topic=topic)

    assert values("Agents", ".+") == {"{}": 2}
    assert values("Agents", "web-logs") == {"{}": 1}
    assert values("Agents not ready", "web-logs") == {"{}": 1}
    assert values("Agents not ready", "db-logs") == {"{}": 0}
    assert values("Lines waiting", "web-logs") == {"{}": 7}
    assert values("Lines waiting", "web-logs|db-logs") == {"{}": 14}
    assert values("Anomalous share of the lines", ".+") == pytest.approx(
        {'{"topic": "web-logs"}': 0.02, '{"topic": "db-logs"}': 0.02}
    )


def test_errors_are_named_and_none_is_a_zero(prometheus: LocalPrometheus) -> None:
    for panel in ("Errors, by stage and type", "Errors since the agents' start"):
        (query,) = (one for one in QUERIES if one.panel == panel)
        assert asked(prometheus, query, topic="db-logs") == {'{"stage": "none"}': 0}
        ((labels, value),) = asked(prometheus, query, topic="web-logs").items()
        assert json.loads(labels) == {"stage": "publish", "error_type": "OSError"}
        assert value > 0
