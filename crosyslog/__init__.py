"""What agent and trainer share: from a raw log line to a score, an explanation and a stored model."""

__version__ = "0.1.0"
