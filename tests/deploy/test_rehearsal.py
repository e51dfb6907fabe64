"""Dashboards and alerts on a real agent, Kafka and Prometheus, under load and faults."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

from deploy.grafana.dashboards import build as build_dashboards
from deploy.prometheus.rules import build as build_rules
from deploy.prometheus.timing import QUICK
from deploy.rehearsal.answers import Answer, of_panels, of_rules, selectors
from deploy.rehearsal.world import Rehearsal, free_ports
from tests.conftest import absent

if TYPE_CHECKING:
    from pathlib import Path

#: An alert for each fault that is provoked.
FAULTS = {
    "CrosyslogAgentDown",
    "CrosyslogAnomalyStorm",
    "CrosyslogDeadLetters",
    "CrosyslogModelReloadFailed",
    "CrosyslogNotReady",
}


@pytest.mark.kafka
@pytest.mark.usefixtures("java_and_maven")
async def test_every_query_has_an_answer_and_each_fault_is_told_and_over(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        absent("Prometheus", "the program `prometheus` is not installed")
    answers: list[Answer] = []

    def look(rehearsal: Rehearsal) -> None:
        seen = rehearsal.seen
        ask = partial(rehearsal.prometheus.query_range, start=seen.began, end=seen.ended, step=1.0)
        answers.extend([*of_panels(ask), *of_rules(ask, QUICK)])

    said: list[str] = []
    seen = await Rehearsal(tmp_path, QUICK, free_ports(), said.append).run(look)

    asked = {answer.where for answer in answers}
    panels = {
        f"{name} / {panel['title']}"
        for name, dashboard in build_dashboards().items()
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }
    rules = {
        rule.get("record") or rule["alert"]
        for group in build_rules(QUICK)["groups"]
        for rule in group["rules"]
    }
    assert asked == panels | rules
    assert [answer for answer in answers if answer.last is None] == []
    assert seen.fired.keys() == FAULTS
    assert all(0 < fired < cleared for fired, cleared in seen.fired.values())


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up", {"up{}"}),
        ('sum(rate(a{b="c", d!~"e"}[5m])) by (f) > 3', {'a{b="c",d!~"e"}'}),
        ("(a offset 1h) / on (x) group_left () b{} unless c == 0", {"a{}", "b{}", "c{}"}),
        ("histogram_quantile(0.9, sum by (le) (rate(a_bucket[1m])))", {"a_bucket{}"}),
        ("max_over_time((a > 2)[1h:1m]) and absent(-b)", {"a{}", "b{}"}),
    ],
)
def test_every_selector_of_an_expression_is_found(expr: str, found: set[str]) -> None:
    assert set(selectors(expr)) == found
