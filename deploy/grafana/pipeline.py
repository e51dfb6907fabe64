"""The dashboard that tells where the time goes, what fails, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.expressions import (
    gauge,
    increase,
    largest,
    number,
    or_none,
    quantile,
    rate,
    total,
)
from deploy.grafana.panels import Limit, Query, figure, graph

if TYPE_CHECKING:
    from deploy.grafana.panels import Panel

_STAGES = "crosyslog_stage_duration_seconds"
_BATCHES = "crosyslog_batch_lines"
_DELAY = "crosyslog_loop_delay_seconds"
_BY_AGENT = "{{topic}} {{instance}}"


def rows() -> dict[str, list[Panel]]:
    """Its panels, row by row."""
    return {
        "Now": _now(),
        "Batches": _batches(),
        "Kafka": _kafka(),
        "Errors": _errors(),
        "Process": _process(),
    }


def _now() -> list[Panel]:
    return [
        figure(
            "Build",
            "Version of the program. Two while an update is rolled out; for longer: an agent was "
            "left behind.",
            Query(number(gauge("crosyslog_build_info"), "version"), "{{version}}"),
            unit="none",
            width=4,
            named=True,
        ),
        figure(
            "Last start of an agent",
            "How long ago. Minutes again and again: an agent ends and is started anew; the last "
            "line of its log before that says why.",
            Query(f"time() - {largest(gauge('process_start_time_seconds'))}", "ago"),
            unit="s",
            width=5,
        ),
        figure(
            "Batches a second",
            "Batches that were judged, by all agents together.",
            Query(total(rate(f"{_BATCHES}_count")), "batches/s"),
            unit="short",
            width=5,
        ),
        figure(
            "CPU of all agents",
            "Cores in use. Compare with what they may have: at the limit, add agents.",
            Query(total(rate("process_cpu_seconds_total")), "cores"),
            unit="short",
            width=5,
            decimals=2,
        ),
        figure(
            "Memory of the largest agent",
            "Resident. Compare with its limit: an agent that is killed for it starts anew and "
            "loses nothing, but does so again.",
            Query(largest(gauge("process_resident_memory_bytes")), "resident"),
            unit="bytes",
            width=5,
        ),
    ]


def _batches() -> list[Panel]:
    return [
        graph(
            "Time of a batch in each stage: half of the batches",
            "Which stage is slow in general. encode: templates that are not in the cache. commit "
            "and publish: Kafka. detect and mask: the CPU.",
            Query(quantile(0.5, _STAGES, "stage"), "{{stage}}"),
            unit="s",
            beside=True,
        ),
        graph(
            "Time of a batch in each stage: 95 % of the batches",
            "Which stage is slow now and then. A peak of encode after a start or an update of the "
            "system is a cold cache. A peak of commit: ask the brokers.",
            Query(quantile(0.95, _STAGES, "stage"), "{{stage}}"),
            unit="s",
            beside=True,
        ),
        graph(
            "Seconds of work in a second, by stage",
            "Where the time goes. decode to events run one after another in one thread for each "
            "agent: where their sum nears the number of agents, the agents are at their limit. "
            "publish and commit run beside it.",
            Query(total(rate(f"{_STAGES}_sum"), "stage"), "{{stage}}"),
            unit="s",
            stacked=True,
            beside=True,
        ),
        graph(
            "Lines of a batch",
            "Small batches: little to do, each is closed by batch.linger. The line is at 20,000, "
            "the default of batch.max_lines: batches of that size mean full load.",
            *(
                Query(quantile(which, _BATCHES), f"{which:.0%} of the batches")
                for which in (0.5, 0.95)
            ),
            unit="short",
            axis="lines",
            limits=[Limit(20_000, "blue")],
        ),
    ]


def _kafka() -> list[Panel]:
    return [
        graph(
            "Transactions, by result",
            "aborted: tried again, nothing is lost; many of them: look at the brokers. fenced: "
            "another agent has taken the partition over, as it should when this one stalled. None "
            "with at-least-once, where nothing is a transaction.",
            Query(total(rate("crosyslog_transactions_total"), "result"), "{{result}}"),
            unit="short",
            axis="transactions/s",
            colors={"committed": "green", "aborted": "orange", "fenced": "red"},
        ),
        graph(
            "Rebalances",
            "Times that partitions were assigned. Some at a start, a stop or an update. Again and "
            "again: an agent is killed or stalls past kafka.session_timeout; see CPU and memory. "
            "kafka.group_instance_id spares them at restarts.",
            Query(total(increase("crosyslog_rebalances_total"), "topic"), "{{topic}}"),
            unit="short",
            axis="assignments",
            stacked=True,
        ),
    ]


def _errors() -> list[Panel]:
    return [
        graph(
            "Errors, by stage and type",
            "Failures, most of which are tried again. reload: a model was refused. fetch, publish "
            "and commit: Kafka, or the rights there (`crosyslog-agent check` tells). The log has "
            "each with its text. The first of its kind since a start is seen beside, not here.",
            Query(
                or_none(total(rate("crosyslog_errors_total"), "stage", "error_type"), "stage"),
                "{{stage}} {{error_type}}",
            ),
            unit="short",
            axis="errors/s",
        ),
        figure(
            "Errors since the agents' start",
            "What has failed at all, once included. The log has each with its text.",
            Query(
                or_none(total(gauge("crosyslog_errors_total"), "stage", "error_type"), "stage"),
                "{{stage}} {{error_type}}",
            ),
            unit="short",
            width=12,
            height=8,
            decimals=0,
            limits=[Limit(1, "orange")],
        ),
    ]


def _process() -> list[Panel]:
    return [
        graph(
            "CPU, by agent",
            "Cores in use. One agent far above the others: its partitions have more lines.",
            Query(total(rate("process_cpu_seconds_total"), "topic", "instance"), _BY_AGENT),
            unit="short",
            axis="cores",
            width=8,
        ),
        graph(
            "Memory, by agent",
            "Resident. It does not grow with the number of lines: if it does not settle after the "
            "start, that is worth a report. batch.max_lines and encoder.cache_entries set it.",
            Query(largest(gauge("process_resident_memory_bytes"), "topic", "instance"), _BY_AGENT),
            unit="bytes",
            width=8,
        ),
        graph(
            "Delay of the event loop, 99 %, by agent",
            "How late the loop that talks to Kafka comes back to a task. Above a tenth of a "
            "second: too little CPU for the agent. Near kafka.session_timeout it loses its "
            "partitions.",
            Query(quantile(0.99, _DELAY, "topic", "instance"), _BY_AGENT),
            unit="s",
            limits=[Limit(0.1, "orange")],
            width=8,
        ),
    ]
