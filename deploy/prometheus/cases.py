"""promtool's unit tests of the rules: each case says what fires, and holds all else to silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.prometheus.agent_cases import FAULTS_OF_AGENTS
from deploy.prometheus.delivery_cases import FAULTS_OF_DELIVERY
from deploy.prometheus.history_cases import OF_THE_PAST
from deploy.prometheus.lag_cases import FAULTS_OF_LAG
from deploy.prometheus.recorded_cases import RECORDED
from deploy.prometheus.rules import ALERTS, page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deploy.prometheus.simulated import Case, Fired

#: The cases of now, and those that need a day of past.
OF_NOW = (*FAULTS_OF_AGENTS, *FAULTS_OF_LAG, *FAULTS_OF_DELIVERY, *RECORDED)


def promtool_tests(cases: Sequence[Case], *, minutes: int, runbooks: str) -> dict[str, Any]:
    """A file of unit tests, for the rules in `rules.yml` beside it.

    Args:
        cases: what it holds.
        minutes: between two evaluations of the rules. A day of one-minute evaluations takes
            promtool many seconds.
        runbooks: comes before the page's name in `runbook_url`.
    """
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{minutes}m",
        # Alerts read what was recorded in the same minute.
        "group_eval_order": ["crosyslog-recording", "crosyslog-alerts"],
        "tests": [_test(case, runbooks) for case in cases],
    }


def _test(case: Case, runbooks: str) -> dict[str, Any]:
    last = max(case.fires)
    test: dict[str, Any] = {
        "name": case.name,
        "interval": "1m",
        "input_series": [dict(one) for one in case.series],
        "alert_rule_test": list(_alert_tests(case, runbooks)),
    }
    if case.values:
        test["promql_expr_test"] = [
            {
                # A sum of one series has no labels, so that the figure is all there is to say.
                "expr": f"sum({expr})",
                "eval_time": f"{last}m",
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for expr, value in case.values.items()
        ]
    return test


def _alert_tests(case: Case, runbooks: str) -> Iterator[dict[str, Any]]:
    for minute, fired in case.fires.items():
        for alert in ALERTS:
            expected = [_expected(one, runbooks) for one in fired if one.alert == alert]
            test = {"eval_time": f"{minute}m", "alertname": alert}
            yield {**test, "exp_alerts": expected} if expected else test


def _expected(fired: Fired, runbooks: str) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": fired.severity, **fired.labels},
        "exp_annotations": {
            "summary": fired.summary,
            "description": fired.description,
            "runbook_url": f"{runbooks}{page(fired.alert)}",
        },
    }


__all__ = ["OF_NOW", "OF_THE_PAST", "promtool_tests"]
