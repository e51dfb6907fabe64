"""The dashboards: current, in Grafana's own form, and of metrics that exist."""

from __future__ import annotations

import copy
import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from agent.app import App
from agent.settings import load_settings
from crosyslog.embedding_cache import EmbeddingCache
from deploy.grafana.__main__ import main
from deploy.grafana.dashboards import build
from deploy.grafana.queries import PanelQuery, panel_queries, resolved

if TYPE_CHECKING:
    from collections.abc import Callable

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "grafana"
DASHBOARDS = build()
QUERIES = panel_queries(DASHBOARDS)
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
]
JOB, TOPIC = "the-job", "the-topic"

each_query = pytest.mark.parametrize(
    "query", [pytest.param(one, id=f"{one.dashboard}: {one.panel}") for one in QUERIES]
)
each_panel = pytest.mark.parametrize("panel", PANELS)


# --- The files ---


def test_the_files_are_those_that_are_made() -> None:
    assert main(["--check"]) == 0


def test_a_file_that_is_stale_missing_or_spare_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, boards = ["--folder", str(tmp_path)], tmp_path / "dashboards"
    assert main(folder) == 0
    assert main([*folder, "--check"]) == 0

    (boards / "overview.json").write_text("{}")
    (boards / "pipeline.json").unlink()
    (boards / "older.json").write_text("{}")

    assert main([*folder, "--check"]) == 1
    remedy = "run python -m deploy.grafana"
    assert capsys.readouterr().err.splitlines() == [
        f"{boards / 'pipeline.json'} is missing: {remedy}",
        f"{boards / 'older.json'} is made by nothing any more: {remedy}",
        f"{boards / 'overview.json'} is not current: {remedy}",
    ]


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dashboards").touch()
    assert main(["--folder", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'dashboards'}: File exists: name another --folder\n"
    )


def test_what_is_provisioned_is_what_the_dashboards_ask() -> None:
    read = {
        path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (FOLDER / "provisioning").rglob("*.yaml")
    }
    (source,) = read["datasources"]["datasources"]
    (provider,) = read["dashboards"]["providers"]

    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    for dashboard in DASHBOARDS.values():
        first = dashboard["templating"]["list"][0]
        assert (first["type"], first["query"]) == ("datasource", source["type"])


def test_the_rates_take_in_as_many_scrapes_as_grafana_means_to() -> None:
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "prometheus.yaml").read_text(encoding="utf-8")
    )["datasources"]
    scraping = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (agents,) = scraping["scrape_configs"]
    assert source["jsonData"]["timeInterval"] == agents["scrape_interval"]


# --- What an operator sees ---


def test_the_dashboards_have_names_of_their_own_and_lead_to_each_other() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert sorted(uids) == ["crosyslog-detection", "crosyslog-overview", "crosyslog-pipeline"]
    for dashboard in DASHBOARDS.values():
        (link,) = dashboard["links"]
        assert set(link["tags"]) <= set(dashboard["tags"])
        assert link["includeVars"]
        assert link["keepTime"]
        for panel in dashboard["panels"]:
            for more in panel.get("links", ()):
                assert more["url"].removeprefix("/d/").partition("?")[0] in uids


def test_each_dashboard_has_the_three_variables() -> None:
    for dashboard in DASHBOARDS.values():
        source, job, topic = dashboard["templating"]["list"]
        assert (source["name"], job["name"], topic["name"]) == ("datasource", "job", "topic")
        assert (topic["multi"], topic["includeAll"], topic["allValue"]) == (True, True, ".+")
        # The topics are those of the chosen job.
        assert '{job="$job"}' in topic["query"]


