"""What the agent counts and times. One update a batch, never one a line."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

import crosyslog
from agent.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from prometheus_client.metrics_core import Metric

    from crosyslog.embedding_cache import EmbeddingCache
    from crosyslog.store import Model

#: What a batch spends its time in, and where things fail: values of the labels `stage`.
Stage = Literal["decode", "mask", "encode", "detect", "events", "publish", "commit"]
Where = Literal["fetch", "score", "publish", "commit", "reload"]

_BATCH_LINES = (1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
_STAGE_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_DELAY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 5)
_SCORES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class LineHistogram(Collector):
    """A histogram of lines, filled a batch at a time: prometheus-client has no bulk observe."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array(bounds)
        self._labels = [str(float(bound)) for bound in bounds] + ["+Inf"]
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self._sum = 0.0

    def observe(self, values: NDArray[np.floating]) -> None:
        """Counts the values, one a line."""
        # A bucket holds what is at most its bound, hence "left".
        places = np.searchsorted(self._bounds, values, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))
        self._sum += float(values.sum(dtype=np.float64))

    def collect(self) -> Iterable[Metric]:
        """The histogram as Prometheus reads it."""
        totals = np.cumsum(self._counts).tolist()
        buckets = list(zip(self._labels, map(float, totals), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets, self._sum)


class ReadyCollector(Collector):
    """Whether the agent is ready, asked when it is read."""

    def __init__(self, not_ready: Callable[[], str | None]) -> None:
        self._not_ready = not_ready

    def collect(self) -> Iterable[Metric]:
        """1 or 0."""
        yield GaugeMetricFamily(
            "crosyslog_ready",
            "1 where lines can be read, scored and delivered, as /readyz says, else 0.",
            float(self._not_ready() is None),
        )


class CacheCollector(Collector):
    """The embedding cache's own counts, read when they are asked for."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self._cache = cache

    def collect(self) -> Iterable[Metric]:
        """Hits, misses, evictions and entries."""
        counts = self._cache.counts
        for name, value, what in (
            ("hits", counts.hits, "Templates whose vector was at hand, one a template and batch."),
            ("misses", counts.misses, "Templates that were encoded."),
            ("evictions", counts.evictions, "Vectors that left memory for newer ones."),
        ):
            yield CounterMetricFamily(f"crosyslog_embedding_cache_{name}", what, value)
        yield GaugeMetricFamily(
            "crosyslog_embedding_cache_entries", "Vectors in memory.", len(self._cache)
        )


class Metrics:
    """All metrics of one agent, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.lines_received = self._counter("lines_received", "Lines read from the topic.")
        self.lines_scored = self._counter("lines_scored", "Lines that got a score.")
        self.anomalies = self._counter("anomalies", "Lines at or above the threshold.")
        self.novel_lines = self._counter(
            "novel_lines", "Lines unlike all that the model was adapted on."
        )
        self.unsplit_lines = self._counter(
            "unsplit_lines", "Lines that the system's profile could not split: judged whole."
        )
        self.rebalances = self._counter("rebalances", "Times that partitions were assigned.")
        self.lost_offsets = self._counter(
            "lost_offsets", "Offsets that retention removed before they were read."
        )
        self.dead_letters = Counter(
            "crosyslog_dead_letters",
            "Lines that could not be judged, by why: " + ", ".join(REASONS) + ".",
            ["reason"],
            registry=self.registry,
        )
        self.transactions = Counter(
            "crosyslog_transactions",
            "Transactions, by how they ended: committed, aborted (and tried again), fenced "
            "(another agent has the partition).",
            ["result"],
            registry=self.registry,
        )
        self.model_reloads = Counter(
            "crosyslog_model_reloads",
            "Versions of the model that appeared in the store: taken, or refused.",
            ["result"],
            registry=self.registry,
        )
        for counter, values in (
            (self.dead_letters, REASONS),
            (self.transactions, ("committed", "aborted", "fenced")),
            (self.model_reloads, ("taken", "refused")),
        ):
            for value in values:
                counter.labels(value)  # shown as 0 from the start: a rate needs a first value
        self.errors = Counter(
            "crosyslog_errors", "Failures, by where and what.", ["stage", "error_type"],
            registry=self.registry,
        )  # fmt: skip
        self.batch_lines = Histogram(
            "crosyslog_batch_lines", "Lines of a batch.", buckets=_BATCH_LINES,
            registry=self.registry,
        )  # fmt: skip
        self.stage_duration = Histogram(
            "crosyslog_stage_duration_seconds",
            "Time that a batch spends in a stage: decode (bytes to fields), mask, encode, detect, "
            "events, publish, commit (with exactly-once, of the whole transactions).",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=self.registry,
        )
        self.loop_delay = Histogram(
            "crosyslog_loop_delay_seconds",
            "How much later than asked for the event loop comes back to a task, looked at fifty "
            "times a second.",
            buckets=_DELAY_SECONDS,
            registry=self.registry,
        )
        self.consumer_lag = Gauge(
            "crosyslog_consumer_lag_lines",
            "Offsets between the end of a partition and what is delivered.",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.score = LineHistogram("crosyslog_score", "Scores of lines.", _SCORES)
        self.end_to_end_latency = LineHistogram(
            "crosyslog_end_to_end_latency_seconds",
            "From a line's time in Kafka to the commit behind it.",
            _LATENCY_SECONDS,
        )
        self.registry.register(self.score)
        self.registry.register(self.end_to_end_latency)
        self._model_info = Gauge(
            "crosyslog_model_info", "1 for the model in use.", ["target", "version", "adapted"],
            registry=self.registry,
        )  # fmt: skip
        build_info = Gauge(
            "crosyslog_build_info", "1 for this build.", ["version"], registry=self.registry
        )
        build_info.labels(crosyslog.__version__).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Times a stage of a batch; one that fails is not counted."""
        start = perf_counter()
        yield
        self.stage_duration.labels(stage).observe(perf_counter() - start)

    def error(self, stage: Where, error: BaseException) -> None:
        """Counts a failure."""
        self.errors.labels(stage, type(error).__name__).inc()

    def use_model(self, model: Model) -> None:
        """Says which model is in use."""
        manifest = model.bundle.manifest
        self._model_info.clear()
        self._model_info.labels(
            manifest.target, manifest.version, "true" if model.adapted else "false"
        ).set(1)

    def describe(self, topic: str, group: str, not_ready: Callable[[], str | None]) -> None:
        """Says what the agent reads, and from now on whether it is ready.

        Args:
            topic: that is read.
            group: as whose member.
            not_ready: why it is not ready; none if it is.
        """
        info = Gauge(
            "crosyslog_agent_info", "1 for the topic that is read, and the consumer group.",
            ["topic", "group"], registry=self.registry,
        )  # fmt: skip
        info.labels(topic, group).set(1)
        self.registry.register(ReadyCollector(not_ready))

    def watch_cache(self, cache: EmbeddingCache) -> None:
        """Adds the counts of an embedding cache."""
        self.registry.register(CacheCollector(cache))

    def _counter(self, name: str, documentation: str) -> Counter:
        return Counter(f"crosyslog_{name}", documentation, registry=self.registry)
