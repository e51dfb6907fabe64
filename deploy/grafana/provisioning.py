"""What Grafana reads when it starts: where Prometheus is, and where the dashboards are."""

from __future__ import annotations

from typing import Any

import yaml

_HEAD = "# Made by `python -m deploy.grafana`.\n"


def build() -> dict[str, str]:
    """Each file's place below `provisioning/`, and its text."""
    contents: dict[str, dict[str, Any]] = {
        "datasources/prometheus.yaml": {
            "apiVersion": 1,
            "datasources": [
                {
                    "name": "Prometheus",
                    "uid": "prometheus",
                    "type": "prometheus",
                    "access": "proxy",
                    "url": "http://prometheus:9090",
                    "isDefault": True,
                    # As often as prometheus.yml scrapes: $__rate_interval follows from it.
                    "jsonData": {"timeInterval": "5s", "httpMethod": "POST"},
                }
            ],
        },
        "dashboards/crosyslog.yaml": {
            "apiVersion": 1,
            "providers": [
                {
                    "name": "crosyslog",
                    "folder": "CroSysLog",
                    "type": "file",
                    "disableDeletion": True,
                    "allowUiUpdates": False,
                    "options": {"path": "/var/lib/grafana/dashboards"},
                }
            ],
        },
    }
    return {name: _HEAD + yaml.safe_dump(one, sort_keys=False) for name, one in contents.items()}
