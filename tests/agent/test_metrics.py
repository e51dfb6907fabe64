from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from agent.metrics import LineHistogram, Metrics


def test_a_histogram_of_lines_counts_as_prometheus_client_does() -> None:
    bounds = (0.1, 0.5, 1.0)
    values = np.array([0.0, 0.1, 0.2, 0.5, 0.7, 1.0, 3.0])
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = LineHistogram("crosyslog_score", "Scores.", bounds)
    ours.register(bulk)
    one_by_one = Histogram("crosyslog_score", "Scores.", buckets=bounds, registry=theirs)

    bulk.observe(values[:4])
    bulk.observe(values[4:])
    bulk.observe(np.empty(0))
    for value in values:
        one_by_one.observe(value)

    for bound in ("0.1", "0.5", "1.0", "+Inf"):
        name, labels = "crosyslog_score_bucket", {"le": bound}
        assert ours.get_sample_value(name, labels) == theirs.get_sample_value(name, labels)
    for name in ("crosyslog_score_sum", "crosyslog_score_count"):
        assert ours.get_sample_value(name) == theirs.get_sample_value(name)


def test_every_metric_has_the_prefix_or_is_the_process_s_own() -> None:
    names = [family.name for family in Metrics().registry.collect()]

    assert len(names) == len(set(names))
    assert all(name.startswith(("crosyslog_", "process_", "python_")) for name in names)
