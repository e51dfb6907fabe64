"""The dashboard that is looked at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.expressions import (
    AGENTS,
    LAG,
    gauge,
    increase,
    largest,
    number,
    quantile,
    rate,
    share,
    total,
)
from deploy.grafana.panels import DETECTION, PIPELINE, Limit, Query, figure, graph, states

if TYPE_CHECKING:
    from deploy.grafana.panels import Panel

_READY = gauge("crosyslog_ready")
_LATENCY = "crosyslog_end_to_end_latency_seconds"


def rows() -> dict[str, list[Panel]]:
    """Its panels, row by row."""
    return {"Now": [*_agents(), *_work()], "Lines": _lines(), "Delivery": _delivery()}


def _agents() -> list[Panel]:
    return [
        figure(
            "Agents",
            "Agents that Prometheus reaches. Fewer than were started: the last line of the log of "
            "one that stopped says why.",
            Query(number(AGENTS), "agents"),
            unit="short",
        ),
        figure(
            "Agents not ready",
            "Agents whose /readyz is not green. Ask it: it says in a line what is missing "
            "(partitions, an answer of the brokers, a delivery that does not end).",
            Query(total(f"1 - {_READY}"), "agents"),
            unit="short",
            limits=[Limit(1, "red")],
        ),
        figure(
            "Model in use",
            "Target and version of the model. Not adapted means that it judges by the shipped "
            "base alone: label some lines and run `trainer adapt`, which makes a model that the "
            "agents take over by themselves. Two versions for longer than a minute: an agent has "
            "refused the newer one, see Reloads.",
            Query(
                largest(gauge("crosyslog_model_info"), "target", "version", "adapted"),
                "{{target}} {{version}} (adapted: {{adapted}})",
            ),
            unit="none",
            width=6,
            named=True,
            more=DETECTION,
        ),
    ]


def _work() -> list[Panel]:
    return [
        figure(
            "Lines scored a second",
            "Lines that were judged and delivered. 0 while the lag grows: see whether the agents "
            "are ready, then the errors.",
            Query(total(rate("crosyslog_lines_scored_total")), "lines/s"),
            unit="short",
            more=PIPELINE,
        ),
        figure(
            "Lines waiting",
            "Offsets between the end of the partitions and what is delivered. A number that only "
            "grows will not be caught up with: add agents, up to one a partition.",
            Query(total(LAG), "lines"),
            unit="short",
            more=PIPELINE,
        ),
        figure(
            "Dead letters, last hour",
            "Lines that could not be judged, in the topic of dead letters. Look at why (below), "
            "mend it, and send them back with `crosyslog-agent replay-dlq`.",
            Query(total(increase("crosyslog_dead_letters_total", "1h")), "lines"),
            unit="short",
            decimals=0,
            limits=[Limit(1, "orange")],
        ),
        figure(
            "Lines lost, last hour",
            "Offsets that the topic's retention removed before they were read: nobody will judge "
            "them. Raise the topic's retention, or add agents.",
            Query(total(increase("crosyslog_lost_offsets_total", "1h")), "lines"),
            unit="short",
            decimals=0,
            limits=[Limit(1, "red")],
        ),
    ]


def _lines() -> list[Panel]:
    return [
        graph(
            "Lines in and out",
            "Lines read, and lines judged and delivered. Out stays below in: the agents are at "
            "their limit, or wait for Kafka. Both fall to 0 while others write to the topic: see "
            "whether the agents are ready.",
            Query(total(rate("crosyslog_lines_received_total"), "topic"), "{{topic}} in"),
            Query(total(rate("crosyslog_lines_scored_total"), "topic"), "{{topic}} out"),
            unit="short",
            axis="lines/s",
            more=PIPELINE,
        ),
        graph(
            "Anomalous share of the lines",
            "What part of the judged lines is published as anomalous. A jump: read the events, "
            "something is wrong with the system, or it logs in a new way (then the share of novel "
            "lines jumps, too: adapt the model). 0 for long: see whether the model is adapted.",
            Query(
                share("crosyslog_anomalies_total", "crosyslog_lines_scored_total", "topic"),
                "{{topic}}",
            ),
            unit="percentunit",
            more=DETECTION,
        ),
        graph(
            "Lines waiting, by topic",
            "Offsets between the end of the partitions and what is delivered, and those of the "
            "partition that is furthest behind. All wait in one partition: its key is too "
            "frequent, or its owner is in trouble.",
            Query(total(LAG, "topic"), "{{topic}}"),
            Query(largest(LAG, "topic"), "{{topic}}, largest partition"),
            unit="short",
            axis="lines",
            more=PIPELINE,
        ),
        graph(
            "Latency, from a line's time in Kafka to the commit",
            "How old lines are when their events can be read. From 10 s on, more is waiting than "
            "a batch or two: see the lines that wait. After a start on old lines it is high until "
            "they are done.",
            *(
                Query(quantile(which, _LATENCY), f"{which:.0%} of the lines")
                for which in (0.5, 0.95, 0.99)
            ),
            unit="s",
            limits=[Limit(10, "orange")],
            more=PIPELINE,
        ),
    ]


def _delivery() -> list[Panel]:
    return [
        graph(
            "Dead letters, by reason",
            "Lines that could not be judged. oversized: raise batch.max_line_bytes. undecodable "
            "or missing-field: the topic holds other lines than the profile expects. null: the "
            "writer sends messages without a value. scoring: the model fails on the line, which "
            "is worth a report.",
            Query(total(increase("crosyslog_dead_letters_total"), "reason"), "{{reason}}"),
            unit="short",
            axis="lines",
            stacked=True,
        ),
        states(
            "Readiness, by agent",
            "Green while /readyz is green, red while it is not, and nothing while Prometheus does "
            "not reach the agent. Red now and then at a rebalance is routine. Red for minutes: "
            "ask /readyz why.",
            Query(largest(_READY, "topic", "instance"), "{{topic}} {{instance}}"),
            {1: ("ready", "green"), 0: ("not ready", "red")},
        ),
    ]
