"""The dashboard that tells whether what is found is to be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.expressions import (
    buckets,
    gauge,
    increase,
    mean,
    number,
    rate,
    share,
    total,
)
from deploy.grafana.panels import Limit, Query, graph, spread

if TYPE_CHECKING:
    from deploy.grafana.panels import Panel

_HITS = total(rate("crosyslog_embedding_cache_hits_total"), "topic")
_MISSES = total(rate("crosyslog_embedding_cache_misses_total"), "topic")
_BY_TOPIC = "{{topic}}"


def rows() -> dict[str, list[Panel]]:
    """Its panels, row by row."""
    return {
        "Scores": _scores(),
        "What is found": _found(),
        "Does the model still fit": _drift(),
        "Model and cache": _model(),
    }


def _scores() -> list[Panel]:
    return [
        spread(
            "Scores of the lines",
            "How many lines a second have which score, 0 to 1. Most belong into the lowest band. "
            "A dark band in the middle: lines that the model is not sure about, and worth a round "
            "of `trainer label`.",
            Query(buckets("crosyslog_score"), "{{le}}"),
            unit="short",
        ),
    ]


def _found() -> list[Panel]:
    return [
        graph(
            "Anomalies, by topic",
            "Lines at or above the threshold, which are published as events. More than anybody "
            "reads: label the most frequent ones, and adapt the model.",
            Query(total(rate("crosyslog_anomalies_total"), "topic"), _BY_TOPIC),
            unit="short",
            axis="lines/s",
        ),
        graph(
            "Mean score, by topic",
            "It moves where the lines change, and no score has to reach the threshold for that. A "
            "step at the time of a reload comes from the model; any other comes from the lines: "
            "see whether the novel share moved, too.",
            Query(mean("crosyslog_score", "topic"), _BY_TOPIC),
            unit="short",
        ),
    ]


def _drift() -> list[Panel]:
    return [
        graph(
            "Novel share of the lines",
            "Lines unlike all that the model was adapted on. A rise that stays: the system logs "
            "in a new way, for instance since an update. Label some of the new lines and adapt "
            "the model.",
            Query(
                share("crosyslog_novel_lines_total", "crosyslog_lines_scored_total", "topic"),
                _BY_TOPIC,
            ),
            unit="percentunit",
        ),
        graph(
            "Unsplit share of the lines",
            "Lines that the system's profile could not split, and that are judged whole, header "
            "and all. Above a tenth: the profile is another system's; see `trainer systems check`.",
            Query(
                share("crosyslog_unsplit_lines_total", "crosyslog_lines_scored_total", "topic"),
                _BY_TOPIC,
            ),
            unit="percentunit",
            limits=[Limit(0.1, "orange")],
        ),
    ]


def _model() -> list[Panel]:
    return [
        graph(
            "Agents, by version of the model",
            "Which versions are in use. Two of one target for longer than model.reload_interval: "
            "some agents have refused the newer one, or do not see the store.",
            Query(
                number(gauge("crosyslog_model_info"), "target", "version", "adapted"),
                "{{target}} {{version}} (adapted: {{adapted}})",
            ),
            unit="short",
            axis="agents",
            steps=True,
        ),
        graph(
            "Reloads",
            "Versions of the model that appeared in the store. refused: the old one stays in use, "
            "and the log says what is wrong with the new one.",
            Query(total(increase("crosyslog_model_reloads_total"), "result"), "{{result}}"),
            unit="short",
            axis="versions",
            stacked=True,
            colors={"taken": "green", "refused": "red"},
        ),
        graph(
            "Hit rate of the embedding cache",
            "Of the templates that were looked up, for how many the vector was at hand; one that "
            "the agent has judged before is not looked up again, so that a warm agent looks up "
            "few, most of them new. Each of the others costs the encoder about a millisecond. Low "
            "after a start with an empty cache. Low for long: more templates than "
            "encoder.cache_entries (then vectors are evicted, beside), or a part of the lines that "
            "is never the same is not masked.",
            Query(f"{_HITS} / ({_HITS} + {_MISSES})", _BY_TOPIC),
            unit="percentunit",
            limits=[Limit(0.9, "orange")],
            highest=1,
        ),
        graph(
            "Vectors in the cache",
            "Vectors in memory, and those that leave it for newer ones each second. Evictions "
            "that do not end: raise encoder.cache_entries (768 bytes a vector).",
            Query(total(gauge("crosyslog_embedding_cache_entries"), "topic"), "{{topic}} entries"),
            Query(
                total(rate("crosyslog_embedding_cache_evictions_total"), "topic"),
                "{{topic}} evictions/s",
            ),
            unit="short",
            axis="vectors",
        ),
    ]
