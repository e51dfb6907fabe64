"""Streams that the detector `evidence` can learn from in a moment, and a base trained on them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from crosyslog.threads import torch_threads
from tests.fakes import FakeEncoder
from trainer.evidence_training import EvidenceConfig, train_evidence
from trainer.tasks import LabelledStream

if TYPE_CHECKING:
    from crosyslog.bundle import Bundle

PARTS = ["disk", "fan", "link", "lease", "session", "queue"]
WRONG = ["failure", "fault", "panic", "timeout"]
RIGHT = ["opened", "closed", "renewed", "answered", "started", "checked"]

#: A training that takes a moment.
TINY_EVIDENCE = EvidenceConfig(
    hidden=8, members=2, episodes=12, inner_steps=1, outer_steps=150, prototypes=8
)


@cache
def evidence_stream(name: str, seed: int, lines: int = 22_000) -> LabelledStream:
    """A system whose alerts say what went wrong; incidents come now and then, with new texts."""
    rng = np.random.default_rng(seed)
    owners = [f"{name}{owner}" for owner in "abcde"]
    normal = [f"{part} {state} by {owner}" for part in PARTS for state in RIGHT for owner in owners]
    alerts = [f"{part} {state} of {owner}" for part in PARTS for state in WRONG for owner in owners]
    templates = normal + alerts
    incident = (np.arange(lines) % 1_000 < 300) & (np.arange(lines) % 7_000 < 5_000)
    labels = incident & (rng.random(lines) < 0.4)
    # Which texts there are changes with the time, so that a query brings some that are new.
    reach = 20 + np.arange(lines) * len(alerts) // (2 * lines)
    rows = np.where(
        labels,
        len(normal) + rng.integers(0, np.minimum(reach, len(alerts))),
        rng.integers(0, np.minimum(2 * reach, len(normal))),
    )
    return LabelledStream(name, templates, FakeEncoder().encode(templates), rows, labels)


@cache
def evidence_base(*names: str, seed: int = 0) -> Bundle:
    """A base of some of these systems; computed once for all tests of a process."""
    sources = [evidence_stream(name, number) for number, name in enumerate(names)]
    with torch_threads(1):
        return train_evidence(
            sources,
            name="tiny",
            config=TINY_EVIDENCE.model_copy(update={"seed": seed}),
            encoder=FakeEncoder(),
            command="test",
        )
