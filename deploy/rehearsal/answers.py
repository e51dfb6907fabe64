"""What every query of the dashboards and of the alerts answers over a rehearsal."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from deploy.grafana.dashboards import build as build_dashboards
from deploy.grafana.queries import panel_queries, resolved
from deploy.prometheus.rules import build as build_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deploy.prometheus.timing import Timing

JOB = "crosyslog-agent"

#: The window of a panel's rates: Grafana takes four scrapes and more.
RATE_INTERVAL = "8s"


class Answer(NamedTuple):
    """What a query answers over a time.

    Attributes:
        where: the dashboard and panel, or the alert or recording rule.
        expr: as it was asked.
        series: how many it gave.
        last: of the series with the last finite value, this value; none if no value was finite.
    """

    where: str
    expr: str
    series: int
    last: float | None


def of_panels(ask: Callable[[str], list[dict[str, Any]]]) -> list[Answer]:
    """The answers to the queries of all panels.

    Args:
        ask: the series of an expression over the time.
    """
    return [
        _answer(f"{query.dashboard} / {query.panel}", resolve(query.expr), ask)
        for query in panel_queries(build_dashboards())
    ]


def of_rules(ask: Callable[[str], list[dict[str, Any]]], timing: Timing) -> list[Answer]:
    """The answers to what the rules ask for: each selector of an alert, each recorded series.

    An alert's whole expression answers nothing while nothing is wrong, so what it selects is asked
    for.
    """
    found = []
    for group in build_rules(timing)["groups"]:
        for rule in group["rules"]:
            asked = {rule["record"]} if "record" in rule else set(selectors(rule["expr"]))
            name = rule.get("record") or rule["alert"]
            found += [_answer(name, expr, ask) for expr in sorted(asked)]
    return found


def resolve(expr: str) -> str:
    """A panel's expression as Prometheus alone understands it, for all topics."""
    return resolved(expr, job=JOB, topic=".*", rate_interval=RATE_INTERVAL)


def selectors(expr: str) -> Iterator[str]:
    """The vector selectors of an expression, without ranges and offsets."""
    import promql_parser

    waiting = [promql_parser.parse(expr)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, promql_parser.MatrixSelector):
            part = part.vector_selector
        if isinstance(part, promql_parser.VectorSelector):
            matchers = ",".join(
                f'{one.name}{_operator(one.op)}"{one.value}"' for one in part.matchers.matchers
            )
            yield f"{part.name or ''}{{{matchers}}}"
            continue
        inner = [getattr(part, name, None) for name in ("lhs", "rhs", "expr", "param")]
        inner += getattr(part, "args", None) or ()
        waiting += [one for one in inner if one is not None]


def _operator(op: Any) -> str:  # noqa: ANN401 - promql_parser has no types
    return {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}[str(op).rpartition(".")[2]]


def _answer(where: str, expr: str, ask: Callable[[str], list[dict[str, Any]]]) -> Answer:
    series = ask(expr)
    values = [
        (float(at), float(value))
        for one in series
        for at, value in one["values"]
        if isfinite(float(value))
    ]
    return Answer(where, expr, len(series), max(values)[1] if values else None)
