"""All parts on one machine in containers: Kafka, the agent, logs to judge, Prometheus, Grafana."""
