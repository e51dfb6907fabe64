"""Grafana's dashboards as code, and the files that let Grafana show them at once.

`python -m deploy.grafana` writes `dashboards/` and `provisioning/`; with `--check` it only says
which of them are not what it would write.
"""
