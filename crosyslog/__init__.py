"""What agent and trainer share: from a raw line to a score, an explanation, a stored model."""

import os

__version__ = "0.1.0"

# Libraries that tell their makers of their use unless they are told not to. A program that reads
# logs tells nobody of anything. They look at these as they are loaded; who sets one has chosen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