@each_panel
def test_every_panel_says_what_it_shows_and_in_what(panel: dict[str, Any]) -> None:
    # A word or two is no help to somebody who has been woken up.
    assert len(panel["description"]) > 40
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_panels_stand_side_by_side(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    squares = [
        {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        for place in (panel["gridPos"] for panel in panels)
    ]
    assert all(across < 24 for square in squares for across, _ in square)
    assert not any(one & other for one, other in combinations(squares, 2))
    # No hole, either: all rows are full.
    assert sum(map(len, squares)) == 24 * (1 + max(down for one in squares for _, down in one))


# --- The JSON is what Grafana expects ---

SCHEMA = Draft7Validator(
    json.loads((FOLDER / "schema" / "dashboard.schema.json").read_text(encoding="utf-8"))
)


def test_the_types_are_those_of_the_grafana_that_compose_runs() -> None:
    package = json.loads((FOLDER / "schema" / "package.json").read_text(encoding="utf-8"))
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    image = compose["services"]["grafana"]["image"]
    assert (
        image.partition(":")[2].split(".")[:2]
        == (package["dependencies"]["@grafana/schema"].split(".")[:2])
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_one_by_grafanas_own_types(name: str) -> None:
    assert [error.json_path for error in SCHEMA.iter_errors(DASHBOARDS[name])] == []


def _first(dashboard: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in dashboard["panels"] if one["type"] == kind)
    return found


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("overview.json", lambda one: one.update(rows=[])),
        ("overview.json", lambda one: one["templating"]["list"][0].update(type="source")),
        ("overview.json", lambda one: one["panels"][1].update(type="singlestat")),
        ("overview.json", lambda one: _first(one, "stat")["options"].pop("colorMode")),
        ("overview.json", lambda one: _first(one, "stat")["targets"][0].pop("expr")),
        (
            "overview.json",
            lambda one: _first(one, "timeseries")["options"]["legend"].update(displayMode="grid"),
        ),
        (
            "overview.json",
            lambda one: _first(one, "timeseries")["fieldConfig"]["defaults"]["custom"].update(a=1),
        ),
        ("overview.json", lambda one: _first(one, "state-timeline")["options"].pop("rowHeight")),
        (
            "detection.json",
            lambda one: _first(one, "heatmap")["options"]["color"].update(scale="cubic"),
        ),
    ],
)
def test_the_schema_refuses_what_grafana_does_not_know(
    name: str, spoil: Callable[[dict[str, Any]], None]
) -> None:
    spoiled = copy.deepcopy(DASHBOARDS[name])
    spoil(spoiled)
    assert not SCHEMA.is_valid(spoiled)


# --- The queries ---


def selectors(expr: str) -> list[promql_parser.VectorSelector]:
    """Every selector of a query; of one with a range, that inside."""
    found: list[promql_parser.VectorSelector] = []

    def visit(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)

    promql_parser.walk(promql_parser.parse(expr), visit)
    return found


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names under which Prometheus knows what an agent exports."""
    metrics = App(load_settings(flags={"kafka.topic": "x"})).metrics
    metrics.watch_cache(EmbeddingCache())
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {
        family.name + ending
        for family in metrics.registry.collect()
        for ending in endings.get(family.type, ("",))
    }


@each_query
def test_a_query_asks_for_what_an_agent_exports(query: PanelQuery, exported: set[str]) -> None:
    found = selectors(resolved(query.expr, job=JOB, topic=TOPIC, rate_interval="1m"))
    assert found
    assert {str(one.name) for one in found} <= exported


@each_query
def test_a_query_asks_for_the_chosen_job_and_topics(query: PanelQuery) -> None:
    found = selectors(resolved(query.expr, job=JOB, topic=TOPIC, rate_interval="1m"))
    matched = [{str(one) for one in selector.matchers.matchers} for selector in found]
    assert all(f'job="{JOB}"' in one for one in matched)
    # What has no topic itself is joined, each on its own, with what has.
    of_topics = sum(f'topic=~"{TOPIC}"' in one for one in matched)
    assert of_topics >= len(matched) / 2


def test_the_metrics_that_variables_are_read_from_exist(exported: set[str]) -> None:
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"]["list"][1:]:
            metric = variable["query"].removeprefix("label_values(").partition(",")[0]
            assert metric.partition("{")[0] in exported


def test_what_is_chosen_is_quoted() -> None:
    expr = 'up{job="$job", topic=~"$topic"}'
    assert resolved(expr, job='a"b', topic=r"web\.logs", rate_interval="1m") == (
        r'up{job="a\"b", topic=~"web\\.logs"}'
    )


def test_a_variable_that_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError, match="instance"):
        resolved('up{instance="$instance"}', job=JOB, topic=TOPIC, rate_interval="1m")
