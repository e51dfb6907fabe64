"""What agent and trainer share: from a raw line to a score, an explanation, a stored model."""

__version__ = "0.1.0"
