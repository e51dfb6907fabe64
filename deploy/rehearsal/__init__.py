"""A rehearsal of operation: broker, agents, Prometheus, load and faults on one machine."""
