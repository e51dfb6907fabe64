"""The files that operators use, as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.prometheus.cases import OF_NOW, OF_THE_PAST, promtool_tests
from deploy.prometheus.rules import RUNBOOKS, build
from deploy.prometheus.scraping import JOB, configuration

#: Where they are committed.
FOLDER = Path(__file__).resolve().parent

_MADE = "# Made by `python -m deploy.prometheus`: a change here is lost.\n"

_SCRAPING = """\
# Where agents come and go, replace static_configs. In Kubernetes, the pods with a label:
#
#   kubernetes_sd_configs: [{role: pod}]
#   relabel_configs:
#     - source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_name]
#       regex: crosyslog-agent
#       action: keep
#     - source_labels: [__meta_kubernetes_pod_container_port_name]
#       regex: metrics
#       action: keep
#
# Elsewhere, a file that something else keeps, which Prometheus reads again when it changes:
#
#   file_sd_configs: [{files: [agents.json]}]    # [{"targets": ["host:9464"]}]
"""


def files(runbooks: str = RUNBOOKS, job: str = JOB) -> dict[str, str]:
    """The text of each file, by its name.

    Args:
        runbooks: comes before the page's name in `runbook_url`.
        job: what the agents are called in Prometheus.
    """
    scrape = configuration(
        ["agent:9464"], scrape_seconds=5, evaluation_seconds=15, rule_files=["rules.yml"], job=job
    )
    now, past = (
        # The cases speak of the job by its usual name.
        json.loads(
            json.dumps(promtool_tests(cases, minutes=minutes, runbooks=runbooks)).replace(JOB, job)
        )
        for cases, minutes in ((OF_NOW, 1), (OF_THE_PAST, 5))
    )
    return {
        "prometheus.yml": _MADE + _SCRAPING + _text(scrape),
        "rules.yml": _MADE + _text(build(job=job, runbooks=runbooks)),
        "rules.test.yml": _MADE + _text(now),
        "rules.history.test.yml": _MADE + _text(past),
    }


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines as blocks, as a human would write them."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def _text(data: dict[str, Any]) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
