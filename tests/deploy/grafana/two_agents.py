"""What two agents export: one of `web-logs` that is in trouble, one of `db-logs` that is well."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client import start_http_server

from agent.metrics import Metrics
from agent.reasons import REASONS
from crosyslog.embedding_cache import EmbeddingCache
from crosyslog.store import Store, find_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BATCH_EVERY_SECONDS = 0.1


@contextmanager
def two_agents(folder: Path) -> Iterator[list[str]]:
    """Their addresses, `host:port`; the numbers grow meanwhile.

    Args:
        folder: an empty one, as their store of models.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(_exporting("web-logs", folder, well=False)),
            stack.enter_context(_exporting("db-logs", folder, well=True)),
        ]


@contextmanager
def _exporting(topic: str, folder: Path, *, well: bool) -> Iterator[str]:
    metrics, cache, ended = Metrics(), EmbeddingCache(), threading.Event()
    metrics.describe(topic, f"crosyslog-{topic}", lambda: None if well else "starting")
    metrics.watch_cache(cache)
    metrics.use_model(find_model(Store(folder), "web"))

    def go_on() -> None:
        while not ended.wait(_BATCH_EVERY_SECONDS):
            _count_batch(metrics, cache, topic)
            if not well:
                _count_trouble(metrics)

    server, serving = start_http_server(0, "127.0.0.1", metrics.registry)
    working = threading.Thread(target=go_on)
    working.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        working.join()
        serving.join()


def _count_batch(metrics: Metrics, cache: EmbeddingCache, topic: str) -> None:
    """What a batch of a hundred lines comes to."""
    metrics.lines_received.inc(100)
    metrics.lines_scored.inc(100)
    metrics.anomalies.inc(2)
    metrics.novel_lines.inc(3)
    metrics.unsplit_lines.inc(4)
    metrics.rebalances.inc()
    metrics.transactions.labels("committed").inc()
    metrics.batch_lines.observe(100)
    metrics.loop_delay.observe(0.002)
    metrics.consumer_lag.labels(topic, "0").set(7)
    metrics.score.observe(np.linspace(0, 1, 100))
    metrics.end_to_end_latency.observe(np.linspace(0.1, 0.4, 100))
    for stage in ("decode", "mask", "encode", "detect", "events", "publish", "commit"):
        metrics.stage_duration.labels(stage).observe(0.02)
    cache.counts.hits += 9
    cache.counts.misses += 1


def _count_trouble(metrics: Metrics) -> None:
    metrics.dead_letters.labels(REASONS[0]).inc()
    metrics.lost_offsets.inc()
    metrics.error("publish", OSError())
    metrics.model_reloads.labels("refused").inc()
