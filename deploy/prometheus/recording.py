"""Recording rules: what the agents of a topic do together, by job and topic.

A name says of what and how: `job_topic:crosyslog_anomalies:rate`. A share of nothing is left out,
and not recorded as NaN, which would be NaN in every average over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.prometheus.timing import duration

if TYPE_CHECKING:
    from deploy.prometheus.timing import Timing

RECEIVED = "job_topic:crosyslog_lines_received:rate"
SCORED = "job_topic:crosyslog_lines_scored:rate"
ANOMALIES = "job_topic:crosyslog_anomalies:rate"
ANOMALY_SHARE = "job_topic:crosyslog_anomalies:share"
ANOMALIES_AT_ALL = "job_topic:crosyslog_anomalies:any"
NOVEL = "job_topic:crosyslog_novel_lines:rate"
NOVEL_SHARE = "job_topic:crosyslog_novel_lines:share"
CACHE_HIT_SHARE = "job_topic:crosyslog_embedding_cache_hits:share"
CACHE_MISSES = "job_topic:crosyslog_embedding_cache_misses:rate"
CACHE_MISSES_A_LINE = "job_topic:crosyslog_embedding_cache_misses:per_line"
LAG = "job_topic:crosyslog_consumer_lag_lines:sum"
LAG_OF_AGENT = "job_instance_topic:crosyslog_consumer_lag_lines:sum"
LATENCY = "job_topic:crosyslog_end_to_end_latency_seconds:p99"
DEAD_LETTERS = "job_topic_reason:crosyslog_dead_letters:rate"
READY = "job_instance_topic:crosyslog_ready:avg"


def by_topic(expr: str, *labels: str, within: float) -> str:
    """Sums what agents tell of themselves by job, the topic that they read, and more labels.

    A scrape that fails ends all series of an agent at once. The window of a rate reaches beyond
    that, and so must the topic: else each restart of a topic's only agent ends what is recorded,
    and every alert that waits begins anew.

    An agent has one topic; `topk` sees to it that one which changed it for another has one, too,
    for two would make the whole rule fail.

    Args:
        expr: what agents tell.
        labels: beside job and topic.
        within: the window of `expr`, in seconds.
    """
    info = f"last_over_time(crosyslog_agent_info[{duration(within)}])"
    return (
        f"sum by ({', '.join(('job', 'topic', *labels))}) (\n"
        f"  {expr}\n"
        f"  * on (job, instance) group_left (topic) topk by (job, instance) (1, {info})\n"
        ")"
    )


def recording_rules(timing: Timing) -> list[dict[str, str]]:
    """The rules, in the order in which they are evaluated: a later one may use an earlier."""
    rate, ready, silence = (duration(one) for one in (timing.rate, timing.ready, timing.silence))
    moving = f"max_over_time({SCORED}[{duration(timing.moves)}]"
    flowed = f"and {moving}) > 0\n" + "\n".join(
        f"and {moving} offset {duration(timing.silence * part)}) > 0"
        for part in (0.25, 0.5, 0.75, 1)
    )

    def rate_of(metric: str, *labels: str) -> str:
        return by_topic(f"rate({metric}[{rate}])", *labels, within=timing.rate)

    hits = rate_of("crosyslog_embedding_cache_hits_total")
    expressions = {
        RECEIVED: rate_of("crosyslog_lines_received_total"),
        SCORED: rate_of("crosyslog_lines_scored_total"),
        ANOMALIES: rate_of("crosyslog_anomalies_total"),
        ANOMALY_SHARE: f"{ANOMALIES} / ({SCORED} > 0)",
        # Where lines flowed all the time, and an agent was there to read them: a window with a
        # night in it says nothing of how usual anomalies are, and is not silent.
        ANOMALIES_AT_ALL: f"(max_over_time({ANOMALIES}[{silence}]) > bool 0)\n{flowed}",
        NOVEL: rate_of("crosyslog_novel_lines_total"),
        NOVEL_SHARE: f"{NOVEL} / ({SCORED} > 0)",
        CACHE_MISSES: rate_of("crosyslog_embedding_cache_misses_total"),
        # Templates that the model knows already are not looked up, so few look-ups are left once
        # an agent is warm, and most of those are misses. The load is misses a line.
        CACHE_MISSES_A_LINE: f"{CACHE_MISSES} / ({RECEIVED} > 0)",
        CACHE_HIT_SHARE: f"{hits}\n/ (\n  {hits}\n  + {CACHE_MISSES} > 0\n)",
        # While a partition changes hands, both agents may tell of it.
        LAG: "sum by (job, topic) (max by (job, topic, partition) (crosyslog_consumer_lag_lines))",
        LAG_OF_AGENT: "sum by (job, instance, topic) (crosyslog_consumer_lag_lines)",
        # No lines, no latency: the comparison drops NaN.
        LATENCY: "histogram_quantile(0.99, "
        + rate_of("crosyslog_end_to_end_latency_seconds_bucket", "le")
        + ") >= 0",
        DEAD_LETTERS: rate_of("crosyslog_dead_letters_total", "reason"),
        # An agent that crashes again and again is found by what it told while it ran.
        READY: by_topic(
            f"avg_over_time(crosyslog_ready[{ready}])",
            "instance",
            within=timing.ready,
        ),
    }
    return [{"record": name, "expr": expr} for name, expr in expressions.items()]
