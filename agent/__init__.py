"""The streaming agent: lines from Kafka in, anomaly events to Kafka out."""
