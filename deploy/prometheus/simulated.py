"""Series of simulated agents, as promtool's unit tests take them: one sample a minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.prometheus.scraping import JOB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AGENT, OTHER = "agent-1:9464", "agent-2:9464"
TOPIC = "web-logs"

_INFO = 'crosyslog_agent_info{topic="TOPIC",group="crosyslog-TOPIC"}'

#: The keys of series, as the cases name them.
METRICS = {
    "up": "up",
    "info": _INFO,
    "ready": "crosyslog_ready",
    "start": "process_start_time_seconds",
    "received": "crosyslog_lines_received_total",
    "scored": "crosyslog_lines_scored_total",
    "anomalies": "crosyslog_anomalies_total",
    "novel": "crosyslog_novel_lines_total",
    "hits": "crosyslog_embedding_cache_hits_total",
    "misses": "crosyslog_embedding_cache_misses_total",
    "null": 'crosyslog_dead_letters_total{reason="null"}',
    "oversized": 'crosyslog_dead_letters_total{reason="oversized"}',
    "committed": 'crosyslog_transactions_total{result="committed"}',
    "aborted": 'crosyslog_transactions_total{result="aborted"}',
    "fenced": 'crosyslog_transactions_total{result="fenced"}',
    "taken": 'crosyslog_model_reloads_total{result="taken"}',
    "refused": 'crosyslog_model_reloads_total{result="refused"}',
    "lag": 'crosyslog_consumer_lag_lines{topic="TOPIC",partition="PARTITION"}',
    "fast": 'crosyslog_end_to_end_latency_seconds_bucket{le="0.1"}',
    "slow": 'crosyslog_end_to_end_latency_seconds_bucket{le="1.0"}',
    "any_latency": 'crosyslog_end_to_end_latency_seconds_bucket{le="+Inf"}',
}

#: Those that count nothing where nothing is wrong and no model is new.
FAULTS = ("null", "oversized", "aborted", "fenced", "taken", "refused")


@dataclass(frozen=True)
class Fired:
    """An alert as Alertmanager would get it, but for the runbook, which all have."""

    alert: str
    severity: str
    labels: Mapping[str, str]
    summary: str
    description: str


@dataclass(frozen=True)
class Case:
    """One unit test: what agents tell, and what fires.

    Attributes:
        name: what happens.
        series: what is scraped.
        fires: what fires at each of some minutes; all other alerts stay silent then.
        values: what expressions come to at the last of these minutes: one figure of all series.
    """

    name: str
    series: Sequence[Mapping[str, str]]
    fires: Mapping[int, Sequence[Fired]]
    values: Mapping[str, float] | None = None


def silent_at(*minutes: int) -> dict[int, Sequence[Fired]]:
    """For `Case.fires`: nothing fires at these minutes."""
    return dict.fromkeys(minutes, ())


def counter(*stretches: tuple[int, float]) -> str:
    """A counter from 0 that grows by so much a minute, for so many minutes at a time."""
    parts, value = ["0"], 0.0
    for minutes, step in stretches:
        parts.append(f"{value + step:g}+{step:g}x{minutes - 1}")
        value += minutes * step
    return " ".join(parts)


def level(*stretches: tuple[int, float | None]) -> str:
    """A gauge that stays at a value for so many samples; none for samples that are missing."""
    return " ".join(
        f"_x{samples}" if value is None else f"{value:g}+0x{samples - 1}"
        for samples, value in stretches
    )


def agent(
    minutes: int,
    changes: Mapping[str, str | None] | None = None,
    *,
    instance: str = AGENT,
    topic: str = TOPIC,
    partition: int = 0,
    job: str = JOB,
    **changed: str | None,
) -> list[dict[str, str]]:
    """An agent with nothing wrong but what is changed: 100 lines a second, 0.1 % anomalous.

    Args:
        minutes: how long it is watched.
        changes: as `changed`, where many keys change alike.
        instance: its address.
        topic: what it reads.
        partition: the one that it has.
        job: what Prometheus calls it.
        changed: the values of series by their key in `METRICS`; none for a series not there.
    """
    values: dict[str, str | None] = {
        "up": level((minutes + 1, 1)),
        "info": level((minutes + 1, 1)),
        "ready": level((minutes + 1, 1)),
        "start": level((minutes + 1, 1)),
        "received": counter((minutes, 6000)),
        "scored": counter((minutes, 6000)),
        "anomalies": counter((minutes, 6)),
        "novel": counter((minutes, 60)),
        "hits": counter((minutes, 54)),
        "misses": counter((minutes, 6)),
        "committed": counter((minutes, 60)),
        "lag": level((minutes + 1, 20)),
        "fast": counter((minutes, 5940)),
        "slow": counter((minutes, 6000)),
        "any_latency": counter((minutes, 6000)),
    }
    values |= dict.fromkeys(FAULTS, level((minutes + 1, 0)))
    changed |= changes or {}
    unknown = changed.keys() - METRICS.keys()
    if unknown:
        raise KeyError(f"no series has the key {', '.join(sorted(unknown))}")
    values |= changed
    place = f'job="{job}",instance="{instance}"'
    return [
        {"series": _named(METRICS[key], place, topic, partition), "values": text}
        for key, text in values.items()
        if text is not None
    ]


def dying(every: int, lives: int, lag: str) -> list[dict[str, str]]:
    """An agent that is gone in the last of so many minutes, again and again, and counts from 0."""

    def until(values: str) -> str:
        return " ".join([f"{values} stale"] * lives)

    there = until(level((every - 1, 1)))
    ended: dict[str, str | None] = {
        key: until(counter((every - 2, 3000)))
        for key in METRICS.keys() - {"up", "info", "ready", "start", "lag", *FAULTS}
    }
    return agent(
        every * lives,
        {**ended, **dict.fromkeys(FAULTS, until(level((every - 1, 0))))},
        up=" ".join([level((every - 1, 1), (1, 0))] * lives),
        info=there,
        ready=there,
        start=" ".join(f"{level((every - 1, life))} stale" for life in range(lives)),
        lag=lag,
    )


def _named(metric: str, place: str, topic: str, partition: int) -> str:
    name, _, labels = metric.rstrip("}").partition("{")
    labels = labels.replace("TOPIC", topic).replace("PARTITION", str(partition))
    return f"{name}{{{','.join(filter(None, (place, labels)))}}}"
