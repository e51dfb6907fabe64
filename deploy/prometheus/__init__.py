"""What Prometheus is told about the agent: scraping, recording rules, alerts and their tests.

`python -m deploy.prometheus` writes `prometheus.yml`, `rules.yml` and promtool's unit tests of the
rules beside this file; they are committed, and `--check` says which is not current.
"""
