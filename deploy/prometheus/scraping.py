"""What Prometheus is told to scrape, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploy.prometheus.timing import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What the agents are called in Prometheus; dashboards and alerts start from it.
JOB = "crosyslog-agent"


def configuration(
    targets: Sequence[str],
    *,
    scrape_seconds: float,
    evaluation_seconds: float,
    rule_files: Sequence[str] = (),
    job: str = JOB,
) -> dict[str, Any]:
    """The settings of a Prometheus that scrapes agents.

    Args:
        targets: the agents, `host:port`.
        scrape_seconds: how often they are asked.
        evaluation_seconds: how often the rules are evaluated.
        rule_files: paths, absolute or beside the settings.
        job: what the agents are called.
    """
    every = duration(scrape_seconds)
    return {
        "global": {"evaluation_interval": duration(evaluation_seconds)},
        "rule_files": list(rule_files),
        "scrape_configs": [
            {
                "job_name": job,
                "scrape_interval": every,
                "scrape_timeout": every,
                "static_configs": [{"targets": list(targets)}],
            }
        ],
    }
